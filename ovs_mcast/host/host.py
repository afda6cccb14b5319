"""Public facade of one host: locking and delegation; the work is in observe, plan, apply, verify.

with ovs_mcast.connect() as host:
    for change in host.plan(overlay):
        print(change)
    status = host.reconcile(overlay)
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from threading import RLock
from typing import Concatenate, ParamSpec, TypeVar
from weakref import finalize

from ..core.changes import Change, Plan
from ..core.closeable import Closeable
from ..core.incremental import AppliedOverlay
from ..core.model import Overlay, Segment
from ..core.observed import Observed, owners
from ..core.plan import plan_removal
from ..core.status import Progress, Status
from ..errors import ClosedError, ConfigurationError, UnavailableError, VerifyError
from ..membership.keeper import KeeperError
from . import apply, incremental, observe, reconcile, segments
from .backend import Backend

LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

PATIENCE = 60.0  # seconds that a run waits for another to end
_LONG = 2.0  # seconds of it that deserve a warning
_WAITS = "another run of ovs_mcast holds this Open vSwitch: waiting up to %.0f s"
_CLOSED = "this Host is closed: connect anew"


def _in_turn(method: Callable[Concatenate[Host, _P], _T]) -> Callable[Concatenate[Host, _P], _T]:
    """Let one call run at a time, from any thread."""

    @wraps(method)
    def turn(host: Host, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        host._refuse_child()  # whose lock may never be released
        with host._lock:
            if host._closing:
                raise ClosedError(_CLOSED)
            with host.backend.namespace():
                return method(host, *arguments, **named)

    return turn


def _restricted(status: Status, done: tuple[Change, ...], vnis: tuple[int, ...]) -> Status:
    segments = {vni: seen for vni, seen in status.segments.items() if vni in vnis}
    return replace(status, changes=(*done, *status.changes), segments=segments)


def _abandoned(backend: Backend) -> None:
    """Close what a Host has left open."""
    warnings.warn("a Host was never closed", ResourceWarning, stacklevel=2)
    backend.close()


class Host(Closeable):
    """One Open vSwitch and one network namespace; ``connect`` makes one for those of the caller.

    All methods may be called from any thread: one runs at a time, the others wait for it. (`hold`
    has its turn until it holds.) Every method that reads the host raises UnavailableError where
    Open vSwitch or a privilege is missing. After `close`, and in a forked child, every method
    raises ClosedError.

    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"),
    ...                      segments=[om.Segment(vni=100, group="239.0.0.1")])
    >>> with om.connect() as host:
    ...     for change in host.plan(overlay):
    ...         pass  # print(change)
    ...     status = host.reconcile(overlay)  # observe, plan, apply, verify
    ...     added = host.add(om.Segment(vni=101, group="239.0.0.2"))
    ...     print(status[100].joined_by, status[100].send_path, added[101].group)
    ...     removed = host.remove(101)
    ...     print([segment.vni for segment in host.overlay().segments])
    ...     gone = host.teardown("default")
    socket wire 239.0.0.2
    [100]
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._lock = RLock()
        self._applied: dict[str, AppliedOverlay] = {}
        self._process, self._closing, self._closed = os.getpid(), False, False
        self._finalizer = finalize(self, _abandoned, backend) if backend.connected else None
        if self._finalizer is not None:
            self._finalizer.atexit = False

    def close(self) -> None:
        """End the connections; no thread is left, and no group held here.

        Another thread's call that waits for another run ends with ClosedError, as every later call
        does. Nothing happens in a forked child: what it has is its parent's.
        """
        if os.getpid() != self._process:
            return
        self._closing = True
        with self._lock:
            if self._closed:
                return
            if self._finalizer is not None:
                self._finalizer.detach()
            self._closed = True
            self._applied.clear()
            self.backend.close()

    @_in_turn
    def hand_over(self) -> None:
        """Hand the groups that this process holds over to keepers, without leaving a group.

        For an agent that ends while its overlays live on. Nothing happens where a keeper
        holds them already. The next `reconcile` takes them back. UnavailableError names the
        overlays for which no keeper could be started: this process continues to hold their groups.
        """
        self.backend.hand_over()

    @_in_turn
    def observe(self, overlay: Overlay | str) -> Observed:
        """Return the host as it is now, with the flows of this overlay (or of the one so named)."""
        return observe.observe(self.backend, overlay)

    @_in_turn
    def plan(self, overlay: Overlay) -> Plan:
        """Return what `reconcile` would change; changes nothing. ConfigurationError as there."""
        return observe.compare(self.backend, overlay)[1]

    @_in_turn
    def compare(self, overlay: Overlay) -> tuple[Observed, Plan]:
        """Return the host as it is, and what `reconcile` would change of it."""
        target, changes = observe.compare(self.backend, overlay)
        return target.observed, changes

    @_in_turn
    def apply(self, changes: Plan, progress: Progress | None = None) -> None:
        """Carry out a plan. ApplyError at the first batch that fails, with the changes made."""
        apply.apply(self.backend, changes, progress)

    @_in_turn
    def verify(self, overlay: Overlay) -> Status:
        """Return what is in place, read back; changes nothing."""
        return observe.verify(self.backend, overlay)

    @_in_turn
    def reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        """Observe, plan, apply, verify; return the status.

        Waits for another run on the same Open vSwitch to end. ConfigurationError before anything
        is touched, ApplyError when a change fails, VerifyError when what is read back is not as
        desired. UnavailableError where an agent keeps the overlay and there is something to change.
        Running it again changes nothing, or converges after a failure.
        """
        with self._alone():
            self._refuse_beside_agent(overlay.name, lambda: self.plan(overlay))
            return self._reconcile(overlay, progress)

    def _reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        if overlay.name in self._applied:
            self._applied[overlay.name].in_sync = False
        status, target = reconcile.reconcile(self.backend, overlay, progress)
        self._applied[overlay.name] = segments.applied(self.backend, target, status)
        if not status.verified:
            raise VerifyError(status.problems, status)
        return status

    @_in_turn
    def overlay(self, name: str | None = None) -> Overlay:
        """Return the desired overlay of this machine, as any process left it.

        The tunnel bridge keeps it. ``name`` may be left out where this Host has reconciled but one,
        or where there is but one. ConfigurationError where there is none.
        """
        return segments.overlay(self.backend, self._applied, name)

    @_in_turn
    def add(self, segment: Segment, *, name: str | None = None) -> Status:
        """Let the overlay have this segment, in place of that of the same VNI if there is one.

        The overlay is one of this machine, whoever put it in place; all its other segments stay,
        those that other processes add too. Calling it again changes nothing.
        Observes the state of the segment alone, so that the cost does not grow with the number
        of segments; where the host is not as expected, the whole is reconciled. The Status has the
        changes and the one segment. ConfigurationError, with nothing touched, for a VLAN
        in use and for whatever `reconcile` refuses; the other errors as there. After an
        error the segment may be desired already: add it again, or remove it.
        """
        with self._alone():
            applied = segments.find(self.backend, self._applied, name)
            after = applied.admit(segment)
            return self._change(applied, applied.get(after.vni), after)

    @_in_turn
    def remove(self, vni: int, *, name: str | None = None) -> Status:
        """Remove one segment and its learned flows; the cost and the errors are as for `add`.

        ConfigurationError if there is no such segment. The Status has the changes and no segment.
        """
        with self._alone():
            applied = segments.find(self.backend, self._applied, name)
            return self._change(applied, applied.segment(vni), None)

    def _change(
        self, applied: AppliedOverlay, before: Segment | None, after: Segment | None
    ) -> Status:
        """Put one segment in place of another; None for none."""
        if before != after:
            self._refuse_beside_agent(applied.overlay_name, lambda: True)
        try:
            with applied.out_of_sync_on_error():
                status = incremental.change(self.backend, applied, before, after)
        except incremental.DriftError as drift:
            vnis = () if after is None else (after.vni,)
            return self._reconcile_whole(applied, applied.with_change(before, after), drift, *vnis)
        applied.changed(before, after)
        return status

    def _reconcile_whole(
        self, applied: AppliedOverlay, overlay: Overlay, drift: incremental.DriftError, *vnis: int
    ) -> Status:
        """Reconcile the whole overlay; return the status of the named segments alone."""
        LOG.debug("reconcile the whole overlay: %s", drift)
        before = applied.overlay
        try:
            status = self._reconcile(overlay)
        except ConfigurationError:
            if drift.done:  # of a segment that is refused
                self._reconcile(before)
            raise
        except VerifyError as failed:
            if failed.status is None:
                raise
            raise VerifyError(
                failed.problems, _restricted(failed.status, drift.done, vnis)
            ) from None
        return _restricted(status, drift.done, vnis)

    @_in_turn
    def teardown(self, name: str, progress: Progress | None = None) -> Status:
        """Remove everything that bears the overlay's mark, and nothing else."""
        with self._alone():
            self._refuse_beside_agent(name, lambda: self.plan_teardown(name))
            done, left = reconcile.remove(self.backend, name, progress)
            self.backend.keeper(name).end()
            self._applied.pop(name, None)
        status = Status(name, done, not left, {}, left)
        if left:
            raise VerifyError(left, status)
        return status

    @_in_turn
    def plan_teardown(self, name: str) -> Plan:
        """Return what `teardown` would remove; changes nothing."""
        return plan_removal(name, self.observe(name))

    @_in_turn
    def overlays(self) -> list[str]:
        """Return the names of the overlays that have rows in this OVSDB."""
        ovsdb = self.backend.ovsdb
        return sorted(owners((*ovsdb.bridges().values(), *ovsdb.ports().values())))

    def hold(self, overlay: Overlay, ready: Callable[[], None]) -> None:
        """Hold the groups in this process, in place of the keeper, until a signal or a run ends it.

        Returns at once, after ``ready``, when no socket is needed to hold them.
        """
        self._refuse_child()
        keeper = self.backend.keeper(overlay.name)
        with ExitStack() as alone:
            alone.enter_context(self._lock)
            if self._closing:
                raise ClosedError(_CLOSED)
            alone.enter_context(self.backend.namespace())
            alone.enter_context(self._alone())
            held = keeper.held(self.backend.joined)
            if held is None:
                ready()
                return

            def taken_over() -> None:
                alone.close()
                ready()

            try:
                keeper.hold(held, taken_over)
            except KeeperError as error:
                raise UnavailableError(str(error)) from None

    def _refuse_beside_agent(self, name: str, changes: Callable[[], object]) -> None:
        """Refuse changes, if there are any, of an overlay that an agent would take back."""
        agent = self.backend.agent(name)
        if agent is not None and changes():
            raise agent

    def _refuse_child(self) -> None:
        if os.getpid() != self._process:
            raise ClosedError(
                f"this Host is of process {self._process}, which forked this one: connect anew"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        levels = [logging.WARNING, logging.INFO]  # a long wait, and a wait

        def on_wait(seconds: float) -> None:
            if self._closing:
                raise ClosedError(_CLOSED)
            if levels and (seconds >= _LONG or len(levels) > 1):
                LOG.log(levels.pop(), _WAITS, PATIENCE)

        with self.backend.ovsdb.exclusive(PATIENCE, on_wait):
            yield
