"""Observe, plan, apply and verify, until nothing differs: the order of things on one machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..core.changes import Change, Plan
from ..core.model import Overlay
from ..core.observed import Decision, Observed
from ..core.plan import plan, plan_removal
from ..core.preflight import refuse
from ..core.status import Progress, Status
from ..core.target import decided
from . import apply, autodetect
from . import observe as observe_module
from .backend import Machine

LOG = logging.getLogger(__name__)

_ROUNDS = 3  # a change of datapath takes a second look: ovs-vswitchd makes the bridge anew


def reconcile(
    machine: Machine, overlay: Overlay, progress: Progress | None
) -> tuple[Status, Observed]:
    """What was done and read back, verified or not, and what was seen last."""
    machine.keeper(overlay.name).settle()
    observe_module.await_detection(machine, overlay)
    decision = _decide(machine, overlay)
    done: tuple[Change, ...] = ()
    for _round in range(_ROUNDS):
        changes, seen, left = _converge(
            machine,
            lambda: _observe_with(machine, overlay, decision),
            lambda seen: plan(overlay, seen),
            progress,
        )
        done += changes
        status = observe_module.verify(machine, overlay, (seen, left))
        status = replace(status, changes=done)
        if status.verified or not observe_module.compare(machine, overlay)[1]:
            break
    return status, seen


def remove(
    machine: Machine, name: str, progress: Progress | None
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Everything of an overlay, removed: what was done, and what is left, as text."""
    done, _seen, left = _converge(
        machine,
        lambda: observe_module.observe(machine, name),
        lambda seen: plan_removal(name, seen),
        progress,
    )
    return done, tuple(str(change) for change in left)


def _observe_with(machine: Machine, overlay: Overlay, decision: Decision | None) -> Observed:
    seen = observe_module.observe(machine, overlay)
    return replace(seen, decision=decision) if decision else seen


def _decide(machine: Machine, overlay: Overlay) -> Decision | None:
    """What `auto` makes of this underlay: looked at once, then kept in external_ids."""
    if overlay.membership != "auto" or not overlay.flood_groups:
        return None
    noted = Observed(bridges=machine.ovsdb.bridges())
    noted = replace(noted, decision=observe_module.decision_of(overlay.name, noted))
    if decided(overlay, noted):
        return noted.decision
    seen = observe_module.observe(machine, overlay)
    vtep = refuse(overlay, seen)
    decision = autodetect.decide(overlay, seen, vtep, machine)
    LOG.info("auto: %s: %s", decision.method, decision.evidence)
    return decision


def _converge(
    machine: Machine,
    observe: Callable[[], Observed],
    make_plan: Callable[[Observed], Plan],
    progress: Progress | None,
) -> tuple[tuple[Change, ...], Observed, Plan]:
    """Apply until nothing differs or gets better: done, what is there, what is left."""
    done: list[Change] = []
    before: Plan | None = None
    for rounds_left in reversed(range(_ROUNDS + 1)):
        seen = observe()
        changes = make_plan(seen)
        if not changes or changes == before or not rounds_left:
            break
        apply.apply(machine, changes, progress)
        done += changes
        before = changes
    return tuple(done), seen, changes
