"""The trial of `auto`: autojoin on one group, a look at the send path, and the group taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count

from netaddr import IPAddress

from ..adapters.rtnetlink.client import RefusedError
from ..core import methods
from ..core.changes import Change
from ..core.items import Route
from ..core.model import Overlay, Segment
from ..core.observed import Decision, Observed
from .backend import Backend, Netlink

_LATE = 1.0  # seconds that the kernel may take to make an IPv6 address's own route


def decide(overlay: Overlay, seen: Observed, vtep: IPAddress, backend: Backend) -> Decision:
    """Which method this underlay takes, on evidence: the packets of an ordinary program.

    Autojoin is tried with one group, and its address is taken away again. Where ordinary sends to
    it did not reach the wire, sockets shall hold the groups.
    """
    device, family = overlay.underlay.device, overlay.family
    group, changes = _trial(overlay, seen, vtep)
    try:
        with _in_place(changes, backend.netlink):
            if family == 6:
                _await_local_route(str(group), backend)
            path = backend.send_path(device, str(group))
    except RefusedError as error:
        return Decision("socket", device, family, f"autojoin of {group}: {error}")
    # With IPv6, autojoin is never the answer: the tunnels' packets take the local route too.
    method = "autojoin" if path.verdict == "wire" and family == 4 else "socket"
    evidence = f"autojoin of {group}: an ordinary datagram reaches {path.verdict}: {path.cause}"
    return Decision(method, device, family, evidence)


def _trial(overlay: Overlay, seen: Observed, vtep: IPAddress) -> tuple[IPAddress, list[Change]]:
    """A group that the device does not have as an address, and the changes that try it.

    An address that is there may have been repaired, and would show what autojoin does not do. Where
    all of the overlay's are there, the trial is of one beside them that nobody sends to.
    """
    there = {item.address for item in seen.addresses if item.device == overlay.underlay.device}
    groups = overlay.flood_groups
    candidates = chain(groups, (groups[0] ^ bits for bits in count(1)))
    group = next(group for group in candidates if str(group) not in there)
    wanted = Overlay(
        name=overlay.name,
        bridge=overlay.bridge,
        tunnel_bridge=overlay.tunnel_bridge,
        datapath=overlay.datapath,
        membership="autojoin",
        underlay=overlay.underlay,
        segments=[Segment(vni=1, group=group)],
    )
    routes = {route.key for route in seen.routes}
    return group, [
        Change("add", item, "to see what it does to the send path")
        for item in methods.items(wanted, seen, vtep)
        if item.key not in routes
    ]


def _await_local_route(group: str, backend: Backend) -> None:
    """The kernel makes it a moment after an IPv6 address; where it never comes, that shows too."""
    backend.patiently(
        backend.netlink.group_routes,
        lambda routes: not any(map(_takes(group), routes)),
        _LATE,
        0.01,
    )


def _takes(group: str) -> Callable[[Route], bool]:
    return lambda route: route.by_address and route.destination == group


@contextmanager
def _in_place(changes: list[Change], netlink: Netlink) -> Iterator[None]:
    try:
        netlink.apply(changes)
        yield
    finally:
        netlink.apply([Change("remove", change.item, change.reason) for change in changes[::-1]])
