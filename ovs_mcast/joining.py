"""How the underlay device joins the groups: the items of each membership method. Pure.

| method | items per group |
|---|---|
| autojoin | the address with autojoin, a host route |
| repaired | the same, less the local route that the address makes for itself |
| peer | the address as the peer of the VTEP's; the kernel makes the host route and no local one |
| socket | the keeper's membership, a host route |

The userspace datapath receives and sends by the addresses of its own LOCAL port, so with `socket`
it has each group there too, less its local route; without autojoin, which IPv6 does not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from netaddr import IPAddress

from . import marks
from .model import Overlay
from .state import Address, Membership, Observed, Route

_KERNEL = 2  # RTPROT_KERNEL: the protocol of the routes that addresses make
UNDECIDED = "socket"  # what `auto` plans for before it has looked


def method_of(overlay: Overlay, observed: Observed) -> str:
    """The method that is wanted; for `auto` what was decided for this device and family."""
    if overlay.membership != "auto":
        return overlay.membership
    decision = observed.decision
    if decision is None or not decided(overlay, observed):
        return UNDECIDED
    return decision.method


def decided(overlay: Overlay, observed: Observed) -> bool:
    """Whether the decision of `auto` that was seen is one for this underlay."""
    decision = observed.decision
    return decision is not None and (decision.device, decision.family) == (
        overlay.underlay.device,
        overlay.family,
    )


def items(
    overlay: Overlay, observed: Observed, vtep: IPAddress
) -> Iterator[Address | Route | Membership]:
    """What the method needs on this machine."""
    device, metric = overlay.underlay.device, marks.metric(overlay.name)
    method = method_of(overlay, observed)
    theirs = others_addresses(overlay, observed)
    groups = [str(group) for group in overlay.flood_groups]
    table: Literal["main", "local"] = "main" if vtep.version == 4 else "local"
    # From 3.2 on Open vSwitch takes no route whose source is of another subnet than its
    # destination (verify_prefsrc() in lib/ovs-router.c). Its tunnels name their source.
    source = None if overlay.datapath == "netdev" else str(vtep)
    for group in groups:
        if (address := _address(method, overlay, group, vtep)) and group not in theirs:
            yield address
        # The kernel makes the peer's route itself, and takes all of a device that goes down.
        if method != "peer" and observed.links[device].up:
            yield Route(device, group, source, metric, table, marks.PROTOCOL)
    if method == "socket" and groups:
        yield Membership(device, tuple(groups))


def _address(method: str, overlay: Overlay, group: str, vtep: IPAddress) -> Address | None:
    if method == "socket" and overlay.datapath != "netdev":
        return None
    return Address(
        device=overlay.underlay.device,
        address=group,
        prefixlen=32 if vtep.version == 4 else 128,
        autojoin=method != "socket" or vtep.version == 6,
        metric=marks.metric(overlay.name),
        local=str(vtep) if method == "peer" else None,
        protocol=marks.PROTOCOL,
    )


def others_addresses(overlay: Overlay, observed: Observed) -> set[str]:
    """Groups that the device has as addresses which are not ours; they are used as they are."""
    return {
        item.address
        for item in observed.addresses
        if item.device == overlay.underlay.device and not marks.is_ours(item, overlay.name)
    }


def local_routes(
    overlay: Overlay, observed: Observed, changing: Iterable[Address]
) -> Iterator[Route]:
    """Local routes that take ordinary sends to lo and that the method does without.

    Those that are there for addresses of ours, and those that the addresses in ``changing`` are
    about to make.
    """
    if method_of(overlay, observed) not in {"repaired", "socket"}:
        return
    device = overlay.underlay.device
    mine = {
        item.address
        for item in observed.addresses
        if item.device == device and marks.is_ours(item, overlay.name)
    }
    # An IPv6 address makes its route when the link is up, and detection over.
    makes = overlay.family == 4 or observed.links[device].up
    coming = {item.address for item in changing} if makes else set()
    there = {
        route.destination: route
        for route in observed.routes
        if route.by_address and route.device == device
    }
    for group in map(str, overlay.flood_groups):
        if group in coming or (group in mine and group in there):
            # With its protocol: without, the kernel may take the route of ours while it is late.
            yield there.get(group) or Route(device, group, None, None, "local", _KERNEL)
