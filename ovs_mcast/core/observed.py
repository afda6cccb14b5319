"""What was seen of a host: its devices, its items and what `auto` decided. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .items import Address, Bridge, Flow, GroupMembership, Options, Port, Route


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
    held: GroupMembership | None = None
    decision: Decision | None = None
    sends: Mapping[str, RoutePath] = field(default_factory=_empty)
    tunnels: Mapping[str, RoutePath] = field(default_factory=_empty)

    def overlays(self) -> set[str]:
        """The overlays that have rows in this OVSDB."""
        owners = [bridge.owner for bridge in self.bridges.values()]
        owners += [port.owner for port in self.ports.values()]
        return {owner for owner in owners if owner is not None}
