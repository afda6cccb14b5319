"""One machine: observe, plan, apply, verify. Whose turn it is; what they do is elsewhere.

with ovs_mcast.connect() as host:
    for change in host.plan(overlay):
        print(change)
    status = host.reconcile(overlay)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from threading import RLock
from typing import Concatenate, ParamSpec, TypeVar

from ..core.changes import Change, Plan
from ..core.closeable import Closeable
from ..core.incremental import AppliedOverlay
from ..core.model import Overlay, Segment
from ..core.observed import Observed
from ..core.plan import plan_removal
from ..core.status import Progress, Status
from ..errors import ConfigurationError, UnavailableError, VerifyError
from ..membership.keeper import KeeperError
from . import apply as apply_module
from . import incremental
from . import observe as observe_module
from . import reconcile as reconcile_module
from .backend import Backend

LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

PATIENCE = 60.0  # seconds that a run waits for another to end


def _in_turn(method: Callable[Concatenate[Host, _P], _T]) -> Callable[Concatenate[Host, _P], _T]:
    """One call at a time, whatever thread it comes from."""

    @wraps(method)
    def turn(host: Host, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        with host._lock:
            return method(host, *arguments, **named)

    return turn


def _of(status: Status, done: tuple[Change, ...], vnis: tuple[int, ...]) -> Status:
    segments = {vni: seen for vni, seen in status.segments.items() if vni in vnis}
    return replace(status, changes=(*done, *status.changes), segments=segments)


class Host(Closeable):
    """One Open vSwitch and one network namespace; ``connect`` makes one for those of the caller.

    All methods may be called from any thread: one runs at a time, the others wait for it. (`hold`
    has its turn until it holds.) Every method that asks the machine raises UnavailableError where
    Open vSwitch or a privilege is missing.

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
        self._in_place: dict[str, AppliedOverlay] = {}

    @_in_turn
    def close(self) -> None:
        """End the connections; no thread is left, and no group held here."""
        self._in_place.clear()
        self.backend.close()

    @_in_turn
    def hand_over(self) -> None:
        """Leave the groups that this process holds to keepers; none is left in between.

        For an agent that ends and whose overlays are to live on. Nothing happens where a keeper
        holds them already. The next `reconcile` takes them back. UnavailableError names the
        overlays that no keeper could be started for: this process holds their groups on.
        """
        self.backend.hand_over()

    @_in_turn
    def observe(self, overlay: Overlay | str) -> Observed:
        """The machine as it is now, with the flows of this overlay (or of the one so named)."""
        return observe_module.observe(self.backend, overlay)

    @_in_turn
    def plan(self, overlay: Overlay) -> Plan:
        """What `reconcile` would change; changes nothing. ConfigurationError as there."""
        return self.compare(overlay)[1]

    @_in_turn
    def compare(self, overlay: Overlay) -> tuple[Observed, Plan]:
        """The machine as it is, and what `reconcile` would change of it."""
        return observe_module.compare(self.backend, overlay)

    @_in_turn
    def apply(self, changes: Plan, progress: Progress | None = None) -> None:
        """Carry out a plan. ApplyError at the first batch that fails, with what was done."""
        apply_module.apply(self.backend, changes, progress)

    @_in_turn
    def verify(self, overlay: Overlay) -> Status:
        """What is there now, read back; changes nothing."""
        return observe_module.verify(self.backend, overlay)

    @_in_turn
    def reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        """Observe, plan, apply, verify; return what was seen.

        Waits for another run on the same Open vSwitch to end. ConfigurationError before anything
        is touched, ApplyError when a change fails, VerifyError when what is read back is not as
        wanted. Running it again changes nothing, or converges after a failure.
        """
        with self._alone():
            return self._reconcile(overlay, progress)

    def _reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        if overlay.name in self._in_place:
            self._in_place[overlay.name].settled = False
        status, seen = reconcile_module.reconcile(self.backend, overlay, progress)
        self._in_place[overlay.name] = AppliedOverlay(overlay, seen, settled=status.verified)
        if not status.verified:
            raise VerifyError(status.problems, status)
        return status

    @_in_turn
    def overlay(self, name: str | None = None) -> Overlay:
        """The overlay that was put in place last, with the segments that came and went since.

        ``name`` may be left out where this Host has but one. ConfigurationError before `reconcile`.
        """
        return self._placed(name).overlay

    @_in_turn
    def add(self, segment: Segment, *, name: str | None = None) -> Status:
        """Put one segment more in place, in an overlay that `reconcile` has put in place.

        Looks at what concerns the segment alone, so that the cost does not grow with the number of
        segments; where something else is found than is expected, as `reconcile` does. The Status
        has the changes and the one segment. ConfigurationError, with nothing touched, for a VNI or
        VLAN that is there already and whatever else `reconcile` refuses; the other errors as there.
        After an error, but for VerifyError, the segment is not wanted: add it again, or reconcile.
        """
        place = self._placed(name)
        wanted = place.admitted(segment)
        with self._alone():
            try:
                with place.unsettled_by_errors():
                    status = incremental.add(self.backend, place, wanted)
            except incremental.DriftError as error:
                return self._as_a_whole(place, place.grown(wanted), error, wanted.vni)
            place.add(wanted)
            return status

    @_in_turn
    def remove(self, vni: int, *, name: str | None = None) -> Status:
        """Take one segment away, and what it has learned; the cost and the errors are as for `add`.

        ConfigurationError if there is no such segment. The Status has the changes and no segment.
        """
        place = self._placed(name)
        unwanted = place.there(vni)
        with self._alone():
            try:
                with place.unsettled_by_errors():
                    status = incremental.remove(self.backend, place, unwanted)
            except incremental.DriftError as error:
                return self._as_a_whole(place, place.shrunk(vni), error)
            place.discard(unwanted)
            return status

    def _placed(self, name: str | None) -> AppliedOverlay:
        if name is None and len(self._in_place) > 1:
            names = ", ".join(sorted(self._in_place))
            raise ConfigurationError(f"say which overlay: {names}", field="name")
        found = next(iter(self._in_place), None) if name is None else name
        if found is None or found not in self._in_place:
            which = "no overlay" if found is None else f"no overlay {found}"
            raise ConfigurationError(f"{which} was reconciled by this Host", field="name")
        return self._in_place[found]

    def _as_a_whole(
        self, place: AppliedOverlay, overlay: Overlay, error: incremental.DriftError, *vnis: int
    ) -> Status:
        """Reconcile all of it; of the segments tell those alone that were asked for."""
        LOG.debug("the whole is looked at: %s", error)
        before = place.overlay
        try:
            status = self._reconcile(overlay)
        except ConfigurationError:
            if error.done:  # of a segment that cannot be
                self._reconcile(before)
            raise
        except VerifyError as failed:
            if not isinstance(failed.status, Status):
                raise
            raise VerifyError(failed.problems, _of(failed.status, error.done, vnis)) from None
        return _of(status, error.done, vnis)

    @_in_turn
    def teardown(self, name: str, progress: Progress | None = None) -> Status:
        """Remove everything that bears the overlay's mark, and nothing else."""
        with self._alone():
            done, left = reconcile_module.remove(self.backend, name, progress)
            self.backend.keeper(name).end()
            self._in_place.pop(name, None)
        status = Status(name, done, not left, {}, left)
        if left:
            raise VerifyError(left, status)
        return status

    @_in_turn
    def plan_teardown(self, name: str) -> Plan:
        """What `teardown` would remove; changes nothing."""
        return plan_removal(name, self.observe(name))

    @_in_turn
    def overlays(self) -> list[str]:
        """The names of the overlays that have rows in this OVSDB."""
        ovsdb = self.backend.ovsdb
        return sorted(Observed(bridges=ovsdb.bridges(), ports=ovsdb.ports()).overlays())

    def hold(self, overlay: Overlay, ready: Callable[[], None]) -> None:
        """Hold the groups in this process, in place of the keeper, until somebody ends it.

        Returns at once, after ``ready``, when no socket is needed to hold them.
        """
        keeper = self.backend.keeper(overlay.name)
        with ExitStack() as alone:
            alone.enter_context(self._lock)
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self.backend.ovsdb.exclusive(
            PATIENCE,
            on_wait=lambda: LOG.warning(
                "another run of ovs_mcast holds this Open vSwitch: waiting up to %.0f s", PATIENCE
            ),
        ):
            yield
