"""The trial of `auto`: autojoin of one group, a test of the send path, the group removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count

from netaddr import IPAddress

from ..adapters.rtnetlink.client import RefusedError
from ..core import methods
from ..core.changes import Change
from ..core.findings import Finding, error
from ..core.items import Route
from ..core.model import Segment
from ..core.observed import Decision
from ..core.target import Target, resolve
from .backend import Backend, Netlink

_LATE = 1.0  # seconds that the kernel may take to make an IPv6 address's own route


def decide(target: Target, backend: Backend) -> Decision | Finding:
    """Return the method that fits this underlay, on the evidence of an ordinary program's packets.

    Autojoin is tried with one group, and its address is removed again. Where ordinary datagrams to
    it go to loopback, sockets shall hold the groups. Where the datagrams leave by no device nothing
    is decided: a packet filter or a route is in the way, whatever the method.
    """
    device, family = target.device, target.overlay.family
    group = _trial_group(target)
    try:
        with _in_place(_trial(target, group), backend.netlink):
            if family == 6:
                _await_local_route(str(group), backend)
            path = backend.send_path(device, str(group))
    except RefusedError as refused:
        return Decision("socket", device, family, f"autojoin of {group}: {refused}")
    if path.verdict == "none":
        evidence = f"an ordinary datagram to {group} does not leave by {device}: {path.cause}"
        return error("send-path", str(group), evidence, path.cure)
    # With IPv6, autojoin is never the answer: the tunnels' packets take the local route too.
    fits = path.verdict == "wire" and family == 4
    evidence = f"autojoin of {group}: an ordinary datagram reaches {path.verdict}: {path.cause}"
    return Decision("autojoin" if fits else "socket", device, family, evidence)


def _trial_group(target: Target) -> IPAddress:
    """Return a group that the device does not have as an address.

    An existing address may have been repaired, and would hide the effect of autojoin. If the device
    has all of the overlay's groups, the trial is of a group near them that no program sends to.
    """
    addresses = target.observed.addresses
    there = {item.address for item in addresses if item.device == target.device}
    groups = target.overlay.flood_groups
    candidates = chain(groups, (groups[0] ^ bits for bits in count(1)))
    return next(group for group in candidates if str(group) not in there)


def _trial(target: Target, group: IPAddress) -> list[Change]:
    """Return the changes that autojoin one group."""
    trial = target.overlay.replace(
        membership="autojoin", segments=[Segment(vni=1, vlan=1, group=group)]
    )
    routes = {route.key for route in target.observed.routes}
    return [
        Change("add", item, "to see what it does to the send path")
        for item in methods.items(resolve(trial, target.observed))
        if item.key not in routes
    ]


def _await_local_route(group: str, backend: Backend) -> None:
    """Wait for the route that the kernel makes a moment after an IPv6 address, if it comes."""
    backend.poll(
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
