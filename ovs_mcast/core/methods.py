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

from . import ownership
from .items import Address, GroupMembership, Route
from .model import Overlay
from .observed import Observed
from .target import method_of, others_addresses

_KERNEL = 2  # RTPROT_KERNEL: the protocol of the routes that addresses make


def items(
    overlay: Overlay, observed: Observed, vtep: IPAddress
) -> Iterator[Address | Route | GroupMembership]:
    """What the method needs on this machine."""
    device, metric = overlay.underlay.device, ownership.metric(overlay.name)
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
            yield Route(device, group, source, metric, table, ownership.PROTOCOL)
    if method == "socket" and groups:
        yield GroupMembership(device, tuple(groups))


def _address(method: str, overlay: Overlay, group: str, vtep: IPAddress) -> Address | None:
    if method == "socket" and overlay.datapath != "netdev":
        return None
    return Address(
        device=overlay.underlay.device,
        address=group,
        prefixlen=32 if vtep.version == 4 else 128,
        autojoin=method != "socket" or vtep.version == 6,
        metric=ownership.metric(overlay.name),
        local=str(vtep) if method == "peer" else None,
        protocol=ownership.PROTOCOL,
    )


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
        if item.device == device and ownership.is_ours(item, overlay.name)
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
