"""What was seen, and what a plan changes: frozen items, each with a key. No I/O.

The same items say what is wanted, so that a plan is the difference of two sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

Key = tuple[str, ...]
Options = tuple[tuple[str, str], ...]

LOCAL = 65534  # OFPP_LOCAL: the port of a bridge that is its own Linux device


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of Open vSwitch; ``owner`` is the overlay that made it, None if it is not ours."""

    kind: ClassVar[str] = "bridge"
    name: str
    datapath: str
    fail_mode: str = ""
    owner: str | None = None
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
    """An address of a device. ``metric`` carries our mark (marks.py)."""

    kind: ClassVar[str] = "address"
    device: str
    address: str
    prefixlen: int
    autojoin: bool = False
    metric: int | None = None
    protocol: int | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        """The kernel tells addresses apart by device, address and prefix length."""
        return (self.kind, self.device, self.address, str(self.prefixlen))

    @property
    def target(self) -> str:
        """What a reader calls it, as `ip address` prints it."""
        joins = " autojoin" if self.autojoin else ""
        return f"{self.address}/{self.prefixlen} dev {self.device}{joins}"


@dataclass(frozen=True, slots=True)
class Route:
    """A host route of table main; ``metric`` carries our mark, ``source`` is the preferred one."""

    kind: ClassVar[str] = "route"
    device: str
    destination: str
    source: str | None
    metric: int | None = None
    protocol: int | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        """Destination and metric tell routes apart; the device, because we may change it."""
        return (self.kind, self.device, self.destination, str(self.metric))

    @property
    def target(self) -> str:
        """What a reader calls it, as `ip route` prints it."""
        source = f" src {self.source}" if self.source else ""
        return f"{self.destination} dev {self.device}{source}"


Item = Bridge | Port | Flow | Address | Route


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
class Limits:
    """What bounds autojoin in this namespace: groups, octets; None where it does not say."""

    igmp_max_memberships: int | None = 20
    optmem_max: int | None = 131072


def _empty() -> Mapping[str, RoutePath]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Observed:
    """One machine as it was seen: every bridge, port, device and address, and our flows and routes.

    ``joined`` are the groups of which the underlay device is a member (/proc/net/igmp, igmp6);
    ``sends`` and ``tunnels`` are the route look-ups per group as an ordinary program and as the
    tunnel would send (explicit source).
    """

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)
    limits: Limits = Limits()
    joined: frozenset[str] = frozenset()
    sends: Mapping[str, RoutePath] = field(default_factory=_empty)
    tunnels: Mapping[str, RoutePath] = field(default_factory=_empty)

    def overlays(self) -> set[str]:
        """The overlays that have rows in this OVSDB."""
        owners = [bridge.owner for bridge in self.bridges.values()]
        owners += [port.owner for port in self.ports.values()]
        return {owner for owner in owners if owner is not None}


Action = Literal["add", "update", "remove"]
_SIGNS = {"add": "+", "update": "~", "remove": "-"}


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan. ``item`` is what shall be, or for ``remove`` what shall not be."""

    action: Action
    item: Item
    reason: str
    before: Item | None = None

    @property
    def kind(self) -> str:
        """bridge, port, flow, address or route."""
        return self.item.kind

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.item.target}: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """The shape of the contract's ``changes``."""
        return {
            "action": self.action,
            "kind": self.kind,
            "target": self.item.target,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A group's Ethernet address, told to the userspace datapath: a cache, not state."""

    bridge: str
    group: str
    mac: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered changes, make before break; iterable, and empty when nothing differs."""

    overlay: str
    changes: tuple[Change, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes)
