"""Carry out a plan on a host, in its order; report the changes done, failed and not tried."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from netaddr import IPAddress

from ..adapters.openflow import OpenFlowError
from ..adapters.ovsdb.transaction import OvsdbError
from ..adapters.rtnetlink.client import RefusedError
from ..core.changes import Batch, Change, Plan
from ..core.items import Address, GroupMembership
from ..core.status import Progress
from ..errors import ApplyError, UnavailableError
from ..membership.keeper import KeeperError
from .backend import Backend, Keeper

LOG = logging.getLogger(__name__)


def apply(
    backend: Backend,
    plan: Plan,
    progress: Progress | None = None,
    *,
    single_segment: bool = False,
) -> None:
    """Carry out a plan. ApplyError at the first batch that fails, with the changes made.

    ``single_segment`` is for the plan of one segment: the keeper joins or leaves single groups, and
    an address or route that is there already is refused.
    """
    done: list[Change] = []
    if plan.neighbours:
        with backend.vswitchd() as control:
            control.set_neighbours(plan.neighbours)
    for batch in plan.batches():
        LOG.debug("%s: %d changes", batch, len(batch.changes))
        try:
            _send(backend, plan.overlay, batch, single_segment=single_segment)
        except RefusedError as error:
            failed = [batch.changes[position] for position, _code in error.errors]
            done += [change for change in batch.changes if change not in failed]
            raise _apply_error(_refusal_text(failed[0], error), plan, done, failed) from None
        except (OvsdbError, OpenFlowError, KeeperError) as error:
            raise _apply_error(str(error), plan, done, batch.changes) from None
        done += batch.changes
        if progress is not None:
            progress(len(done), len(plan))


def _send(backend: Backend, overlay: str, batch: Batch, *, single_segment: bool) -> None:
    match batch.destination:
        case "ovsdb":
            _commit(backend, batch.changes)
        case "netlink":
            with _hold_replaced(backend, batch.changes):
                backend.netlink.apply(batch.changes, exclusive=single_segment)
        case "keeper":
            keeper = backend.keeper(overlay)
            for change in batch.changes:
                (_join_or_leave if single_segment else _replace_or_end)(keeper, change)
        case "openflow":
            bridge = backend.ovsdb.bridges().get(batch.bridge or "")
            if bridge is None:
                raise OpenFlowError(f"{batch.bridge}: the bridge is gone")
            backend.openflow.apply(bridge, batch.changes)


def _commit(backend: Backend, batch: Sequence[Change]) -> None:
    """Commit one transaction; if it is not followed, find out whether ovs-vswitchd runs at all."""
    try:
        backend.ovsdb.apply(batch)
    except UnavailableError:
        with backend.vswitchd():
            raise


def _replace_or_end(keeper: Keeper, change: Change) -> None:
    if change.action == "remove":
        keeper.end()
    elif isinstance(change.item, GroupMembership):
        keeper.replace(change.item)


def _join_or_leave(keeper: Keeper, change: Change) -> None:
    assert isinstance(change.item, GroupMembership)
    for group in change.item.groups:
        (keeper.leave if change.action == "remove" else keeper.join)(change.item.device, group)


@contextmanager
def _hold_replaced(backend: Backend, batch: Sequence[Change]) -> Iterator[None]:
    """Hold with sockets the groups whose addresses are replaced: their own membership ends."""
    groups: defaultdict[str, list[IPAddress]] = defaultdict(list)
    for change in batch:
        item = change.item
        if isinstance(item, Address) and item.autojoin and change.before is not None:
            groups[item.device].append(IPAddress(item.address))
    with ExitStack() as held:
        for device, replaced in groups.items():
            one = held.enter_context(backend.memberships(device))
            with suppress(UnavailableError):  # best effort: it spares the groups' traffic a gap
                one.join(replaced)
        yield


def _apply_error(
    message: str, plan: Plan, done: Sequence[Change], failed: Sequence[Change]
) -> ApplyError:
    tried = {id(change) for change in (*done, *failed)}
    pending = [change for change in plan if id(change) not in tried]
    counts = f"{len(done)} done, {len(failed)} failed, {len(pending)} pending: run again"
    return ApplyError(f"{message} ({counts})", done=done, failed=failed, pending=pending)


def _refusal_text(change: Change, error: RefusedError) -> str:
    code = error.errors[0][1]
    message = f"{change.action} {change.kind} {change.item.target}: {error}"
    if code == errno.ENOBUFS:
        return f"{message}: no more autojoin groups; raise net.ipv4.igmp_max_memberships"
    if code == errno.EADDRINUSE and isinstance(change.item, Address):
        # inet6_addr_add() joins before it adds, addrconf_ifdown() takes away without leaving.
        device = change.item.device
        return (
            f"{message}: {device} lost this address when it went down, and the kernel holds the "
            f"membership on; only a new {device} gets it back. --membership socket on the system "
            f"datapath does without; net.ipv6.conf.{device}.keep_addr_on_down=1 keeps addresses"
        )
    return message
