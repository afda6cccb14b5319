"""What a run did and saw (`setup --json`), what is in place (`status --json`). Frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .changes import Change
from .observed import Decision
from .traffic import Traffic

Who = Literal["kernel", "keeper", "agent", "hold", "nobody"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the memberships: the kernel, or a process; nobody if one is missing."""

    who: Who
    pid: int | None = None

    def to_json(self) -> dict[str, object]:
        """``pid`` is null where no process holds them."""
        return {"who": self.who, "pid": self.pid}


@dataclass(frozen=True, slots=True)
class SegmentDetail:
    """One segment as it is; ``joined_by`` is none where the device is not a member."""

    vlan: int
    group: str
    joined_by: str
    send_path: str
    traffic: Traffic

    def to_json(self) -> dict[str, object]:
        """Its part of the document of `status --json`."""
        traffic = self.traffic
        counts = ("bum_sent", "bum_received", "unicast_sent", "unicast_received")
        return {
            "vlan": self.vlan,
            "group": self.group,
            "joined_by": self.joined_by,
            "send_path": self.send_path,
            "learned": traffic.learned,
            "peers": {vtep: list(macs) for vtep, macs in traffic.peers.items()},
            **{name: getattr(traffic, name).to_json() for name in counts},
        }


@dataclass(frozen=True, slots=True)
class OverlayStatus:
    """One overlay as it is. ``problems`` holds faults, then warnings, which do not count."""

    overlay: str
    healthy: bool
    underlay: str | None = None
    vtep: str | None = None
    datapath: str | None = None
    bridge: str | None = None
    tunnel_bridge: str | None = None
    held_by: Holder = Holder("nobody")
    segments: Mapping[int, SegmentDetail] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """One of ``overlays`` in the document of `status --json`."""
        names = ("overlay", "healthy", "underlay", "vtep", "datapath", "bridge", "tunnel_bridge")
        return {
            **{name: getattr(self, name) for name in names},
            "held_by": self.held_by.to_json(),
            "segments": {str(vni): kept.to_json() for vni, kept in self.segments.items()},
            "problems": list(self.problems),
        }


# Told as a plan is carried out: how many changes are made, and of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SegmentStatus:
    """How one segment is carried; ``send_path`` is an ordinary program's, not the tunnels'.

    ``joined_by`` is autojoin, repaired, peer or socket; ``send_path`` is wire, loopback or none.

    >>> om.SegmentStatus(vlan=10, group="239.1.1.50", joined_by="socket", send_path="wire").vlan
    10
    """

    vlan: int
    group: str
    joined_by: str
    send_path: str

    def to_json(self) -> dict[str, object]:
        """The shape of the contract."""
        return {
            "vlan": self.vlan,
            "group": self.group,
            "joined_by": self.joined_by,
            "send_path": self.send_path,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """What a run did and saw. ``problems`` holds faults, then warnings, which do not count.

    ``verified`` is whether all is as wanted, and was seen to be; ``segments`` are by VNI;
    ``decision`` is what `auto` has chosen, and on what evidence.

    >>> seen = om.SegmentStatus(vlan=10, group="239.1.1.50", joined_by="socket", send_path="wire")
    >>> status = om.Status("tenants", verified=True, segments={5050: seen})
    >>> status[5050].group, status.changed
    ('239.1.1.50', False)
    """

    overlay: str
    changes: tuple[Change, ...] = ()
    verified: bool = False
    segments: Mapping[int, SegmentStatus] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    decision: Decision | None = None

    def __getitem__(self, vni: int) -> SegmentStatus:
        return self.segments[vni]

    @property
    def changed(self) -> bool:
        """Whether the machine is not as it was before."""
        return bool(self.changes)

    def to_json(self) -> dict[str, object]:
        """The shape of the contract for `setup --json`."""
        return {
            "overlay": self.overlay,
            "changed": self.changed,
            "changes": [change.to_json() for change in self.changes],
            "verified": self.verified,
            "segments": {str(vni): seen.to_json() for vni, seen in self.segments.items()},
            "problems": list(self.problems),
            "decision": None if self.decision is None else self.decision.to_json(),
        }
