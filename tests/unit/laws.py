"""Shared by the laws of plans: the plan of a scene, a complete run, kinds of changes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import assume, event

from ovs_mcast.core.changes import Change, Plan
from ovs_mcast.core.items import Bridge, Route
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan
from ovs_mcast.errors import ConfigurationError

from .memory import after, visible
from .scenes import Scene


def planned(scene: Scene) -> Plan:
    """The plan, of a scene that is not refused."""
    try:
        made = plan(scene.overlay, visible(scene.machine, scene.overlay.name))
    except ConfigurationError as refusal:
        event(f"refused: {refusal.field}")
        assume(False)
        raise
    event("changes: " + ("none" if not made else "some"))
    return made


def settled(overlay: Overlay, machine: Observed) -> Observed:
    """The machine once a run has ended: one round, or two where a bridge changes its datapath.

    Open vSwitch makes such a bridge anew, without its flows, which the second round puts back.
    """
    made = plan(overlay, visible(machine, overlay.name))
    machine = after(machine, made)
    if remade(made):
        machine = after(machine, plan(overlay, visible(machine, overlay.name)))
    return machine


def remade(made: Iterable[Change]) -> set[str]:
    """Return the bridges whose datapath the changes replace."""
    return {
        item.name
        for item, before in ((change.item, change.before) for change in made)
        if isinstance(item, Bridge)
        and isinstance(before, Bridge)
        and item.datapath != before.datapath
    }


def diverted(change: Change) -> bool:
    """Whether the change removes the local route that an address of ours makes for itself."""
    return isinstance(change.item, Route) and change.item.by_address


def handed_on(change: Change) -> bool:
    """Return whether a bridge of ours is kept for the owners of its other ports."""
    item, before = change.item, change.before
    return isinstance(item, Bridge) and isinstance(before, Bridge) and item.owner != before.owner
