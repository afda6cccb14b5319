"""Whether the reverse-path filter drops what peers send to the group, judged by the routes. Pure.

Linux drops an IPv4 packet whose source it would not reach: 1 (strict) if the way back is not by the
device that the packet came by, 2 (loose) if there is none (ip-sysctl.rst, fib_validate_source()).
The userspace datapath takes packets before Linux does.
"""

from __future__ import annotations

from collections.abc import Iterator

from netaddr import IPAddress, IPNetwork

from . import peers
from .findings import Finding, warning
from .observed import ReversePath, RoutePath
from .target import Target


def neighbour(target: Target) -> IPAddress:
    """Return an address of the VTEP's subnet beside it; a far one if the VTEP is alone in it."""
    network = _subnet(target)
    if network is None:
        return peers.FAR[4]
    first = IPAddress(network.first + 1)
    return first if first != target.vtep else IPAddress(network.first + 2)


def warnings(target: Target, seen: ReversePath | None) -> Iterator[Finding]:
    """Yield peers that are not heard: of the subnet, or of others once packets were dropped."""
    if seen is None or not seen.rp_filter:
        return
    network = _subnet(target)
    if network is not None and _is_dropped(seen.near, seen.rp_filter, target.device):
        yield _finding(target, f"hosts of {network.cidr}", seen.near, seen.rp_filter)
    elif seen.drops and _is_dropped(seen.far, seen.rp_filter, target.device):
        where = f"hosts outside of {network.cidr}" if network else "hosts of other subnets"
        yield _finding(target, where, seen.far, seen.rp_filter)


def _subnet(target: Target) -> IPNetwork | None:
    for item in target.observed.addresses:
        if (item.device, item.address) == (target.device, str(target.vtep)):
            return IPNetwork(f"{item.address}/{item.prefixlen}") if item.prefixlen < 31 else None
    return None


def _is_dropped(back: RoutePath, rp_filter: int, device: str) -> bool:
    return back.device is None or (rp_filter == 1 and back.device != device)


def _finding(target: Target, hosts: str, back: RoutePath, rp_filter: int) -> Finding:
    device = target.device
    way = f"the way back to them leaves by {back.device}" if back.device else "no route leads back"
    return warning(
        "reverse-path", device,
        f"packets of {hosts} are dropped by net.ipv4.conf.{device}.rp_filter={rp_filter}: {way}",
        f"route them by {device}, or set net.ipv4.conf.{{all,{device}}}.rp_filter=0",
    )  # fmt: skip
