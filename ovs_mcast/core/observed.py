"""The observed state of a host: its devices, its items, its limits. Frozen values.

`Lookups` are separate from `Observed`: they are made after a change, to verify it. So an empty
lookup is never confused with a missing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from .items import Address, Bridge, Flow, GroupMembership, Options, Port, Route
from .packet_filter import RuleSet


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of this namespace. ``udp_port`` is that of a Linux vxlan device.

    ``kind`` is what `ip -details link` shows, loopback for lo; of ipvlan with its mode: ipvlan l3s.
    ``master`` is the device that takes its frames or holds it: a bridge, a bond, a VRF; ovs-system
    for a port of Open vSwitch's kernel datapath; empty without one. ``lower`` is the device that
    it is on, as a VLAN is. ``carrier``: it can send, as far as its driver knows. ``active`` is the
    index of a bond's active link, 0 without one.
    """

    name: str
    mtu: int
    mac: str
    up: bool
    kind: str = ""
    udp_port: int | None = None
    master: str = ""
    lower: str = field(default="", compare=False)
    carrier: bool = field(default=True, compare=False)
    active: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RoutePath:
    """The device by which a packet would leave, None without a route; its source and gateway."""

    device: str | None
    source: str | None = None
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class FibRoute:
    """A route as `ip route show` has it; ``local`` routes lead to this host itself, by lo."""

    destination: str
    prefixlen: int
    device: str | None
    table: str
    local: bool = False
    gateway: str | None = None

    def __str__(self) -> str:
        local = "local " if self.local else ""
        bits = 128 if ":" in self.destination else 32
        slash = "" if self.prefixlen == bits else f"/{self.prefixlen}"
        shown = f"{self.destination}{slash}" if self.prefixlen else "default"
        via = f" via {self.gateway}" if self.gateway else ""
        device = f" dev {self.device}" if self.device else ""
        return f"{local}{shown}{via}{device} in table {self.table}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of autojoin in this namespace: groups, octets; None where /proc/sys lacks them."""

    igmp_max_memberships: int | None = 20
    optmem_max: int | None = 131072


@dataclass(frozen=True, slots=True)
class ArpSettings:
    """Sysctls of net.ipv4.conf for a device: the larger of the device's and that of all."""

    arp_ignore: int
    rp_filter: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The method that `auto` chose for a device and address family, and the evidence."""

    method: Literal["autojoin", "socket"]
    device: str
    family: int
    evidence: str

    def to_notes(self) -> Options:
        """Return the external_ids of the tunnel bridge that keep the decision."""
        return (
            ("ovs-mcast-evidence", self.evidence),
            ("ovs-mcast-membership", self.method),
            ("ovs-mcast-underlay", f"{self.device} IPv{self.family}"),
        )

    def to_json(self) -> dict[str, str]:
        """Return the ``decision`` of `setup --json`."""
        return {
            "method": self.method,
            "underlay": f"{self.device} IPv{self.family}",
            "evidence": self.evidence,
        }

    @classmethod
    def from_notes(cls, notes: Options) -> Decision | None:
        """Return the decision that external_ids keep, or None if they are incomplete."""
        found = dict(notes)
        device, _, family = found.get("ovs-mcast-underlay", "").rpartition(" IPv")
        method = found.get("ovs-mcast-membership", "")
        if family not in {"4", "6"} or not device or method not in {"autojoin", "socket"}:
            return None
        method = cast("Literal['autojoin', 'socket']", method)
        return cls(method, device, int(family), found.get("ovs-mcast-evidence", ""))

    @classmethod
    def of(cls, overlay: str, bridges: Iterable[Bridge]) -> Decision | None:
        """Return the overlay's earlier decision, as its tunnel bridge keeps it."""
        noted = (bridge.notes for bridge in bridges if bridge.owner == overlay and bridge.notes)
        return next(map(cls.from_notes, noted), None)


@dataclass(frozen=True, slots=True)
class Observed:
    """One host as it was observed: every bridge, port, device and address, our flows and routes.

    ``flows`` are those of one overlay; ``routes`` are the host routes to groups in tables main and
    local; ``held`` are the groups that the overlay's keeper holds, as /proc confirms;
    ``decision`` is the last one of `auto`; ``udp_holders`` says who holds the overlay's UDP port,
    looked for only where a holder would be in the way (udp_port.may_be_held()); ``peers`` are the
    VTEPs that the overlay has learned. ``datapath_there`` is whether Open vSwitch has the overlay's
    datapath here.

    >>> om.Observed().flows
    ()
    """

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)
    limits: Limits = Limits()
    held: GroupMembership | None = None
    decision: Decision | None = None
    udp_holders: tuple[str, ...] = ()
    peers: frozenset[str] = frozenset()
    datapath_there: bool = True

    def overlays(self) -> set[str]:
        """Return the names of the overlays that have rows in this OVSDB."""
        return owners((*self.bridges.values(), *self.ports.values()))


def owners(rows: Iterable[Bridge | Port]) -> set[str]:
    """Return the names of the overlays that own rows of OVSDB."""
    return {row.owner for row in rows if row.owner is not None}


@dataclass(frozen=True, slots=True)
class ReversePath:
    """What the reverse-path filter of a device decides by: see core/reverse_path.py.

    ``near`` and ``far`` are the ways to a host of the VTEP's subnet, and to any other; ``drops`` is
    how many packets it has dropped in this network namespace.
    """

    rp_filter: int
    near: RoutePath
    far: RoutePath
    drops: int


Carried = Literal["broadcasts", "unicast", "IPv6 unicast", "neighbour solicitations"]
_FRAMES: Mapping[Carried, str] = {
    "broadcasts": "arp,arp_op=1,dl_dst=ff:ff:ff:ff:ff:ff",
    "unicast": "ip,nw_proto=6,dl_dst=02:00:00:00:00:00",
    "IPv6 unicast": "ipv6,nw_proto=6,dl_dst=02:00:00:00:00:00",
    "neighbour solicitations": "icmp6,icmpv6_type=135,icmpv6_code=0,dl_dst=33:33:ff:00:00:01",
}


@dataclass(frozen=True, slots=True)
class InnerSample:
    """A workloads' frame to trace, by the kind that it stands for: an ARP request, TCP to a MAC.

    ``tagged``: it comes from the patch port, else from an access port.

    ``number`` is the OpenFlow port of the port so named. ``alike``: no flow of others names an
    address or a protocol that one unicast frame has and another has not.
    """

    port: str
    number: int
    vlan: int
    tagged: bool
    carries: Carried = "broadcasts"
    alike: bool = False

    @property
    def flow(self) -> str:
        """Return the frame as ofproto/trace takes it."""
        tag = f"dl_vlan={self.vlan}," if self.tagged else ""
        return f"in_port={self.number},{tag}{_FRAMES[self.carries]}"


@dataclass(frozen=True, slots=True)
class OuterSample:
    """A tunnels' packet to trace on the underlay's bridge: it comes by a port, or leaves.

    ``packet`` is its fields as ofproto/trace takes them, ``what`` a phrase for people: packets to
    239.0.0.1. ``port`` is the uplink, empty for what this host sends.
    """

    port: str
    number: str
    packet: str
    what: str

    @property
    def flow(self) -> str:
        """Return the packet as ofproto/trace takes it."""
        return f"in_port={self.number},{self.packet}"


@dataclass(frozen=True, slots=True)
class Lookups:
    """Answers of the kernel and of Open vSwitch: the groups joined, and the paths of packets.

    ``joined`` are the groups of which the underlay device is a member (/proc/net/igmp, igmp6);
    ``sends`` and ``tunnels`` are route lookups by group, as an ordinary program and as the tunnel
    would send (explicit source). A group missing there has no route. ``peers`` are the tunnel's
    paths to the learned VTEPs; ``traces`` what the bridge for workloads does with its frames, and
    ``underlay_traces`` what the underlay's bridge does with the tunnels' packets.
    ``arp`` has the NICs that the userspace datapath's underlay bridge holds; ``reverse_path`` is
    for the kernel's datapath with IPv4; ``rules`` are those of the packet filter.
    """

    joined: frozenset[str]
    sends: Mapping[str, RoutePath]
    tunnels: Mapping[str, RoutePath]
    arp: Mapping[str, ArpSettings] = field(default_factory=dict)
    peers: Mapping[str, RoutePath] = field(default_factory=dict)
    traces: Mapping[InnerSample, str] = field(default_factory=dict)
    underlay_traces: Mapping[OuterSample, str] = field(default_factory=dict)
    reverse_path: ReversePath | None = None
    rules: RuleSet = field(default_factory=RuleSet)

    def send_path(self, group: str, device: str) -> Literal["wire", "loopback", "none"]:
        """Return where an ordinary program's datagram to the group goes; wire is ``device``."""
        by = self.sends.get(group, RoutePath(None)).device
        if by == device:
            return "wire"
        return "loopback" if by == "lo" else "none"
