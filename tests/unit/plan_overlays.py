"""Overlays of one or two segments, and what distinguishes a plan from another."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Plan
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.plan import plan

from .strategies import bare_machine, built

G1, G2, G3 = "239.0.0.1", "239.0.0.2", "239.0.0.3"
SUFFIX = ownership.suffix("default")
METRIC = ownership.metric("default")


def overlay_of(
    groups: dict[int, str], *, device: str = "eth0", vtep: str | None = None, ttl: int = 64,
    udp_port: int = 4789, membership: str = "autojoin", **values: Any,
) -> Overlay:  # fmt: skip
    """An overlay of segments by VNI."""
    return Overlay(
        underlay=Underlay(device=device, vtep=vtep, ttl=ttl, udp_port=udp_port),
        segments=[Segment(vni=vni, group=group) for vni, group in groups.items()],
        membership=membership,
        **values,
    )


TWO = overlay_of({100: G1, 101: G2})
USERSPACE = overlay_of({100: G1, 101: G2}, device="br-phy", datapath="netdev")


def difference(wanted: Overlay, before: Overlay = TWO) -> Plan:
    return plan(wanted, built(before, bare_machine()))


def kinds(changes: Plan) -> dict[str, int]:
    return dict(Counter(f"{change.action} {change.kind}" for change in changes))
