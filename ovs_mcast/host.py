"""One machine: observe, plan, apply, verify. Connects the pure core to the adapters.

with ovs_mcast.connect() as host:
    for change in host.plan(overlay):
        print(change)
    status = host.reconcile(overlay)
"""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from netaddr import IPAddress
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_exponential

from . import checks, flows, marks, trial
from .adapters import membership, vswitchd
from .adapters.netlink import Netlink, RefusedError
from .adapters.openflow import OpenFlow, OpenFlowError
from .adapters.ovsdb import Ovsdb, OvsdbError
from .closing import Closing
from .errors import ApplyError, UnavailableError, VerifyError
from .joining import decided, method_of
from .keeper import Keeper, KeeperError
from .model import Overlay
from .plan import batches, expected_flows, plan, plan_removal
from .state import Address, Change, Decision, Flow, Membership, Observed, Plan
from .status import Progress, SegmentStatus, Status

LOG = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a run waits for another to end
_ROUNDS = 3  # a change of datapath takes a second look: ovs-vswitchd makes the bridge anew
_FOLLOW = 5.0  # seconds for Open vSwitch's route table to follow the kernel's addresses


class Host(Closing):
    """One Open vSwitch and the network namespace of the caller. Use it from one thread at a time.

    ``db`` is the OVSDB remote (unix:/run/openvswitch/db.sock); the sockets of ovs-vswitchd are
    looked for in ``rundir``, by default beside a unix: ``db``, else $OVS_RUNDIR. UnavailableError
    if Open vSwitch does not run.
    """

    def __init__(self, db: str | None = None, *, rundir: str | Path | None = None) -> None:
        self._rundir = Path(rundir) if rundir else _rundir_of(db)
        with vswitchd.Vswitchd(self._rundir):
            self._ovsdb = Ovsdb(db or f"unix:{self._rundir}/db.sock")
        self._openflow = OpenFlow(self._rundir)
        self._netlink = Netlink()

    def close(self) -> None:
        """End the connections; no thread is left."""
        self._netlink.close()
        self._ovsdb.close()

    def observe(self, overlay: Overlay | str) -> Observed:
        """The machine as it is now, with the flows of this overlay (or of the one so named)."""
        name = overlay if isinstance(overlay, str) else overlay.name
        seen = Observed(
            bridges=self._ovsdb.bridges(),
            ports=self._ovsdb.ports(),
            addresses=self._netlink.addresses(),
            routes=self._netlink.group_routes(),
            links=self._netlink.links(),
            limits=membership.limits(),
        )
        seen = replace(seen, decision=_decision_of(name, seen), held=self._held(name))
        expected = () if isinstance(overlay, str) else expected_flows(overlay, seen)
        return replace(seen, flows=tuple(self._flows(name, seen, expected)))

    def _held(self, name: str) -> Membership | None:
        keeper = self._keeper(name)
        found = keeper.look()
        return None if found is None else keeper.held(membership.joined(found.device))

    def _keeper(self, name: str) -> Keeper:
        return Keeper(self._rundir, name)

    def _flows(self, name: str, seen: Observed, expected: Sequence[Flow]) -> Iterator[Flow]:
        # Ours are on our own bridges and, with the userspace datapath, on an underlay's.
        for bridge in seen.bridges.values():
            if bridge.owner == name or bridge.datapath == "netdev":
                try:
                    lines = self._openflow.dump(bridge, marks.cookie(name), marks.STATIC_MASK)
                except OpenFlowError as error:
                    raise UnavailableError(
                        f"ovs-vswitchd does not show its flows: {error}"
                    ) from None
                yield from flows.read(bridge.name, lines, expected)

    def plan(self, overlay: Overlay) -> Plan:
        """What `reconcile` would change; changes nothing. ConfigurationError as there."""
        return self.compare(overlay)[1]

    def apply(self, changes: Plan, progress: Progress | None = None) -> None:
        """Carry out a plan. ApplyError at the first batch that fails, with what was done."""
        done: list[Change] = []
        self._prime(changes)
        for where, batch in batches(changes):
            LOG.debug("%s: %d changes", where, len(batch))
            try:
                self._send(changes.overlay, where, batch)
            except RefusedError as error:
                failed = [batch[position] for position, _code in error.errors]
                done += [change for change in batch if change not in failed]
                raise _apply_error(_why(failed[0], error), changes, done, failed) from None
            except (OvsdbError, OpenFlowError, KeeperError) as error:
                raise _apply_error(str(error), changes, done, batch) from None
            done += batch
            if progress is not None:
                progress(len(done), len(changes))

    def _prime(self, changes: Plan) -> None:
        if changes.neighbours:
            with vswitchd.Vswitchd(self._rundir) as control:
                control.set_neighbours(changes.neighbours)

    def _send(self, name: str, where: str, batch: Sequence[Change]) -> None:
        if where == "ovsdb":
            self._ovsdb.apply(batch)
        elif where == "netlink":
            with _held_meanwhile(batch):
                self._netlink.apply(batch)
        elif where == "keeper":
            self._keep(name, batch)
        else:
            name = where.removeprefix("flow ")
            bridge = self._ovsdb.bridges().get(name)
            if bridge is None:
                raise OpenFlowError(f"{name}: the bridge is gone")
            self._openflow.apply(bridge, batch)

    def _keep(self, name: str, batch: Sequence[Change]) -> None:
        for change in batch:
            if change.action == "remove":
                self._keeper(name).end()
            elif isinstance(change.item, Membership):
                self._keeper(name).replace(change.item)

    def hold(self, overlay: Overlay, ready: Callable[[], None]) -> None:
        """Hold the groups in this process, in place of the keeper, until somebody ends it.

        Returns at once, after ``ready``, when no socket is needed to hold them.
        """
        with ExitStack() as alone:
            alone.enter_context(self._alone())
            held = self._held(overlay.name)
            if held is None:
                ready()
                return

            def taken_over() -> None:
                alone.close()
                ready()

            try:
                self._keeper(overlay.name).hold(held, taken_over)
            except KeeperError as error:
                raise UnavailableError(str(error)) from None

    def verify(self, overlay: Overlay) -> Status:
        """What is there now, read back; changes nothing."""
        return self._verify(overlay)

    def _verify(self, overlay: Overlay, *looks: tuple[Observed, Plan]) -> Status:
        """``looks`` are taken first: the machine as seen since its last change, what is left."""
        fresh = iter(looks)
        attempts = Retrying(
            retry=retry_if_result(lambda status: not status.verified),
            wait=wait_exponential(multiplier=0.02, max=0.25),
            stop=stop_after_delay(_FOLLOW if _follows(overlay) else 0),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        status: Status = attempts(
            lambda: self._verify_once(overlay, *(next(fresh, None) or self.compare(overlay)))
        )
        return status

    def compare(self, overlay: Overlay) -> tuple[Observed, Plan]:
        """The machine as it is, and what `reconcile` would change of it."""
        seen = self.observe(overlay)
        return seen, plan(overlay, seen)

    def _verify_once(self, overlay: Overlay, seen: Observed, left: Plan) -> Status:
        seen = self._look(overlay, seen)
        method = method_of(overlay, seen)
        faults = [str(change) for change in left] + checks.faults(overlay, seen)
        segments = {
            segment.vni: SegmentStatus(
                vlan=segment.vlan,
                group=str(segment.flood_group),
                joined_by=method,
                send_path=checks.send_path(overlay, seen, segment.flood_group),
            )
            for segment in overlay.segments
        }
        problems = (*faults, *checks.warnings(overlay, seen))
        return Status(overlay.name, (), not faults, segments, problems, seen.decision)

    def _look(self, overlay: Overlay, seen: Observed) -> Observed:
        groups = overlay.flood_groups
        if overlay.datapath == "netdev":
            with vswitchd.Vswitchd(self._rundir) as control:
                tunnels = control.routes()
        else:
            tunnels = self._netlink.look_up(groups, checks.vtep_of(overlay, seen))
        return replace(
            seen,
            joined=membership.joined(overlay.underlay.device),
            sends=self._netlink.look_up(groups),
            tunnels=tunnels,
        )

    def reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        """Observe, plan, apply, verify; return what was seen.

        Waits for another run on the same Open vSwitch to end. ConfigurationError before anything
        is touched, ApplyError when a change fails, VerifyError when what is read back is not as
        wanted. Running it again changes nothing, or converges after a failure.
        """
        with self._alone():
            self._keeper(overlay.name).settle()
            decision = self._decide(overlay)
            done: tuple[Change, ...] = ()
            for _round in range(_ROUNDS):
                changes, seen, left = self._converge(
                    lambda: self._observe_with(overlay, decision),
                    lambda seen: plan(overlay, seen),
                    progress,
                )
                done += changes
                status = replace(self._verify(overlay, (seen, left)), changes=done)
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
            self._keeper(name).end()
            left = tuple(str(change) for change in changes)
        status = Status(name, done, not left, {}, left)
        if left:
            raise VerifyError(left, status)
        return status

    def _observe_with(self, overlay: Overlay, decision: Decision | None) -> Observed:
        seen = self.observe(overlay)
        return replace(seen, decision=decision) if decision else seen

    def _decide(self, overlay: Overlay) -> Decision | None:
        """What `auto` makes of this underlay: looked at once, then kept in external_ids."""
        if overlay.membership != "auto" or not overlay.flood_groups:
            return None
        noted = Observed(bridges=self._ovsdb.bridges())
        noted = replace(noted, decision=_decision_of(overlay.name, noted))
        if decided(overlay, noted):
            return noted.decision
        seen = self.observe(overlay)
        vtep = checks.refuse(overlay, seen)
        decision = trial.decide(overlay, seen, vtep, self._netlink)
        LOG.info("auto: %s: %s", decision.method, decision.evidence)
        return decision

    def plan_teardown(self, name: str) -> Plan:
        """What `teardown` would remove; changes nothing."""
        return plan_removal(name, self.observe(name))

    def overlays(self) -> list[str]:
        """The names of the overlays that have rows in this OVSDB."""
        seen = Observed(bridges=self._ovsdb.bridges(), ports=self._ovsdb.ports())
        return sorted(seen.overlays())

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
        with self._ovsdb.exclusive(
            PATIENCE,
            on_wait=lambda: LOG.warning(
                "another run of ovs_mcast holds this Open vSwitch: waiting up to %.0f s", PATIENCE
            ),
        ):
            yield


def _decision_of(name: str, seen: Observed) -> Decision | None:
    ours = (bridge for bridge in seen.bridges.values() if bridge.owner == name and bridge.notes)
    return next((Decision.from_notes(bridge.notes) for bridge in ours), None)


@contextmanager
def _held_meanwhile(batch: Sequence[Change]) -> Iterator[None]:
    """Sockets hold the groups whose addresses are replaced: the kernel's own membership ends."""
    groups: defaultdict[str, list[IPAddress]] = defaultdict(list)
    for change in batch:
        item = change.item
        if isinstance(item, Address) and item.autojoin and change.before is not None:
            groups[item.device].append(IPAddress(item.address))
    with ExitStack() as held:
        for device, replaced in groups.items():
            one = held.enter_context(membership.Memberships(device))
            with suppress(UnavailableError):  # a courtesy to the groups' traffic
                one.join(replaced)
        yield


def connect(db: str | None = None, *, rundir: str | Path | None = None) -> Host:
    """A Host for the Open vSwitch of this machine ($OVS_RUNDIR is honoured); see Host."""
    return Host(db, rundir=rundir)


def _follows(overlay: Overlay) -> bool:
    """Whether something comes after the change: Open vSwitch's routes, or an IPv6 local route."""
    return overlay.datapath == "netdev" or overlay.family == 6


def _rundir_of(db: str | None) -> Path:
    if db is not None and db.startswith("unix:"):
        return Path(db.removeprefix("unix:")).parent
    return vswitchd.run_directory()


def _apply_error(
    message: str, changes: Plan, done: Sequence[Change], failed: Sequence[Change]
) -> ApplyError:
    tried = {id(change) for change in (*done, *failed)}
    pending = [change for change in changes if id(change) not in tried]
    counts = f"{len(done)} done, {len(failed)} failed, {len(pending)} pending: run again"
    return ApplyError(f"{message} ({counts})", done=done, failed=failed, pending=pending)


def _why(change: Change, error: RefusedError) -> str:
    code = error.errors[0][1]
    message = f"{change.action} {change.kind} {change.item.target}: {error}"
    if code == errno.ENOBUFS:
        return f"{message}: no more autojoin groups; raise net.ipv4.igmp_max_memberships"
    return message
