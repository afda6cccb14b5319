"""What was seen: frozen items, each with a key. No I/O.

The same items say what is wanted, so that a plan (changes.py) is the difference of two sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

Key = tuple[str, ...]
Options = tuple[tuple[str, str], ...]

LOCAL = 65534  # OFPP_LOCAL: the port of a bridge that is its own Linux device


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of Open vSwitch; ``owner`` is the overlay that made it, None if it is not ours.

    ``notes`` are what we wrote down in its external_ids, under names that begin with ovs-mcast-.
    """

    kind: ClassVar[str] = "bridge"
    name: str
    datapath: str
    fail_mode: str = ""
    owner: str | None = None
    notes: Options = ()
    protocols: tuple[str, ...] = field(default=(), compare=False)

    @property
    def key(self) -> Key:
        """Bridges are told apart by name."""
        return (self.kind, self.name)

    @property
    def target(self) -> str:
        """What a reader calls it."""
        return self.name


@dataclass(frozen=True, slots=True)
class Port:
    """A port with one interface; ``ofport`` and ``error`` are what ovs-vswitchd said of it.

    ``vlans`` are its tag, trunks and vlan_mode as text, none for a port of ours.
    """

    kind: ClassVar[str] = "port"
    bridge: str
    name: str
    type: str
    options: Options = ()
    ofport_request: int | None = None
    vlans: tuple[str, ...] = ()
    owner: str | None = None
    ofport: int | None = field(default=None, compare=False)
    error: str | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        """A name stands for one port in the whole of an Open vSwitch."""
        return (self.kind, self.name)

    @property
    def target(self) -> str:
        """What a reader calls it."""
        return f"{self.name} on {self.bridge}"

    def option(self, name: str, default: str = "") -> str:
        """One of the interface's options."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as ovs-ofctl prints it; ``match`` without priority, ``summary`` for people."""

    kind: ClassVar[str] = "flow"
    bridge: str
    table: int
    priority: int
    match: str
    actions: str
    cookie: int
    summary: str = field(default="", compare=False)

    @property
    def key(self) -> Key:
        """OpenFlow tells flows apart by table, priority and match."""
        return (self.kind, self.bridge, str(self.table), str(self.priority), self.match)

    @property
    def target(self) -> str:
        """What a reader calls it."""
        return self.summary or f"{self.bridge} table {self.table} {self.match or 'any'}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device, for us a group. ``metric`` carries our mark (marks.py).

    ``local`` is set for the peer form, which `ip` refuses and netlink takes: the unicast address
    that the group is the peer of, so that no local route is made for the group. Of IPv6 alone:
    ``tentative`` and ``duplicate`` are what detection says of it, ``passing`` is deprecated or
    temporary.
    """

    kind: ClassVar[str] = "address"
    device: str
    address: str
    prefixlen: int
    autojoin: bool = False
    metric: int | None = None
    local: str | None = None
    protocol: int | None = field(default=None, compare=False)
    tentative: bool = field(default=False, compare=False)
    duplicate: bool = field(default=False, compare=False)
    passing: bool = field(default=False, compare=False)

    @property
    def key(self) -> Key:
        """The kernel tells addresses apart by device, address and prefix length."""
        return (self.kind, self.device, self.address, str(self.prefixlen))

    @property
    def target(self) -> str:
        """What a reader calls it, as `ip address` prints it."""
        joins = " autojoin" if self.autojoin else ""
        local = f"{self.local} peer " if self.local else ""
        return f"{local}{self.address}/{self.prefixlen} dev {self.device}{joins}"


@dataclass(frozen=True, slots=True)
class Route:
    """A host route; ``metric`` carries our mark, ``source`` is the preferred one.

    IPv6 looks for groups in table ``local`` alone (every device has ff00::/8 there), so ours are
    there too. Without a metric a route of that table is the one that an address makes for itself.
    """

    kind: ClassVar[str] = "route"
    device: str
    destination: str
    source: str | None
    metric: int | None = None
    table: Literal["main", "local"] = "main"
    protocol: int | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        """The kernel tells host routes apart by destination and metric."""
        device = self.device if self.by_address else ""
        return (self.kind, self.table, self.destination, str(self.metric), device)

    @property
    def target(self) -> str:
        """What a reader calls it, as `ip route` prints it."""
        if self.by_address:
            return f"local {self.destination} dev {self.device} table local"
        source = f" src {self.source}" if self.source else ""
        table = "" if self.table == "main" else f" table {self.table}"
        return f"{self.destination} dev {self.device}{table}{source}"

    @property
    def by_address(self) -> bool:
        """Whether an address made it for itself: it takes what is sent there to lo."""
        return self.table == "local" and self.metric is None


@dataclass(frozen=True, slots=True)
class Membership:
    """Groups of a device that the sockets of a keeper hold, one keeper for each overlay."""

    kind: ClassVar[str] = "membership"
    device: str
    groups: tuple[str, ...]

    @property
    def key(self) -> Key:
        """One keeper serves the whole of an overlay."""
        return (self.kind,)

    @property
    def target(self) -> str:
        """What a reader calls it."""
        groups = self.groups[0] if len(self.groups) == 1 else f"{len(self.groups)} groups"
        return f"{groups} dev {self.device} by sockets"


Item = Bridge | Port | Flow | Address | Route | Membership


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of this namespace. ``udp_port`` is that of a Linux vxlan device."""

    name: str
    mtu: int
    mac: str
    up: bool
    kind: str = ""
    udp_port: int | None = None


@dataclass(frozen=True, slots=True)
class RoutePath:
    """How the kernel would send: ``device`` is None where it knows no way."""

    device: str | None
    source: str | None = None


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
    """What bounds autojoin in this namespace: groups, octets; None where it does not say."""

    igmp_max_memberships: int | None = 20
    optmem_max: int | None = 131072


@dataclass(frozen=True, slots=True)
class Decision:
    """The membership that `auto` chose for a device and address family, and on what evidence."""

    method: str
    device: str
    family: int
    evidence: str

    def to_notes(self) -> Options:
        """As it is written down in external_ids of the tunnel bridge."""
        return (
            ("ovs-mcast-evidence", self.evidence),
            ("ovs-mcast-membership", self.method),
            ("ovs-mcast-underlay", f"{self.device} IPv{self.family}"),
        )

    def to_json(self) -> dict[str, str]:
        """As `setup --json` shows it."""
        return {
            "method": self.method,
            "underlay": f"{self.device} IPv{self.family}",
            "evidence": self.evidence,
        }

    @classmethod
    def from_notes(cls, notes: Options) -> Decision | None:
        """What was written down, or None if it cannot be read."""
        found = dict(notes)
        device, _, family = found.get("ovs-mcast-underlay", "").rpartition(" IPv")
        method = found.get("ovs-mcast-membership", "")
        if family not in {"4", "6"} or not device or method not in {"autojoin", "socket"}:
            return None
        return cls(method, device, int(family), found.get("ovs-mcast-evidence", ""))


def _empty() -> Mapping[str, RoutePath]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Observed:
    """One machine as it was seen: every bridge, port, device and address, and our flows and routes.

    ``routes`` are those to groups in tables main and local. ``held`` is what the overlay's keeper
    holds, as /proc confirms it. ``decision`` is what `auto` chose before, or has just found.
    ``joined`` are the groups of which the underlay device is a member (/proc/net/igmp, igmp6);
    ``sends`` and ``tunnels`` are the route look-ups per group as an ordinary program and as the
    tunnel would send (explicit source).

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
    joined: frozenset[str] = frozenset()
    held: Membership | None = None
    decision: Decision | None = None
    sends: Mapping[str, RoutePath] = field(default_factory=_empty)
    tunnels: Mapping[str, RoutePath] = field(default_factory=_empty)

    def overlays(self) -> set[str]:
        """The overlays that have rows in this OVSDB."""
        owners = [bridge.owner for bridge in self.bridges.values()]
        owners += [port.owner for port in self.ports.values()]
        return {owner for owner in owners if owner is not None}
