"""Whether the bridge for workloads carries frames between them and the overlay's patch port. Pure.

Its flows are an operator's or a controller's. Open vSwitch itself is asked what it does with one
frame of each kind (ofproto/trace, ovs-vswitchd(8)): once for all VLANs and ports that
no flow names, and once for each of those that flows name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from . import loops, ownership
from .findings import Finding, error, listed, warning
from .flow_trace import Trace
from .guard import PRINTED
from .items import Port
from .observed import Carried, InnerSample
from .target import Target

_MOST = 32  # traces of one look
_VLAN = re.compile(r"\bdl_vlan=(\d+)")
_IN_PORT = re.compile(r"\bin_port=(\d+)")
_HIDDEN = "table_id=254,"  # Open vSwitch's own
# Fields that are the same for all frames of the kind on the port and VLAN.
_TAG = {"dl_vlan", "dl_vlan_pcp", "vlan_tci"}
_COMMON: Mapping[Carried, set[str]] = {
    "broadcasts": {"arp", "dl_dst", *_TAG},
    "unicast": {"ip", "nw_frag", "dl_dst/group", *_TAG},
    "IPv6 unicast": {"ipv6", "nw_frag", "dl_dst/group", *_TAG},
    "neighbour solicitations": {
        "ipv6",
        "icmp6",
        "icmp_type",
        "icmp_code",
        "nw_frag",
        "dl_dst",
        "dl_dst/group",
        *_TAG,
    },
}
_KINDS = list(_COMMON)  # in the order of the faults
# What the guard looks at, too, and what others' flows name where not all unicast is alike to them.
_GUARD = {"tcp", "tcp6", "dl_dst", "nw_dst", "ipv6_dst"}
_UNLIKE = re.compile(
    r"\b(?:dl_dst=(?!0[01]:00:00:00:00:00/01:)|nw_|ipv6_|nd_|tcp|udp|icmp|sctp|tp_)"
)


def samples(target: Target, lines: Iterable[str]) -> list[InnerSample]:
    """Return what to trace, given the bridge's flows as bridge/dump-flows prints them.

    Nothing where one flow serves all, as on a new bridge, or where no port has the VLAN of a
    segment. At most 32 broadcasts, then as many frames of each other kind.
    """
    patch = target.observed.ports.get(_patch(target))
    flows = [line for line in lines
             if line and not line.startswith(_HIDDEN) and not PRINTED.search(line)]  # fmt: skip
    if patch is None or not patch.ofport or patch.ofport < 1:
        return []
    circling = list(loops.samples(target))
    if len(flows) == 1 and flows[0].endswith(" priority=0,actions=NORMAL"):
        return circling
    vlans = {int(number) for line in flows for number in _VLAN.findall(line)}
    ports = {int(number) for line in flows for number in _IN_PORT.findall(line)}
    asked: dict[object, InnerSample] = {}
    there = list(workloads(target))
    carried = [_vlans(port) for port, _ in there]
    named = frozenset().union(*carried)
    for vlan in (segment.vlan for segment in target.overlay.segments):
        if str(vlan) in named or frozenset() in carried:
            sample = InnerSample(patch.name, patch.ofport, vlan, tagged=True)
            asked.setdefault(_among(vlan, vlans), sample)
    segments = {str(segment.vlan): segment.vlan for segment in target.overlay.segments}
    for port, number in there:
        if port.vlans[1:] in {(), ("access",)} and port.vlans and port.vlans[0] in segments:
            vlan = segments[port.vlans[0]]
            sample = InnerSample(port.name, number, vlan, tagged=False)
            asked.setdefault((_among(number, ports), _among(vlan, vlans)), sample)
    broadcasts = list(asked.values())[:_MOST]
    alike = not any(_UNLIKE.search(line) for line in flows)
    return [
        *dict.fromkeys((*broadcasts, *circling)),
        *(replace(one, carries=kind, alike=alike) for kind in _KINDS[1:] for one in broadcasts),
    ]


def faults(target: Target, traces: Mapping[InnerSample, str]) -> Iterator[Finding]:
    """Yield what the bridge does not carry, by the flow that decided."""
    bridge = target.overlay.bridge
    for flow, which in _stopped(target, traces, by_controller=False):
        yield error(
            "bridge-drops", bridge, f"{bridge} does not carry {which}: {flow}",
            f"let its flows serve port {_patch(target)}, or give the overlay another bridge",
        )  # fmt: skip


def warnings(target: Target, traces: Mapping[InnerSample, str]) -> Iterator[Finding]:
    """Yield what goes to a controller alone, whose answer Open vSwitch cannot foretell."""
    bridge = target.overlay.bridge
    for flow, which in _stopped(target, traces, by_controller=True):
        yield warning(
            "bridge-controlled", bridge,
            f"{bridge} gives {which} to a controller alone ({flow}): where no flow says "
            "NORMAL, Open vSwitch applies no tag of access ports",
        )  # fmt: skip


def _stopped(
    target: Target, traces: Mapping[InnerSample, str], *, by_controller: bool
) -> Iterator[tuple[str, str]]:
    """Yield a flow, and what it stops, as text; unicast only where broadcasts pass."""
    found: dict[tuple[bool, str], list[InnerSample]] = {}
    for sample in sorted(traces, key=lambda sample: _KINDS.index(sample.carries)):
        trace = Trace.read(traces[sample])
        flow = _stopped_by(trace, sample, target.overlay.tunnel_bridge)
        if flow and trace.by_controller == by_controller:
            found.setdefault((sample.tagged, flow), []).append(sample)
    for (tagged, flow), stopped in found.items():
        first = stopped[0]
        kind = first.carries
        alike = [one for one in stopped if one.carries == kind]
        if tagged:
            vlans = listed(str(one.vlan) for one in alike)
            yield flow, f"{kind} from the overlay in VLAN {vlans}"
        else:
            yield flow, f"{kind} from {listed(one.port for one in alike)} to the overlay"


def _patch(target: Target) -> str:
    return ownership.port_names(target.overlay.name).patch_tun


def _among(number: int, named: set[int]) -> int | None:
    """Return the number if flows name it; all others are alike to them."""
    return number if number in named else None


def workloads(target: Target) -> Iterator[tuple[Port, int]]:
    """Yield the ports of the bridge that are not ours, by name, and their OpenFlow ports."""
    for _, port in sorted(target.observed.ports.items()):
        number = port.ofport or 0
        if port.bridge == target.overlay.bridge and port.owner is None and number > 0:
            yield port, number


def members(target: Target) -> Iterator[Port]:
    """Yield those of the workloads' ports that may carry the VLAN of a segment."""
    segments = {str(segment.vlan) for segment in target.overlay.segments}
    for port, _ in workloads(target):
        vlans = _vlans(port)
        if not vlans or vlans & segments:
            yield port


def _vlans(port: Port) -> frozenset[str]:
    """Return the VLANs of a port; without any, it carries all."""
    return frozenset(part for part in port.vlans if part.isdigit())


def _stopped_by(trace: Trace, sample: InnerSample, tunnel_bridge: str) -> str:
    """Return the flow that stops every frame like this one; empty if none does, or unknown."""
    if sample.tagged:
        arrives = trace.normal or trace.goes_somewhere
    else:
        arrives = tunnel_bridge in trace.crossed
    common = _COMMON[sample.carries] | (_GUARD if sample.alike else set())
    return "" if arrives else trace.stopped_by(common)
