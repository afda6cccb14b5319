"""The marks of ownership, so that nothing of others is ever changed or removed. Pure.

One 19-bit number stands for the overlay's name wherever a mark has no room for text:

- OVSDB rows: ``external_ids:ovs-mcast=<overlay>``;
- flows: cookie 0x6d, 19 bits overlay, 1 bit learned, 12 bits VLAN, 24 bits VNI;
- addresses and routes: metric 0x6d000000 + the number, and protocol 109. A metric changes nothing
  for a host route without a rival, nor for an address that has no prefix route; every kernel since
  4.18 keeps it for addresses, IFA_PROTO only those since 5.18.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

from .items import Address, Bridge, Flow, GroupMembership, Item, Port, Route

EXTERNAL_ID = "ovs-mcast"
PROTOCOL = 109  # RTA protocol and IFA_PROTO; not in iproute2's rt_protos

_PREFIX = 0x6D
LEARNED = 1 << 36  # in a cookie: the flow was made by learn()
OVERLAY_MASK = 0xFF << 56 | 0x7FFFF << 37
STATIC_MASK = OVERLAY_MASK | LEARNED


@lru_cache(maxsize=64)
def number(overlay: str) -> int:
    """Return the 19-bit number of an overlay's name."""
    return int.from_bytes(hashlib.sha256(overlay.encode()).digest()[:4], "big") & 0x7FFFF


def suffix(overlay: str) -> str:
    """Return five hexadecimal digits for the names of ports, which Linux limits to 15 octets."""
    return f"{number(overlay):05x}"


class PortNames(NamedTuple):
    """The names of an overlay's ports: the ends of the patch, and the VXLAN port.

    ``patch_int`` is on the tunnel bridge, ``patch_tun`` on the bridge for workloads.
    """

    patch_int: str
    patch_tun: str
    vxlan: str


def port_names(overlay: str) -> PortNames:
    """Return the names of an overlay's ports."""
    end = suffix(overlay)
    return PortNames(f"patch-int-{end}", f"patch-tun-{end}", f"vxlan-{end}")


def metric(overlay: str) -> int:
    """Return the metric of our addresses and routes."""
    return _PREFIX << 24 | number(overlay)


def is_metric(value: int | None) -> bool:
    """Whether a metric is that of some overlay of ours: half of the mark, see `is_any_overlays`."""
    return value is not None and value >> 24 == _PREFIX and value & 0xFFFFFF <= 0x7FFFF


def register(overlay: str) -> int:
    """Return the overlay's value of reg13, which keeps otherwise identical flows distinct."""
    return 0x80000 | number(overlay)


def cookie(overlay: str, *, vlan: int = 0, vni: int = 0, learned: bool = False) -> int:
    """Return the cookie of a flow; VLAN and VNI are 0 where the flow serves all segments."""
    base = _PREFIX << 56 | number(overlay) << 37 | vlan << 24 | vni
    return base | LEARNED if learned else base


def is_cookie(value: int, overlay: str) -> bool:
    """Whether a flow with this cookie is the overlay's, learned or not."""
    return value & OVERLAY_MASK == cookie(overlay)


def is_learned(value: int) -> bool:
    """Whether a flow with this cookie, if ours, was made by learn()."""
    return bool(value & LEARNED)


def segment_of(value: int) -> tuple[int, int]:
    """Return (VNI, VLAN) of a cookie of ours; zeros where the flow serves all segments."""
    return value & 0xFFFFFF, value >> 24 & 0xFFF


def is_ours(item: Item, overlay: str) -> bool:
    """Whether an observed item bears the overlay's mark; only such items are ever changed."""
    if isinstance(item, Bridge | Port):
        return item.owner == overlay
    if isinstance(item, Flow):
        return is_cookie(item.cookie, overlay) and not is_learned(item.cookie)
    if isinstance(item, GroupMembership):
        return True  # found through the overlay's own keeper
    return item.metric == metric(overlay) and _has_protocol(item)


def is_any_overlays(item: Address | Route) -> bool:
    """Whether an observed address or route bears the mark of some overlay of ours."""
    return is_metric(item.metric) and _has_protocol(item)


def _has_protocol(item: Address | Route) -> bool:
    """Whether the item has our protocol. Before Linux 5.18 an address has none: metric suffices."""
    return item.protocol == PROTOCOL or (isinstance(item, Address) and item.protocol is None)
