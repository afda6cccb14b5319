"""The result of a run (`setup --json`), the state of overlays (`status --json`). Frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .changes import Change
from .findings import Finding
from .observed import Decision
from .traffic import Traffic

# Called while a plan is applied: the number of changes made, and the total.
Progress = Callable[[int, int], None]
Who = Literal["kernel", "keeper", "agent", "hold", "nobody"]
SendPath = Literal["wire", "loopback", "none"]


@dataclass(frozen=True, slots=True)
class SegmentStatus:
    """How one segment is carried; ``send_path`` is an ordinary program's, not the tunnels'.

    ``joined_by`` is autojoin, repaired, peer or socket, or none where the underlay device is not a
    member of the group; ``send_path`` is wire, loopback or none.

    >>> om.SegmentStatus(vlan=10, group="239.1.1.50", joined_by="socket", send_path="wire").vlan
    10
    """

    vlan: int
    group: str
    joined_by: str
    send_path: str

    def to_json(self) -> dict[str, object]:
        """Return one of the ``segments`` of `setup --json`."""
        return {
            "vlan": self.vlan,
            "group": self.group,
            "joined_by": self.joined_by,
            "send_path": self.send_path,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """The result of a run. ``problems`` are findings as text: errors, then warnings.

    ``verified`` is whether everything was read back as desired: warnings do not count.
    ``segments`` are by VNI; ``decision`` is the choice of `auto`, with the evidence. ``findings``
    are the problems with their codes, subjects and the VNIs that each concerns, for programs.

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
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    def __getitem__(self, vni: int) -> SegmentStatus:
        return self.segments[vni]

    @property
    def changed(self) -> bool:
        """Whether the run changed anything on the host."""
        return bool(self.changes)

    def to_json(self) -> dict[str, object]:
        """Return the document of `setup --json`."""
        return {
            "overlay": self.overlay,
            "changed": self.changed,
            "changes": [change.to_json() for change in self.changes],
            "verified": self.verified,
            "segments": {str(vni): seen.to_json() for vni, seen in self.segments.items()},
            "problems": list(self.problems),
            "decision": None if self.decision is None else self.decision.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SegmentDetail(SegmentStatus):
    """How one segment is carried, with the counters of its flows and its learned MACs."""

    traffic: Traffic

    def to_json(self) -> dict[str, object]:
        """Return one of the ``segments`` of `status --json`."""
        return SegmentStatus.to_json(self) | self.traffic.to_json()


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the memberships: the kernel, a process, or nobody."""

    who: Who
    pid: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the ``held_by`` of `status --json`; ``pid`` is null unless it is a process."""
        return {"who": self.who, "pid": self.pid}


@dataclass(frozen=True, slots=True)
class OverlayStatus:
    """One overlay as it is in place. ``problems`` are findings as text: errors, then warnings.

    ``segments`` are by VNI. Where too little of an overlay is left to recover it, all but
    ``overlay``, ``held_by`` and ``problems`` is None or empty.
    """

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
        """Return one of the ``overlays`` of `status --json`."""
        names = ("overlay", "healthy", "underlay", "vtep", "datapath", "bridge", "tunnel_bridge")
        return {
            **{name: getattr(self, name) for name in names},
            "held_by": self.held_by.to_json(),
            "segments": {str(vni): seen.to_json() for vni, seen in self.segments.items()},
            "problems": list(self.problems),
        }
