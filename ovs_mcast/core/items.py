"""Items: what makes up an overlay on a host, as observed or as desired. Frozen, each with a key.

A plan (changes.py) is the difference of two sets of items: the desired ones, and those of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Key = tuple[str, ...]
Options = tuple[tuple[str, str], ...]
JoinedBy = Literal["autojoin", "repaired", "peer", "socket"]  # the methods; `auto` chooses one

BUNDLES = ("OpenFlow14", "OpenFlow15", "OpenFlow13")  # versions with bundles, best first
LOCAL = 65534  # OFPP_LOCAL: the port of a bridge that is its own Linux device


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of Open vSwitch; ``owner`` is the overlay that made it, None if it is not ours.

    ``notes`` are those of its external_ids whose names begin with ovs-mcast-.
    """

    kind: ClassVar[str] = "bridge"
    name: str
    datapath: str
    fail_mode: str = ""
    owner: str | None = None
    notes: Options = ()
    protocols: tuple[str, ...] = field(default=(), compare=False)

    @property
    def openflow(self) -> str:
        """The version of OpenFlow to speak; empty if it speaks none with bundles.

        A bridge without ``protocols`` speaks all.
        """
        return next((one for one in BUNDLES if not self.protocols or one in self.protocols), "")

    @property
    def key(self) -> Key:
        """Return the name, which is unique in an Open vSwitch."""
        return (self.kind, self.name)

    @property
    def target(self) -> str:
        """Return its name for people."""
        return self.name


@dataclass(frozen=True, slots=True)
class Port:
    """A port with its first interface; ovs-vswitchd writes ``ofport``, ``error`` and ``mtu``.

    ``configured`` are the names of the options that an overlay's configuration names; all others
    that the overlay does not need are an operator's.
    ``vlans`` are its tag, trunks and vlan_mode as text, empty for a port of ours. ``bond_mode`` is
    that of a port with several interfaces, empty with one, and ``members`` are their names.
    ``snooping`` are those of its other_config whose names begin with mcast-snooping-.
    """

    kind: ClassVar[str] = "port"
    bridge: str
    name: str
    type: str
    options: Options = ()
    ofport_request: int | None = None
    vlans: tuple[str, ...] = ()
    snooping: Options = ()
    configured: tuple[str, ...] = ()
    owner: str | None = None
    ofport: int | None = field(default=None, compare=False)
    error: str | None = field(default=None, compare=False)
    mtu: int | None = field(default=None, compare=False)
    bond_mode: str = field(default="", compare=False)
    members: tuple[str, ...] = field(default=(), compare=False)

    @property
    def key(self) -> Key:
        """Return the name, which is unique in an Open vSwitch."""
        return (self.kind, self.name)

    @property
    def target(self) -> str:
        """Return its name for people."""
        return f"{self.name} on {self.bridge}"

    def option(self, name: str, default: str = "") -> str:
        """Return one of the interface's options."""
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
        """Return table, priority and match: OpenFlow has one flow for each."""
        return (self.kind, self.bridge, str(self.table), str(self.priority), self.match)

    @property
    def target(self) -> str:
        """Return its name for people."""
        return self.summary or f"{self.bridge} table {self.table} {self.match or 'any'}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device, for us a group. ``metric`` carries our mark (ownership.py).

    ``local`` is set for the peer form, which `ip` refuses and netlink accepts: the unicast address
    whose peer the group is, so that the kernel makes no local route for the group. IPv6 alone has
    ``tentative`` and ``duplicate``, the state of duplicate address detection, and ``passing``:
    deprecated or temporary.
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
        """Return device, address and prefix length: the kernel has one address for each."""
        return (self.kind, self.device, self.address, str(self.prefixlen))

    @property
    def target(self) -> str:
        """Return its name for people, as `ip address` prints it."""
        joins = " autojoin" if self.autojoin else ""
        local = f"{self.local} peer " if self.local else ""
        return f"{local}{self.address}/{self.prefixlen} dev {self.device}{joins}"


@dataclass(frozen=True, slots=True)
class Route:
    """A host route; ``metric`` carries our mark, ``source`` is the preferred source.

    IPv6 looks groups up in table ``local`` alone (every device has ff00::/8 there), so our routes
    are in it too. A route of that table without a metric was made by the kernel for an address.
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
        """Return destination and metric: the kernel has one host route for each."""
        device = self.device if self.by_address else ""
        return (self.kind, self.table, self.destination, str(self.metric), device)

    @property
    def target(self) -> str:
        """Return its name for people, as `ip route` prints it."""
        if self.by_address:
            return f"local {self.destination} dev {self.device} table local"
        source = f" src {self.source}" if self.source else ""
        table = "" if self.table == "main" else f" table {self.table}"
        return f"{self.destination} dev {self.device}{table}{source}"

    @property
    def by_address(self) -> bool:
        """Whether the kernel made the route for an address: it diverts sends to lo."""
        return self.table == "local" and self.metric is None


@dataclass(frozen=True, slots=True)
class GroupMembership:
    """Groups of a device that the sockets of a keeper hold; an overlay has one keeper."""

    kind: ClassVar[str] = "membership"
    device: str
    groups: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Return the kind alone: an overlay has one keeper."""
        return (self.kind,)

    @property
    def target(self) -> str:
        """Return its name for people."""
        groups = self.groups[0] if len(self.groups) == 1 else f"{len(self.groups)} groups"
        return f"{groups} dev {self.device} by sockets"


Item = Bridge | Port | Flow | Address | Route | GroupMembership
