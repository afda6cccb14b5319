"""What is kept of one overlay on this machine, as `ovs-mcast status` shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from . import checks
from .changes import Plan
from .counters import Traffic
from .joining import method_of
from .model import Overlay
from .state import Observed
from .vtep import vtep_of

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
class KeptSegment:
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
class Kept:
    """One overlay as it is. ``problems`` holds faults, then warnings, which do not count."""

    overlay: str
    healthy: bool
    underlay: str | None = None
    vtep: str | None = None
    datapath: str | None = None
    bridge: str | None = None
    tunnel_bridge: str | None = None
    held_by: Holder = Holder("nobody")
    segments: Mapping[int, KeptSegment] = field(default_factory=dict)
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


def kept(
    overlay: Overlay,
    seen: Observed,
    left: Plan,
    traffic: Mapping[int, Traffic],
    holder: Holder,
) -> Kept:
    """What is there of an overlay, and what is not as it was made: ``left`` would mend it."""
    method = method_of(overlay, seen)
    faults = [str(change) for change in left] + checks.faults(overlay, seen)
    segments = {
        segment.vni: KeptSegment(
            vlan=segment.vlan,
            group=str(segment.flood_group),
            joined_by=method if str(segment.flood_group) in seen.joined else "none",
            send_path=checks.send_path(overlay, seen, segment.flood_group),
            traffic=traffic.get(segment.vni) or Traffic(segment.vlan),
        )
        for segment in overlay.segments
    }
    if not segments:
        faults.append("no segment has a flow: has ovs-vswitchd started anew? Run setup again")
    if method == "socket" and holder.who == "nobody":
        faults.append("no process holds the groups: run setup again")
    return Kept(
        overlay=overlay.name,
        healthy=not faults,
        underlay=overlay.underlay.device,
        vtep=str(vtep_of(overlay, seen)),
        datapath=overlay.datapath,
        bridge=overlay.bridge,
        tunnel_bridge=overlay.tunnel_bridge,
        held_by=holder if method == "socket" else Holder("kernel"),
        segments=segments,
        problems=(*faults, *checks.warnings(overlay, seen)),
    )
