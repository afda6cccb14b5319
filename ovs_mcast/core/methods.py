"""How the underlay device joins the groups: the items of each membership method.

| method | items per group |
|---|---|
| autojoin | the address with autojoin, a host route |
| repaired | the same, less the local route that the kernel makes for the address |
| peer | the address as the peer of the VTEP's; the kernel makes the host route and no local one |
| socket | the keeper's membership, a host route |

The userspace datapath receives and sends by the addresses of its own LOCAL port. With `socket` it
therefore has each group as an address of that port too, less its local route; IPv4 without
autojoin, IPv6 with it, since IPv6 has no group address without.

A new method goes here, into `JoinedBy` (items.py), and into preflight for where it cannot serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from . import ownership
from .items import Address, GroupMembership, Route
from .target import Target

_KERNEL = 2  # RTPROT_KERNEL: the protocol of the routes that the kernel makes for addresses


def items(target: Target) -> Iterator[Address | Route | GroupMembership]:
    """Yield the items that the method needs on this host."""
    table: Literal["main", "local"] = "main" if target.vtep.version == 4 else "local"
    # From 3.2 on Open vSwitch takes no route whose source is of another subnet than its
    # destination (verify_prefsrc() in lib/ovs-router.c). Its tunnels name their source.
    source = None if target.userspace else str(target.vtep)
    # With `peer` the kernel makes the host route itself. A device that is down keeps no route.
    routed = target.method != "peer" and target.link.up
    for group in target.groups:
        if (address := _address(target, group)) and group not in target.foreign:
            yield address
        if routed:
            yield Route(target.device, group, source, target.metric, table, ownership.PROTOCOL)
    if target.method == "socket" and target.groups:
        yield GroupMembership(target.device, target.groups)


def _address(target: Target, group: str) -> Address | None:
    if target.method == "socket" and not target.userspace:
        return None
    return Address(
        device=target.device,
        address=group,
        prefixlen=32 if target.vtep.version == 4 else 128,
        autojoin=target.method != "socket" or target.vtep.version == 6,
        metric=target.metric,
        local=str(target.vtep) if target.method == "peer" else None,
        protocol=ownership.PROTOCOL,
    )


def local_routes(target: Target, changing: Iterable[Address]) -> Iterator[Route]:
    """Yield the local routes that divert ordinary sends to lo and that the method does without.

    These are the routes of addresses of ours, and those that the kernel is about to make for the
    addresses in ``changing``.
    """
    if target.method not in {"repaired", "socket"}:
        return
    device, observed = target.device, target.observed
    mine = {
        item.address
        for item in observed.addresses
        if item.device == device and ownership.is_ours(item, target.overlay.name)
    }
    # The kernel makes the route of an IPv6 address when the link is up and detection over.
    makes = target.overlay.family == 4 or target.link.up
    coming = {item.address for item in changing} if makes else set()
    there = {
        route.destination: route
        for route in observed.routes
        if route.by_address and route.device == device
    }
    for group in target.groups:
        if group in coming or (group in mine and group in there):
            # Name the protocol: else, before the kernel's route comes, ours could be removed.
            yield there.get(group) or Route(device, group, None, None, "local", _KERNEL)
