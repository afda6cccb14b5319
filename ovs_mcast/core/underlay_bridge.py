"""Whether the flows of the underlay's bridge carry the tunnels' packets. Userspace datapath. Pure.

Beside our flows there are an operator's: above ours, so that the group's packets never reach them,
or below, where ours send each packet on its usual way. Open vSwitch is asked what it does with one
packet of each kind (ofproto/trace). VLANs, bonds and MACs are NORMAL's: not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netaddr import IPAddress

from .findings import Finding, error, listed, warning
from .flow_trace import Trace
from .groups import ethernet_of
from .observed import OuterSample
from .target import Target
from .uplinks import leads_to_network

_MOST = 256  # traces of one look: some 60 µs each
_STRANGER = "02:00:00:00:00:00"  # the source of what comes, and the destination of unicast
# Fields that are the same for all packets of the kind. What comes has any source.
_COMES = {"ip", "udp", "ipv6", "udp6", "nw_dst", "ipv6_dst", "tp_dst", "nw_frag", "nw_proto",
          "reg13", "dl_dst", "dl_dst/group"}  # fmt: skip
_LEAVES = {*_COMES, "nw_src", "ipv6_src", "dl_src", "igmp", "icmp6", "icmp_type", "icmp_code"}


def samples(target: Target) -> list[OuterSample]:
    """Return what to trace: reports and packets that leave, then what comes by each uplink.

    At most 256, the first groups first.
    """
    overlay, number = target.overlay, target.underlay_port
    if not target.userspace or not overlay.flood_groups:
        return []
    found = [
        OuterSample("", number, _report(target), f"reports of {target.device}"),
        *(OuterSample("", number, _packet(target, group, leaves=True), f"packets to {group}")
          for group in overlay.flood_groups[:1]),
    ]  # fmt: skip
    uplinks = list(_uplinks(target))
    for destination in (target.vtep, *overlay.flood_groups):
        packet = _packet(target, destination, leaves=False)
        found += [
            OuterSample(name, port, packet, f"packets to {destination}") for name, port in uplinks
        ]
    return found[:_MOST]


def faults(target: Target, traces: Mapping[OuterSample, str]) -> Iterator[Finding]:
    """Yield what does not leave, and what comes by no uplink, by the flow that decided."""
    for flow, what, ports, others in _stopped(traces):
        if not others:
            way = f"from {listed(ports)}" if any(ports) else "that this host sends"
            yield error(
                "underlay-drops", target.underlay_bridge,
                f"{target.underlay_bridge} does not carry {what} {way}: {flow}",
                "let its flows serve the tunnels",
            )  # fmt: skip


def warnings(target: Target, traces: Mapping[OuterSample, str]) -> Iterator[Finding]:
    """Yield what comes by some uplinks alone."""
    for flow, what, ports, others in _stopped(traces):
        if others:
            yield warning(
                "underlay-drops-some", target.underlay_bridge,
                f"{target.underlay_bridge} does not carry {what} from {listed(ports)}: {flow}",
            )  # fmt: skip


def _stopped(traces: Mapping[OuterSample, str]) -> Iterator[tuple[str, str, list[str], bool]]:
    """Yield a flow, what it stops, from which ports, and whether such packets come by others."""
    found: dict[tuple[bool, str], list[OuterSample]] = {}
    passing: set[str] = set()
    for sample, printed in traces.items():
        trace = Trace.read(printed)
        if trace.normal or trace.goes_somewhere:
            passing |= {sample.what} if sample.port else set()
        elif flow := trace.stopped_by(_COMES if sample.port else _LEAVES):
            found.setdefault((bool(sample.port), flow), []).append(sample)
    for (comes, flow), stopped in found.items():
        what = dict.fromkeys(one.what for one in stopped)
        ports = dict.fromkeys(one.port for one in stopped)
        yield flow, listed(what), list(ports), comes and bool(passing & what.keys())


def _uplinks(target: Target) -> Iterator[tuple[str, str]]:
    """Yield the name and the OpenFlow port of each port by which packets of peers may come."""
    for name, port in sorted(target.observed.ports.items()):
        there = port.bridge == target.underlay_bridge and (port.ofport or 0) > 0
        if there and leads_to_network(port, target.observed.links):
            yield name, str(port.ofport)


def _packet(target: Target, destination: IPAddress, *, leaves: bool) -> str:
    """Return a packet of the tunnels, from this VTEP or from a stranger."""
    mac = target.link.mac if destination == target.vtep else ethernet_of(destination)
    source = f"dl_src={target.link.mac}" if leaves else f"dl_src={_STRANGER}"
    port = target.overlay.underlay.udp_port
    if target.overlay.family == 4:
        address = f",nw_src={target.vtep}" if leaves else ""
        return f"udp,{source},dl_dst={mac}{address},nw_dst={destination},nw_ttl=64,udp_dst={port}"
    address = f",ipv6_src={target.vtep}" if leaves else ""
    return f"udp6,{source},dl_dst={mac}{address},ipv6_dst={destination},nw_ttl=64,udp_dst={port}"


def _report(target: Target) -> str:
    """Return a membership report (RFC 3376, 4.2; RFC 3810, 5.2)."""
    source = f"dl_src={target.link.mac}"
    if target.overlay.family == 4:
        return (
            f"ip,nw_proto=2,{source},dl_dst=01:00:5e:00:00:16,nw_src={target.vtep},"
            "nw_dst=224.0.0.22,nw_ttl=1"
        )
    return (
        f"icmp6,icmp_type=143,{source},dl_dst=33:33:00:00:00:16,ipv6_src={target.vtep},"
        "ipv6_dst=ff02::16,nw_ttl=1"
    )
