"""What was seen: frozen items, each with a key. No I/O.

The same items say what is wanted, so that a plan (changes.py) is the difference of two sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """An address of a device, for us a group. ``metric`` carries our mark (ownership.py).

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
class GroupMembership:
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


Item = Bridge | Port | Flow | Address | Route | GroupMembership
