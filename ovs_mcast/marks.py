"""How what is ours is marked, so that nothing else is ever changed or removed. Pure.

One 19-bit number stands for the overlay's name wherever a mark has no room for text:

- OVSDB rows: ``external_ids:ovs-mcast=<overlay>``;
- flows: cookie 0x6d, 19 bits overlay, 1 bit learned, 12 bits VLAN, 24 bits VNI;
- addresses and routes: metric 0x6d000000 + the number, protocol 109. A metric changes nothing for
  a host route without a rival, nor for an address that has no prefix route; every kernel since
  4.18 keeps it for addresses, IFA_PROTO only those since 5.18.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

EXTERNAL_ID = "ovs-mcast"
PROTOCOL = 109  # RTA protocol and IFA_PROTO; not in iproute2's rt_protos

_PREFIX = 0x6D
LEARNED = 1 << 36  # in a cookie: the flow was made by learn()
OVERLAY_MASK = 0xFF << 56 | 0x7FFFF << 37
STATIC_MASK = OVERLAY_MASK | LEARNED


@lru_cache(maxsize=64)
def number(overlay: str) -> int:
    """The 19-bit number of an overlay's name."""
    return int.from_bytes(hashlib.sha256(overlay.encode()).digest()[:4], "big") & 0x7FFFF


def suffix(overlay: str) -> str:
    """Five hexadecimal digits for the names of ports, which Linux keeps to 15 octets."""
    return f"{number(overlay):05x}"


def metric(overlay: str) -> int:
    """The metric of our addresses and routes."""
    return _PREFIX << 24 | number(overlay)


def is_metric(value: int | None) -> bool:
    """Whether an address or route with this metric belongs to some overlay of ours."""
    return value is not None and value >> 24 == _PREFIX and value & 0xFFFFFF <= 0x7FFFF


def cookie(overlay: str, *, vlan: int = 0, vni: int = 0, learned: bool = False) -> int:
    """The cookie of a flow; VLAN and VNI 0 where the flow serves all segments."""
    base = _PREFIX << 56 | number(overlay) << 37 | vlan << 24 | vni
    return base | LEARNED if learned else base


def is_cookie(value: int, overlay: str) -> bool:
    """Whether a flow with this cookie is the overlay's, learned or not."""
    return value & OVERLAY_MASK == cookie(overlay)


def is_learned(value: int) -> bool:
    """Whether a flow with this cookie, if ours, was made by learn()."""
    return bool(value & LEARNED)


def segment_of(value: int) -> tuple[int, int]:
    """(VNI, VLAN) that a cookie of ours names; zeros where the flow serves all segments."""
    return value & 0xFFFFFF, value >> 24 & 0xFFF
