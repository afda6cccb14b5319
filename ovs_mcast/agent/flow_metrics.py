"""Metrics of an overlay's flows, their counters and what they learned: read on each scrape.

| metric | meaning |
|---|---|
| `ovs_mcast_open_vswitch_up` | 1 if ovs-vswitchd listed its flows |
| `ovs_mcast_segments_in_place` | wanted segments with all their flows and a joined group |
| `ovs_mcast_own_vtep_packets_total` | received from this host's own VTEP address, and dropped |
| `ovs_mcast_fragmented_packets_total` | UDP to groups or the VTEP that came in fragments, which no tunnel takes |
| `ovs_mcast_other_port_packets_total` | to groups on UDP port 8472, Linux's default (4789 where 8472 is the overlay's) |
| `ovs_mcast_guarded_packets_total` | VXLAN packets of workloads to this host, which the guard dropped |
| `ovs_mcast_no_host_packets_total` | from addresses that no host has, and dropped |
| `ovs_mcast_no_peer_packets_total` | from others than the peers, and dropped (`only_peers`) |
| `ovs_mcast_inner_vlan_packets_total` | with a VLAN tag within their segment, to or from workloads, and dropped |
| `ovs_mcast_segment_info` | 1; labels `vlan`, `group`, `joined_by`, `send_path` of the last reconcile |
| `ovs_mcast_bum_packets_total`, `ovs_mcast_bum_bytes_total` | to and from the group, by `direction` |
| `ovs_mcast_received_packets_total`, `…_bytes_total` | everything received from other VTEPs |
| `ovs_mcast_learned_macs` | MACs learned behind other VTEPs |
| `ovs_mcast_peers` | VTEPs with learned MACs |

All but the first nine have the label `vni`, one per segment: at most 4,094. The third to the fifth
count with the userspace datapath alone, two of them with IPv4 alone. Bytes are those of the workloads' frames. Counters start from 0 with ovs-vswitchd. There is no counter of unicast sent: it
would be lost with each learned entry.
"""  # noqa: E501

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..adapters import proc
from ..core import ownership, traffic
from ..core.model import Overlay
from ..core.status import SegmentStatus
from ..core.traffic import Counters, Traffic
from ..host.platform import CountedFlows

_FRESH = 2.0  # seconds for which one dump answers all scrapes
_PATIENCE = 5  # seconds that a dump may take; a scrape has 10 by default

Dump = Callable[[Overlay], list[str] | None]


def dump_from(counted_flows: CountedFlows) -> Dump:
    """Return a function that dumps an overlay's flows; None where its tunnel bridge has none.

    Also those of the bridge for workloads and, with the userspace datapath, of the underlay device,
    if that is a bridge.
    """

    def dump(overlay: Overlay) -> list[str] | None:
        cookie, mask = ownership.cookie(overlay.name), ownership.OVERLAY_MASK
        lines = counted_flows(overlay.tunnel_bridge, cookie, mask, _PATIENCE)
        if lines is None:
            return lines
        more = [overlay.bridge] * overlay.guard
        more += [overlay.underlay.device] * (overlay.datapath == "netdev")
        for bridge in more:
            lines = lines + (counted_flows(bridge, cookie, mask, _PATIENCE) or [])
        return lines

    return dump


class FlowMetrics(Collector):
    """A collector for any thread. The loop sets ``wanted``, and ``seen`` after each reconcile."""

    def __init__(self, dump: Dump, joined: Callable[[str], frozenset[str]] = proc.joined) -> None:
        self.wanted: Overlay | None = None
        self.seen: Mapping[int, SegmentStatus] = {}
        self._dump, self._joined = dump, joined
        self._lock = threading.Lock()
        self._counters: Counters | None = None
        self._read_at = -_FRESH
        self._read_for: Overlay | None = None

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: otherwise registering would read the flows."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without Open vSwitch those that need no flows."""
        overlay = self.wanted
        if overlay is None:
            return
        counters = self._read(overlay)
        yield from _overlay_metrics(overlay, counters, self._joined(overlay.underlay.device))
        yield _info(overlay, self.seen)
        if counters is not None:
            yield from _lost(overlay, counters)
            yield from _per_segment(overlay, counters.segments)

    def _read(self, overlay: Overlay) -> Counters | None:
        """Share one dump among scrapes at about the same time; None where a dump fails."""
        with self._lock:
            now = time.monotonic()
            if self._read_for is not overlay or now - self._read_at >= _FRESH:
                lines = self._dump(overlay)
                self._counters = None if lines is None else traffic.read(overlay.name, lines)
                self._read_at, self._read_for = time.monotonic(), overlay
            return self._counters


def _lost(overlay: Overlay, counters: Counters) -> Iterator[Metric]:
    for name, what, count in (
        ("own_vtep", "Packets from this host's own VTEP address.", counters.from_ourselves),
        ("fragmented", "UDP packets that came in fragments.", counters.fragments),
        ("other_port", "Packets to groups on another UDP port.", counters.other_port),
        ("guarded", "VXLAN packets of workloads to this host.", counters.guarded),
        ("no_host", "Packets from addresses that no host has.", counters.from_no_host),
        ("no_peer", "Packets from others than the peers.", counters.from_no_peer),
        ("inner_vlan", "Frames with a VLAN tag within their segment.", counters.inner_vlan),
    ):
        family = CounterMetricFamily(f"ovs_mcast_{name}_packets", what, labels=["overlay"])
        family.add_metric([overlay.name], count.packets)
        yield family


def _overlay_metrics(
    overlay: Overlay, counters: Counters | None, joined: frozenset[str]
) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "ovs_mcast_open_vswitch_up", "1 if ovs-vswitchd listed its flows.", labels=["overlay"]
    )
    up.add_metric([overlay.name], float(counters is not None))
    yield up
    segments = counters.segments if counters is not None else {}
    there = {vni for vni, one in segments.items() if one.complete}
    in_place = sum(
        segment.vni in there and str(segment.flood_group) in joined for segment in overlay.segments
    )
    family = GaugeMetricFamily(
        "ovs_mcast_segments_in_place", "Wanted segments with all flows and a joined group.",
        labels=["overlay"],
    )  # fmt: skip
    family.add_metric([overlay.name], in_place)
    yield family


def _info(overlay: Overlay, seen: Mapping[int, SegmentStatus]) -> Metric:
    names = ("vlan", "group", "joined_by", "send_path")
    info = GaugeMetricFamily(
        "ovs_mcast_segment_info", "1; the state of the segment at the last reconcile.",
        labels=["overlay", "vni", *names],
    )  # fmt: skip
    for vni, one in seen.items():
        info.add_metric([overlay.name, str(vni), *(str(getattr(one, name)) for name in names)], 1)
    return info


def _per_segment(overlay: Overlay, segments: Mapping[int, Traffic]) -> Iterator[Metric]:
    labels = ["overlay", "vni"]
    macs = GaugeMetricFamily(
        "ovs_mcast_learned_macs", "MACs learned behind other VTEPs.", labels=labels
    )
    peers = GaugeMetricFamily("ovs_mcast_peers", "VTEPs with learned MACs.", labels=labels)
    for vni, one in segments.items():
        macs.add_metric([overlay.name, str(vni)], one.learned)
        peers.add_metric([overlay.name, str(vni)], len(one.peers))
    yield from (macs, peers)
    for unit in ("packets", "bytes"):
        bum = CounterMetricFamily(
            f"ovs_mcast_bum_{unit}", f"{unit.capitalize()} to and from the group.",
            labels=[*labels, "direction"],
        )  # fmt: skip
        received = CounterMetricFamily(
            f"ovs_mcast_received_{unit}", f"{unit.capitalize()} from other VTEPs.", labels=labels
        )
        for vni, one in segments.items():
            of = [overlay.name, str(vni)]
            bum.add_metric([*of, "sent"], getattr(one.bum_sent, unit))
            bum.add_metric([*of, "received"], getattr(one.bum_received, unit))
            received.add_metric(of, getattr(one.received, unit))
        yield from (bum, received)
