"""Health: the state of an overlay in place, as findings and as the status of segments.

What refuses an overlay beforehand is in preflight.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from . import (
    admission,
    firewall,
    guard,
    loops,
    mtu,
    ownership,
    peers,
    reverse_path,
    udp_port,
    underlay,
    underlay_bridge,
    workload_bridge,
)
from .changes import Plan
from .findings import Finding, error, errors, warning
from .groups import shared_ethernet
from .items import Address, Flow, Item, Port, Route
from .observed import ArpSettings, Lookups, Observed, RoutePath
from .status import SegmentStatus
from .target import Target, tentative_vtep

# Errors that do not end by waiting for Open vSwitch or the kernel to follow.
_SETTLED = {"change-pending", "bridge-drops", "underlay-drops", "arp-answered"}
# Values of arp_ignore with which a device does not answer for the addresses of others.
_ARP_IGNORED = {1, 2, 8}


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state of an overlay: its segments by VNI, and findings, errors first."""

    segments: Mapping[int, SegmentStatus]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no finding is an error."""
        return not errors(self.findings)

    @property
    def settled(self) -> bool:
        """Whether some error stays until somebody acts."""
        return any(finding.code in _SETTLED for finding in errors(self.findings))

    @property
    def problems(self) -> tuple[str, ...]:
        """The findings as text."""
        return tuple(map(str, self.findings))


def assess(
    target: Target, lookups: Lookups, pending: Plan, more: Iterable[Finding] = ()
) -> Assessment:
    """Return the state of an overlay; ``pending`` are the changes that a run would still make.

    ``more`` are findings that only the caller can know, such as a keeper that is missing.
    """
    using = defaultdict[str, list[int]](list)  # VNIs by group
    for segment in target.overlay.segments:
        using[str(segment.flood_group)].append(segment.vni)
    found = [
        error(
            "change-pending", change.item.target, str(change), vnis=_concerned(change.item, using)
        )
        for change in pending
    ]  # fmt: skip
    for finding in (*faults(target, lookups), *more, *warnings(target)):
        found.append(replace(finding, vnis=finding.vnis or tuple(using.get(finding.subject, ()))))
    found += lookup_warnings(target, lookups)
    found.sort(key=lambda finding: finding.severity)  # errors first
    return Assessment(segments(target, lookups), tuple(found))


def _concerned(item: Item, using: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Return the VNIs of the segments that need an item alone; nothing where all need it."""
    if isinstance(item, Flow):
        vni, _vlan = ownership.segment_of(item.cookie)
        return (vni,) if vni else ()
    group = item.address if isinstance(item, Address) else ""
    group = item.destination if isinstance(item, Route) else group
    return tuple(using.get(group, ()))


def segments(target: Target, lookups: Lookups) -> dict[int, SegmentStatus]:
    """Return how each segment is carried; ``joined_by`` is none if the device has not joined."""
    return {
        segment.vni: SegmentStatus(
            vlan=segment.vlan,
            group=(group := str(segment.flood_group)),
            joined_by=target.method if group in lookups.joined else "none",
            send_path=lookups.send_path(group, target.device),
        )
        for segment in target.overlay.segments
    }


def warnings(target: Target) -> Iterator[Finding]:
    """Yield the warnings: MTU, shared addresses, ports of others."""
    for members, sentence in shared_ethernet(target.overlay.flood_groups):
        yield warning("ethernet-shared", members, sentence)
    yield from mtu.warnings(target)
    yield from udp_port.warnings(target)
    yield from guard.warnings(target)
    yield from admission.warnings(target)
    tunnel_bridge, name = target.overlay.tunnel_bridge, target.overlay.name
    for port in target.observed.ports.values():
        if port.bridge == tunnel_bridge and port.owner != name:
            yield warning(
                "port-unserved", port.target,
                f"port {port.target} is not ours: nothing of the pipeline serves it",
            )  # fmt: skip


def lookup_warnings(target: Target, lookups: Lookups) -> Iterator[Finding]:
    """Yield the warnings that look-ups show."""
    yield from workload_bridge.warnings(target, lookups.traces)
    yield from loops.warnings(target, lookups.traces)
    yield from underlay_bridge.warnings(target, lookups.underlay_traces)
    yield from reverse_path.warnings(target, lookups.reverse_path)
    yield from firewall.warnings(target, lookups.rules)


def faults(target: Target, lookups: Lookups) -> Iterator[Finding]:
    """Yield the faults of ports, the underlay, membership and paths."""
    yield from _ports(target)
    yield from _underlay(target)
    yield from _send_paths(target, lookups)
    yield from _tentative(target)
    yield from _membership(target, lookups)
    yield from _arp(target, lookups)
    yield from udp_port.faults(target)
    yield from peers.faults(target, lookups)
    yield from workload_bridge.faults(target, lookups.traces)
    yield from underlay_bridge.faults(target, lookups.underlay_traces)


def _ports(target: Target) -> Iterator[Finding]:
    for port in target.observed.ports.values():
        if port.owner != target.overlay.name:
            continue
        evidence = ""
        if port.error and not _peer_is_there(port, target.observed):
            evidence = f"port {port.target}: {port.error}{udp_port.held_by(port, target)}"
        elif port.ofport is None or port.ofport < 1:
            evidence = f"port {port.target} has no OpenFlow port"
        elif port.ofport_request is not None and port.ofport != port.ofport_request:
            evidence = f"port {port.target} has OpenFlow port {port.ofport}, not as requested"
        if evidence:
            yield error("port-failed", port.target, evidence)


def _peer_is_there(port: Port, observed: Observed) -> bool:
    """Return whether a patch port works, judged by its peer.

    ovs-vswitchd writes "No usable peer" if the peer is being moved, and leaves the error there
    until its next change of configuration.
    """
    peer = observed.ports.get(port.option("peer"))
    if port.type != "patch" or peer is None or peer.option("peer") != port.name:
        return False
    ends = [observed.bridges.get(end.bridge) for end in (port, peer)]
    same = None not in ends and len({end.datapath for end in ends if end}) == 1
    return same and (peer.ofport or 0) > 0


def _underlay(target: Target) -> Iterator[Finding]:
    if not target.link.up:
        yield error("underlay-down", target.device, f"{target.device} is down", "set it up")


def _send_paths(target: Target, lookups: Lookups) -> Iterator[Finding]:
    """Yield groups that programs cannot send to; with `autojoin` that is known and accepted."""
    if target.method == "autojoin":
        return
    for group in target.groups:
        path = lookups.send_path(group, target.device)
        if group not in target.foreign and path != "wire":
            by = lookups.sends.get(group, RoutePath(None)).device
            yield error(
                "send-path", group, f"programs' datagrams to {group} leave by {by or 'no device'}"
            )


def _tentative(target: Target) -> Iterator[Finding]:
    observed = target.observed
    ours = (
        item.target
        for item in observed.addresses
        if item.tentative and ownership.is_ours(item, target.overlay.name)
    )
    link = observed.links.get(target.device)
    vtep = tentative_vtep(target.overlay, observed.addresses, link)
    for address in (*ours, *([str(vtep)] if vtep else [])):
        yield error(
            "address-tentative", address,
            f"{address} is tentative: duplicate address detection goes on",
        )  # fmt: skip


def _membership(target: Target, lookups: Lookups) -> Iterator[Finding]:
    device = target.device
    for group in target.groups:
        if group not in lookups.joined:
            yield error("not-a-member", group, f"{device} is not a member of {group}")
        path = lookups.tunnels.get(group, RoutePath(None))
        by = None if path.gateway else path.device  # a gateway takes frames to itself alone
        if by != device:
            yield error(
                "tunnel-path", group,
                f"the tunnels' packets to {group} leave by {by or 'no device'}",
            )  # fmt: skip


def _arp(target: Target, lookups: Lookups) -> Iterator[Finding]:
    """Yield NICs of the underlay's bridge that answer ARP for the VTEP beside the bridge.

    Linux answers for every address of the host on every device (arp_ignore in ip-sysctl.rst). What
    peers then send to the NIC's own Ethernet address the tunnel does not take.
    """
    for nic in underlay.nics(target.device, target.observed):
        settings = lookups.arp.get(nic.name)
        if (
            settings is None
            or nic.mac == target.link.mac
            or not _answers(nic.name, target, settings)
        ):
            continue
        yield error(
            "arp-answered", nic.name,
            f"{nic.name} answers ARP for {target.vtep} too, with its own Ethernet address "
            f"{nic.mac}: what peers send to that is lost",
            f"set net.ipv4.conf.{nic.name}.arp_ignore=1",
        )  # fmt: skip


def _answers(device: str, target: Target, settings: ArpSettings) -> bool:
    """Return whether a device answers requests for another device's address."""
    if settings.arp_ignore in _ARP_IGNORED:
        return False
    # A request is routed like a packet (fib_validate_source()): the way back is another device.
    addressed = any(
        item.device == device and ":" not in item.address for item in target.observed.addresses
    )
    return settings.rp_filter == 0 or (settings.rp_filter == 2 and addressed)
