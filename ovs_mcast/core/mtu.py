"""Whether the frames of workloads fit into the tunnels' packets. Pure.

Open vSwitch sets DF and does not fragment: a frame that is too large is lost, and no workload is
told, but for IP unicast on the kernel's datapath (ICMP).
"""

from __future__ import annotations

from collections.abc import Iterator

from . import underlay, workload_bridge
from .findings import Finding, warning
from .observed import Link
from .target import Target

# Outer IP 20 or 40, UDP 8, VXLAN 8 octets (RFC 7348, 5), and the inner frame's Ethernet 14.
OVERHEAD = {4: 50, 6: 70}
_USUAL = 1500  # octets that workloads expect
_NAMED = 5  # ports that are named


def warnings(target: Target) -> Iterator[Finding]:
    """Yield the ports whose MTU does not fit; without one, an underlay that leaves below 1500."""
    link = target.observed.links.get(target.device)
    if link is None:
        return
    overhead = OVERHEAD[target.overlay.family]
    narrow = min([link, *_nics(target)], key=lambda one: one.mtu)
    room = narrow.mtu - overhead
    large = sorted(
        (port.name, port.mtu)
        for port in workload_bridge.members(target)
        if port.mtu is not None and port.mtu > room
    )
    if large:
        named = ", ".join(f"{name} (MTU {mtu})" for name, mtu in large[:_NAMED])
        largest = max(mtu for _, mtu in large)
        more = f" and {len(large) - _NAMED} more" if len(large) > _NAMED else ""
        yield warning(
            "mtu-workload", target.overlay.bridge,
            f"the MTU of {narrow.name} is {narrow.mtu}, and leaves the overlay {room}: packets of "
            f"{named}{more} above that are lost",
            f"set MTU {room} in these workloads, or {largest + overhead} on the underlay",
        )  # fmt: skip
    elif room < _USUAL:
        yield warning(
            "mtu-small", narrow.name,
            f"the MTU of {narrow.name} is {narrow.mtu}: it leaves the overlay {room}, "
            f"less than {_USUAL}; {_USUAL + overhead} would do",
        )  # fmt: skip


def _nics(target: Target) -> Iterator[Link]:
    """Yield the NICs by which the userspace datapath sends: those of the underlay's bridge."""
    if target.userspace:
        yield from underlay.nics(target.device, target.observed)
