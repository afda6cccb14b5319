"""What the counters of flows show of packets that no tunnel, or no workload, takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from . import udp_port
from .findings import Finding, warning
from .mtu import OVERHEAD
from .pipeline import other_vxlan_port
from .target import Target
from .traffic import Counters


def warnings(target: Target, counters: Counters) -> Iterator[Finding]:
    """Yield the warnings that counters show."""
    yield from _of_sources(target, counters)
    yield from _of_workloads(target, counters)
    if counters.fragments.packets:
        yield warning(
            "fragments-lost", target.device,
            f"fragments of {counters.fragments.packets} UDP packets came: Open vSwitch's userspace "
            "datapath reassembles none for its tunnels",
            f"give the peers' underlay devices an MTU {OVERHEAD[target.overlay.family]} above that "
            "of their workloads",
        )  # fmt: skip
    other = other_vxlan_port(target.overlay)
    if counters.other_port.packets and not udp_port.is_used(other, target.observed):
        yield warning(
            "udp-port-differs", str(other),
            f"{counters.other_port.packets} packets to groups came on UDP port {other}, which a "
            "Linux vxlan device has by default: a peer on it is not heard",
            f"make it with dstport {target.overlay.underlay.udp_port}",
        )  # fmt: skip
    limit = target.overlay.learned_limit
    for vni, one in counters.segments.items():
        if one.learned >= limit:
            yield warning(
                "learned-full", str(vni),
                f"segment {vni} has learned {one.learned} MACs, its limit: frames to any other go "
                "to the whole group", "raise learned_limit",
            )  # fmt: skip


def _of_sources(target: Target, counters: Counters) -> Iterator[Finding]:
    if own := counters.from_ourselves.packets:
        yield warning(
            "vtep-duplicate", str(target.vtep),
            f"packets came from {target.vtep}, this host's own VTEP, and were dropped: "
            f"{own} so far",
            "another host has the address, or the underlay returns what it is sent",
        )  # fmt: skip
    if forged := counters.from_no_host.packets:
        yield warning(
            "source-impossible", target.device,
            f"packets came from addresses that no host has, and were dropped: {forged} so far",
            "somebody on the underlay forges them",
        )  # fmt: skip
    if strange := counters.from_no_peer.packets:
        yield warning(
            "peer-unknown", target.device,
            f"packets came from others than the peers, and were dropped: {strange} so far",
            "add who belongs to the overlay to peers",
        )  # fmt: skip


def _of_workloads(target: Target, counters: Counters) -> Iterator[Finding]:
    if guarded := counters.guarded.packets:
        yield warning(
            "workloads-send-vxlan", target.overlay.bridge,
            "workloads sent VXLAN packets to this host's own underlay address, which the guard "
            f"dropped: {guarded} so far",
        )  # fmt: skip
    if tagged := counters.inner_vlan.packets:
        yield warning(
            "inner-tags", target.overlay.tunnel_bridge,
            f"frames with a VLAN tag within their segment were dropped: {tagged} so far",
            "set inner_vlan: keep, here and on all hosts, if they are wanted",
        )  # fmt: skip
