"""One machine: observe, plan, apply, verify. The order of things; what they do is elsewhere.

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
from pathlib import Path

from . import applying, checks, observing, trial
from .closing import Closing
from .errors import UnavailableError, VerifyError
from .joining import decided
from .keeper import KeeperError
from .machine import Holding, Machine, this_machine
from .model import Overlay
from .plan import plan, plan_removal
from .state import Change, Decision, Observed, Plan
from .status import Progress, Status

LOG = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run waits for another to end
_ROUNDS = 3  # a change of datapath takes a second look: ovs-vswitchd makes the bridge anew


class Host(Closing):
    """One Open vSwitch and one network namespace. Use it from one thread at a time.

    ``connect`` makes one for the machine of the caller.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def close(self) -> None:
        """End the connections; no thread is left, and no group held here."""
        self.machine.close()

    def hand_over(self) -> None:
        """Leave the groups that this process holds to keepers; none is left in between.

        For an agent that ends and whose overlays are to live on. Nothing happens where a keeper
        holds them already. The next `reconcile` takes them back.
        """
        self.machine.hand_over()

    def observe(self, overlay: Overlay | str) -> Observed:
        """The machine as it is now, with the flows of this overlay (or of the one so named)."""
        return observing.observe(self.machine, overlay)

    def plan(self, overlay: Overlay) -> Plan:
        """What `reconcile` would change; changes nothing. ConfigurationError as there."""
        return self.compare(overlay)[1]

    def compare(self, overlay: Overlay) -> tuple[Observed, Plan]:
        """The machine as it is, and what `reconcile` would change of it."""
        return observing.compare(self.machine, overlay)

    def apply(self, changes: Plan, progress: Progress | None = None) -> None:
        """Carry out a plan. ApplyError at the first batch that fails, with what was done."""
        applying.apply(self.machine, changes, progress)

    def verify(self, overlay: Overlay) -> Status:
        """What is there now, read back; changes nothing."""
        return observing.verify(self.machine, overlay)

    def reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        """Observe, plan, apply, verify; return what was seen.

        Waits for another run on the same Open vSwitch to end. ConfigurationError before anything
        is touched, ApplyError when a change fails, VerifyError when what is read back is not as
        wanted. Running it again changes nothing, or converges after a failure.
        """
        with self._alone():
            self.machine.keeper(overlay.name).settle()
            decision = self._decide(overlay)
            done: tuple[Change, ...] = ()
            for _round in range(_ROUNDS):
                changes, seen, left = self._converge(
                    lambda: self._observe_with(overlay, decision),
                    lambda seen: plan(overlay, seen),
                    progress,
                )
                done += changes
                status = observing.verify(self.machine, overlay, (seen, left))
                status = replace(status, changes=done)
                if status.verified or not self.plan(overlay):
                    break
        if not status.verified:
            raise VerifyError(status.problems, status)
        return status

    def teardown(self, name: str, progress: Progress | None = None) -> Status:
        """Remove everything that bears the overlay's mark, and nothing else."""
        with self._alone():
            done, _seen, changes = self._converge(
                lambda: self.observe(name), lambda seen: plan_removal(name, seen), progress
            )
            self.machine.keeper(name).end()
            left = tuple(str(change) for change in changes)
        status = Status(name, done, not left, {}, left)
        if left:
            raise VerifyError(left, status)
        return status

    def plan_teardown(self, name: str) -> Plan:
        """What `teardown` would remove; changes nothing."""
        return plan_removal(name, self.observe(name))

    def overlays(self) -> list[str]:
        """The names of the overlays that have rows in this OVSDB."""
        ovsdb = self.machine.ovsdb
        return sorted(Observed(bridges=ovsdb.bridges(), ports=ovsdb.ports()).overlays())

    def hold(self, overlay: Overlay, ready: Callable[[], None]) -> None:
        """Hold the groups in this process, in place of the keeper, until somebody ends it.

        Returns at once, after ``ready``, when no socket is needed to hold them.
        """
        keeper = self.machine.keeper(overlay.name)
        with ExitStack() as alone:
            alone.enter_context(self._alone())
            held = keeper.held(self.machine.joined)
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

    def _observe_with(self, overlay: Overlay, decision: Decision | None) -> Observed:
        seen = self.observe(overlay)
        return replace(seen, decision=decision) if decision else seen

    def _decide(self, overlay: Overlay) -> Decision | None:
        """What `auto` makes of this underlay: looked at once, then kept in external_ids."""
        if overlay.membership != "auto" or not overlay.flood_groups:
            return None
        noted = Observed(bridges=self.machine.ovsdb.bridges())
        noted = replace(noted, decision=observing.decision_of(overlay.name, noted))
        if decided(overlay, noted):
            return noted.decision
        seen = self.observe(overlay)
        vtep = checks.refuse(overlay, seen)
        decision = trial.decide(overlay, seen, vtep, self.machine)
        LOG.info("auto: %s: %s", decision.method, decision.evidence)
        return decision

    def _converge(
        self,
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
            self.apply(changes, progress)
            done += changes
            before = changes
        return tuple(done), seen, changes

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self.machine.ovsdb.exclusive(
            PATIENCE,
            on_wait=lambda: LOG.warning(
                "another run of ovs_mcast holds this Open vSwitch: waiting up to %.0f s", PATIENCE
            ),
        ):
            yield


def connect(
    db: str | None = None, *, rundir: str | Path | None = None, holding: Holding = "keeper"
) -> Host:
    """A Host for the Open vSwitch of this machine and the network namespace of the caller.

    ``db`` is the OVSDB remote (unix:/run/openvswitch/db.sock); the sockets of ovs-vswitchd are
    looked for in ``rundir``, by default beside a unix: ``db``, else $OVS_RUNDIR. UnavailableError
    if Open vSwitch does not run.

    ``holding`` says who holds the groups where sockets do: "keeper", a process that is left behind
    and lives on after `close`; or "here", this process, until `close` or `hand_over`.
    """
    return Host(this_machine(db, rundir, holding))
