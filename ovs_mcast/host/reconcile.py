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
from .backend import Backend

LOG = logging.getLogger(__name__)

_ROUNDS = 3  # a change of datapath takes a second look: ovs-vswitchd makes the bridge anew


def reconcile(
    backend: Backend, overlay: Overlay, progress: Progress | None
) -> tuple[Status, Observed]:
    """What was done and read back, verified or not, and what was seen last."""
    backend.keeper(overlay.name).drop_duplicates()
    observe_module.await_detection(backend, overlay)
    decision = _decide(backend, overlay)
    done: tuple[Change, ...] = ()
    for _round in range(_ROUNDS):
        changes, seen, left = _converge(
            backend,
            lambda: _observe_with(backend, overlay, decision),
            lambda seen: plan(overlay, seen),
            progress,
        )
        done += changes
        status = observe_module.verify(backend, overlay, (seen, left))
        status = replace(status, changes=done)
        if status.verified or not observe_module.compare(backend, overlay)[1]:
            break
    return status, seen


def remove(
    backend: Backend, name: str, progress: Progress | None
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Everything of an overlay, removed: what was done, and what is left, as text."""
    done, _seen, left = _converge(
        backend,
        lambda: observe_module.observe(backend, name),
        lambda seen: plan_removal(name, seen),
        progress,
    )
    return done, tuple(str(change) for change in left)


def _observe_with(backend: Backend, overlay: Overlay, decision: Decision | None) -> Observed:
    seen = observe_module.observe(backend, overlay)
    return replace(seen, decision=decision) if decision else seen


def _decide(backend: Backend, overlay: Overlay) -> Decision | None:
    """What `auto` makes of this underlay: looked at once, then kept in external_ids."""
    if overlay.membership != "auto" or not overlay.flood_groups:
        return None
    noted = Observed(bridges=backend.ovsdb.bridges())
    noted = replace(noted, decision=observe_module.decision_of(overlay.name, noted))
    if decided(overlay, noted):
        return noted.decision
    seen = observe_module.observe(backend, overlay)
    vtep = refuse(overlay, seen)
    decision = autodetect.decide(overlay, seen, vtep, backend)
    LOG.info("auto: %s: %s", decision.method, decision.evidence)
    return decision


def _converge(
    backend: Backend,
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
        apply.apply(backend, changes, progress)
        done += changes
        before = changes
    return tuple(done), seen, changes
