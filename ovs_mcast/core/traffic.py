"""Counters and learned MACs of flows, per segment, from the text that ovs-ofctl prints. Pure.

| table | count of a segment's flow |
|---|---|
| 10 group | received from the group: BUM of every other VTEP |
| 15 deliver | all that was received, unicast too |
| 20 unicast | learned: sent to the one VTEP that has the MAC; gone with the entry |
| 30 flood | sent to the group: BUM of this host |

Frames are counted as workloads send them: without the segment's VLAN tag and without the tunnel's
headers. Open vSwitch brings its counters up to date about twice a second (ovs-vswitchd.conf.db(5):
max-revalidator), and they start from 0 when ovs-vswitchd does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netaddr import IPAddress

from . import guard, ownership
from .flow_text import outer_destination
from .pipeline_tables import CLASSIFY, DELIVER, FLOOD, GROUP, TAGS, UNICAST

_COUNTED = re.compile(r"\s*cookie=(0x[0-9a-f]+), .*?table=(\d+), n_packets=(\d+), n_bytes=(\d+), ")
_MAC = re.compile(r"dl_dst=([0-9a-f:]{17}) actions=")
# Flows for all segments, of all bridges.
_LOST = {
    "from_ourselves": re.compile(r"\btun_(?:ipv6_)?src=[^/,]+,in_port=\d+ actions=drop"),
    "from_no_host": re.compile(r"\btun_(?:ipv6_)?src=[^/,]+/\d+,in_port=\d+ actions=drop"),
    "from_no_peer": re.compile(r"priority=94,in_port=\d+ actions=drop"),
    "inner_vlan": re.compile(r"(?:vlan_tci=0x1000/0x1000|dl_type=0x8[0-9a-f]+) actions=drop"),
    "fragments": re.compile(r"\bnw_frag=first actions="),
    "other_port": re.compile(r"224\.0\.0\.0/4,tp_dst=\d+ actions="),
    "guarded": guard.PRINTED,
}
# `load` up to OpenFlow 1.4, IPv6 in two halves; `set_field` from 1.5 on.
_LOADED_V4 = re.compile(r"load:(0x[0-9a-f]+|0)->NXM_NX_TUN_IPV4_DST\[\]")
_LOADED_V6 = re.compile(
    r"load:(0x[0-9a-f]+|0)->NXM_NX_TUN_IPV6_DST\[0\.\.63\],"
    r"load:(0x[0-9a-f]+|0)->NXM_NX_TUN_IPV6_DST\[64\.\.127\]"
)


@dataclass(frozen=True, slots=True)
class Count:
    """Frames and their bytes."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)

    def since(self, before: Count) -> Count:
        """Return the increase; the whole value if the counters have started again."""
        if self.packets < before.packets or self.bytes < before.bytes:
            return self
        return Count(self.packets - before.packets, self.bytes - before.bytes)

    def to_json(self) -> dict[str, int]:
        """Return both as whole numbers."""
        return {"packets": self.packets, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Traffic:
    """The counters of one segment's flows, and the MACs learned behind each VTEP.

    ``received`` counts all frames, ``bum_received`` those of them that came by the group.
    ``unicast_sent`` is the sum over the present learned entries: it falls when they age out.
    ``complete`` is whether all of the segment's flows exist, except those that learn() makes.
    """

    vlan: int
    bum_sent: Count = Count()
    bum_received: Count = Count()
    received: Count = Count()
    unicast_sent: Count = Count()
    peers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = False

    @property
    def unicast_received(self) -> Count:
        """Frames sent to this VTEP alone. Both counters were read at about the same moment."""
        packets = self.received.packets - self.bum_received.packets
        octets = self.received.bytes - self.bum_received.bytes
        return Count(max(packets, 0), max(octets, 0))

    @property
    def learned(self) -> int:
        """The number of MACs."""
        return sum(map(len, self.peers.values()))

    def to_json(self) -> dict[str, object]:
        """Return the counters and peers of a segment of `status --json`."""
        return {
            "learned": self.learned,
            "peers": {vtep: list(macs) for vtep, macs in self.peers.items()},
            "bum_sent": self.bum_sent.to_json(),
            "bum_received": self.bum_received.to_json(),
            "unicast_sent": self.unicast_sent.to_json(),
            "unicast_received": self.unicast_received.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Counters:
    """The traffic of each segment by VNI, in order, and what the overlay lost of the underlay's.

    With the userspace datapath alone: ``from_ourselves`` came from the overlay's own VTEP (Linux
    drops such packets before its datapath sees them); with IPv4, ``fragments`` are first fragments
    of UDP to groups or the VTEP; ``other_port`` came to groups on another UDP port of VXLAN.
    With both datapaths ``from_no_host`` came from addresses that no host has, ``from_no_peer`` from
    others than the peers; ``inner_vlan`` are frames with a tag within their segment, and
    ``guarded`` VXLAN packets of workloads to this host. All were dropped.
    """

    segments: Mapping[int, Traffic]
    from_ourselves: Count = Count()
    fragments: Count = Count()
    other_port: Count = Count()
    guarded: Count = Count()
    from_no_host: Count = Count()
    from_no_peer: Count = Count()
    inner_vlan: Count = Count()

    @property
    def peers(self) -> frozenset[str]:
        """The VTEPs that the overlay has learned."""
        return frozenset(vtep for one in self.segments.values() for vtep in one.peers)


def read(overlay: str, lines: Iterable[str]) -> Counters:
    """Return the counters of the overlay's flows among the lines; all other lines are skipped.

    ``lines`` are printed with statistics.
    """
    lost = dict.fromkeys(_LOST, Count())
    counts: defaultdict[int, dict[int, Count]] = defaultdict(dict)
    peers: defaultdict[int, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    vlans: dict[int, int] = {}
    for line in lines:
        printed = _COUNTED.match(line)
        if printed is None:
            continue
        cookie, table = int(printed[1], 16), int(printed[2])
        if not ownership.is_cookie(cookie, overlay):
            continue
        count = Count(int(printed[3]), int(printed[4]))
        vni, vlan = ownership.segment_of(cookie)
        if not vni and table in {CLASSIFY, TAGS}:
            kinds = (kind for kind, match in _LOST.items() if match.search(line))
            for kind in kinds:
                lost[kind] += count
        if not vni:
            continue
        vlans[vni] = vlan
        counts[vni][table] = counts[vni].get(table, Count()) + count
        if table == UNICAST and (entry := learned_entry(line)) is not None:
            mac, vtep = entry
            peers[vni][vtep].append(mac)
    segments = {vni: _traffic(vlans[vni], counts[vni], peers[vni]) for vni in sorted(vlans)}
    return Counters(segments, **lost)


def learned_vteps(lines: Iterable[str]) -> set[str]:
    """Return the VTEPs of these learned flows."""
    return {entry[1] for line in lines if (entry := learned_entry(line)) is not None}


def learned_entry(line: str) -> tuple[str, str] | None:
    """Return (MAC, VTEP) of a flow that learn() made; None for any other."""
    mac, vtep = _MAC.search(line), _vtep(line)
    return (mac[1], vtep) if mac and vtep else None


def _vtep(line: str) -> str | None:
    if loaded := _LOADED_V4.search(line):
        return str(IPAddress(int(loaded[1], 16), 4))
    if halves := _LOADED_V6.search(line):
        return str(IPAddress(int(halves[2], 16) << 64 | int(halves[1], 16), 6))
    return outer_destination(line)


def _traffic(vlan: int, counts: Mapping[int, Count], peers: Mapping[str, Iterable[str]]) -> Traffic:
    by_address = sorted(peers.items(), key=lambda peer: IPAddress(peer[0]))
    return Traffic(
        vlan=vlan,
        bum_sent=counts.get(FLOOD, Count()),
        bum_received=counts.get(GROUP, Count()),
        received=counts.get(DELIVER, Count()),
        unicast_sent=counts.get(UNICAST, Count()),
        peers={vtep: tuple(sorted(macs)) for vtep, macs in by_address},
        complete=counts.keys() >= {GROUP, DELIVER, FLOOD},
    )
