"""Observe, plan, apply and verify, until nothing differs: the order of things on one host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from netaddr import IPAddress

from ..core import peers
from ..core.changes import Change, Plan
from ..core.findings import Finding
from ..core.model import Overlay
from ..core.observed import Decision
from ..core.plan import plan_removal
from ..core.preflight import check
from ..core.status import Progress, Status
from ..core.target import Target, decides
from . import apply, autodetect
from .backend import Backend
from .observe import await_detection, compare, observe, observe_for, verify

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_ROUNDS = 3  # a change of datapath needs a second round: ovs-vswitchd makes the bridge anew


def reconcile(
    backend: Backend, overlay: Overlay, progress: Progress | None
) -> tuple[Status, Target]:
    """Return the status, verified or not, and the overlay as last resolved."""
    backend.keeper(overlay.name).drop_duplicates()
    await_detection(backend, overlay)
    decision, undecided = _decide(backend, overlay)
    done: tuple[Change, ...] = ()
    for _round in range(_ROUNDS):
        changes, target, pending = _converge(
            backend, lambda: compare(backend, overlay, decision), progress
        )
        done += changes
        status = replace(verify(backend, overlay, (target, pending)), changes=done)
        if status.verified or not compare(backend, overlay)[1]:
            break
    _resolve_gateways(backend, target)
    if undecided is not None:
        problems = (str(undecided), *status.problems)
        findings = (undecided, *status.findings)
        status = replace(status, verified=False, problems=problems, findings=findings)
    return status, target


def _resolve_gateways(backend: Backend, target: Target) -> None:
    """Have the kernel resolve the gateways to other hosts, whose answers Open vSwitch reads too.

    The userspace datapath loses the first unicast by a gateway for a second, until it has asked.
    """
    if not target.userspace:
        return
    hosts = [peers.FAR[target.overlay.family], *map(IPAddress, target.observed.peers)]
    paths = backend.netlink.look_up(hosts, target.vtep).values()
    backend.netlink.resolve(target.device, peers.gateways(target.device, paths))


def remove(
    backend: Backend, name: str, progress: Progress | None
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Remove everything of an overlay; return the changes, and what is left, as text."""

    def observed() -> tuple[None, Plan]:
        return None, plan_removal(name, observe(backend, name))

    done, _none, left = _converge(backend, observed, progress)
    return done, tuple(str(change) for change in left)


def _decide(backend: Backend, overlay: Overlay) -> tuple[Decision | None, Finding | None]:
    """Return the decision of `auto` for this underlay: tried once, then kept in external_ids.

    Or the finding that kept it from a decision: then the next run tries again.
    """
    if overlay.membership != "auto" or not overlay.flood_groups:
        return None, None
    kept = Decision.of(overlay.name, backend.ovsdb.bridges().values())
    if decides(kept, overlay):
        return kept, None
    target = check(overlay, observe_for(backend, overlay))
    found = autodetect.decide(target, backend)
    if isinstance(found, Finding):
        LOG.info("auto: undecided: %s", found)
        return None, found
    LOG.info("auto: %s: %s", found.method, found.evidence)
    return found, None


def _converge(
    backend: Backend, inspect: Callable[[], tuple[_T, Plan]], progress: Progress | None
) -> tuple[tuple[Change, ...], _T, Plan]:
    """Apply until nothing differs or improves; return the changes, the last result, the rest."""
    done: list[Change] = []
    before: Plan | None = None
    for rounds_left in reversed(range(_ROUNDS + 1)):
        seen, pending = inspect()
        if not pending or pending == before or not rounds_left:
            break
        apply.apply(backend, pending, progress)
        done += pending
        before = pending
    return tuple(done), seen, pending
