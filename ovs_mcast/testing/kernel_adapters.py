"""The kernel behind a FakeHost: netlink, and sockets that join; with faults."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from netaddr import IPAddress

from ..adapters.rtnetlink.client import RefusedError
from ..core.changes import Change
from ..core.closeable import Closeable
from ..core.items import Address, GroupMembership, Route
from ..core.observed import Link, RoutePath
from ..core.status import Holder
from ..errors import UnavailableError
from ..membership.keeper import KeeperError
from .events import FakeProcessEnd
from .host_routes import refused
from .system import FakeSystem

_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV})
_PID = 1  # of any process on the machine


class FakeNetlink:
    """backend.Netlink."""

    def __init__(self, system: FakeSystem) -> None:
        self._system, self._linux = system, system.linux

    def links(self) -> dict[str, Link]:
        """Return every device by name."""
        return dict(self._linux.links)

    def addresses(self) -> tuple[Address, ...]:
        """Return every address of every device, in the order of the devices."""
        order = {name: place for place, name in enumerate(self._linux.indexes)}
        return tuple(sorted(self._linux.addresses.values(), key=lambda item: order[item.device]))

    def group_routes(self) -> tuple[Route, ...]:
        """Return the host routes to groups."""
        return self._linux.routes

    def link(self, name: str) -> Link | None:
        """Return one device."""
        return self._linux.links.get(name)

    def group_route(self, group: IPAddress) -> Route | None:
        """Return the host route to the group."""
        return self._linux.route_to(str(group))

    def look_up(
        self, groups: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Return the path of a packet to each group."""
        return self._linux.look_up(groups, source)

    def resolve(self, device: str, neighbours: Sequence[IPAddress]) -> None:
        """Ask nobody: no frame passes here."""

    def apply(self, changes: Sequence[Change], *, exclusive: bool = False) -> None:
        """Apply one batch; the kernel makes every change that it does not refuse."""
        faults = self._system.faults
        if faults.strikes("not-permitted"):
            raise UnavailableError(
                "changing addresses needs CAP_NET_ADMIN: run as root", reason="privilege"
            )
        errors: list[tuple[int, int]] = []
        with self._system.lock:
            for position, change in enumerate(changes[: faults.cut(len(changes), whole=False)]):
                try:
                    self._make(change, exclusive)
                except OSError as error:
                    errors.append((position, error.errno or errno.EINVAL))
                else:
                    self._system.made.append(change)
            self._system.feed.publish()
            faults.made(len(changes))
        if errors:
            raise RefusedError(errors)

    def _make(self, change: Change, exclusive: bool) -> None:
        """Make one change; remove what it replaces first; tolerate what is done already."""
        new = change.action != "remove"
        joins = new and isinstance(change.item, Address)
        if joins and self._system.faults.strikes("address-refused"):
            raise refused(errno.ENOBUFS)
        try:
            if change.before is not None or not new:
                self._remove(change.before or change.item)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        try:
            if new:
                self._add(change.item)
        except OSError as error:
            if exclusive or error.errno != errno.EEXIST:
                raise

    def _add(self, item: object) -> None:
        if isinstance(item, Address):
            self._linux.add_address(item)
        elif isinstance(item, Route):
            self._linux.add_route(item)

    def _remove(self, item: object) -> None:
        if isinstance(item, Address):
            self._linux.remove_address(item)
        elif isinstance(item, Route):
            self._linux.remove_route(item)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class FakeMemberships(Closeable):
    """backend.Joining: temporary memberships."""

    def __init__(self, system: FakeSystem, device: str) -> None:
        self._system, self._device = system, device

    def join(self, groups: Iterable[IPAddress]) -> None:
        """Join each group."""
        if self._system.faults.strikes("join-refused"):
            raise UnavailableError(f"cannot join on {self._device}: No buffer space available")
        try:
            self._system.linux.join(self, self._device, map(str, groups))
        except OSError as error:
            raise UnavailableError(f"cannot join on {self._device}: {error.strerror}") from None

    def close(self) -> None:
        """Leave all groups."""
        self._system.linux.leave(self)


class FakeKeeper:
    """backend.Keeper: one for each overlay, on as many sockets as it takes."""

    def __init__(self, system: FakeSystem, overlay: str, *, in_process: bool = False) -> None:
        self._system, self._overlay, self._in_process = system, overlay, in_process

    def held(self, joined: Callable[[str], frozenset[str]]) -> GroupMembership | None:
        """Return the groups held; no group of a device that was made anew."""
        membership = self._system.keepers.get(self._overlay)
        if membership is None:
            return None
        device = membership.device
        if self._system.linux.indexes.get(device) != self._system.indexes[self._overlay]:
            return GroupMembership(device, ())
        there = joined(device)
        return GroupMembership(device, tuple(g for g in membership.groups if g in there))

    def replace(self, membership: GroupMembership) -> None:
        """Hold these groups instead of the present ones."""
        if self._system.faults.strikes("join-refused"):
            raise KeeperError(f"cannot join on {membership.device}: No buffer space available")
        change = Change("update", membership, "kept")
        self._system.make([change], lambda _batch: self._replace_sockets(membership))

    def join(self, device: str, group: str) -> None:
        """Hold one more group."""
        there = self._serving(device)
        if self._system.faults.strikes("join-refused"):
            raise KeeperError(f"cannot join {group} on {device}: No buffer space available")
        self._change_groups("add", device, group, (*there.groups, group))

    def leave(self, device: str, group: str) -> None:
        """Release one group."""
        there = self._serving(device)
        self._change_groups("remove", device, group, [one for one in there.groups if one != group])

    def hold(self, membership: GroupMembership, ready: Callable[[], None]) -> None:
        """Hold the groups until another thread replaces or ends this keeper."""
        self.replace(membership)
        mine = self._system.keepers[self._overlay]
        ready()
        with self._system.keeper_changed:
            self._system.keeper_changed.wait_for(
                lambda: self._system.keepers.get(self._overlay) is not mine
            )

    def drop_duplicates(self) -> None:
        """Take over the groups of a process; there are never two keepers."""
        if self._in_process and self._overlay in self._system.keepers:
            self._system.in_process.add(self._overlay)

    def holder(self) -> Holder:
        """Return the process that holds the groups: an agent, or the keeper's."""
        if self._overlay not in self._system.keepers:
            return Holder("nobody")
        return Holder("agent" if self._overlay in self._system.in_process else "keeper", _PID)

    def process_end(self) -> FakeProcessEnd | None:
        """Open the end of the keeper's process."""
        held = self._overlay in self._system.keepers
        if not held or self._overlay in self._system.in_process:
            return None
        return self._system.feed.process_end(self._overlay, _PID)

    def end(self) -> None:
        """Release all groups."""
        held = self._system.keepers.get(self._overlay)
        if held is not None:
            change = Change("remove", held, "not wanted")
            self._system.make([change], lambda _batch: self._system.kill_keeper(self._overlay))

    def _serving(self, device: str) -> GroupMembership:
        there = self._system.keepers.get(self._overlay)
        index = self._system.linux.indexes.get(device)
        if there is None or index != self._system.indexes[self._overlay]:
            raise KeeperError(f"no keeper holds groups of {device}")
        return there

    def _change_groups(
        self, action: Literal["add", "remove"], device: str, group: str, groups: Iterable[str]
    ) -> None:
        change = Change(action, GroupMembership(device, (group,)), "one of several")
        held = GroupMembership(device, tuple(sorted(set(groups), key=IPAddress)))
        self._system.make([change], lambda _batch: self._replace_sockets(held))

    def _replace_sockets(self, membership: GroupMembership) -> None:
        system = self._system
        try:
            system.linux.join((self._overlay, "new"), membership.device, membership.groups)
        except OSError as error:
            raise KeeperError(f"cannot join on {membership.device}: {error.strerror}") from None
        with system.keeper_changed:
            held = system.linux.sockets.pop((self._overlay, "new"))
            system.linux.sockets[self._overlay] = held
            system.keepers[self._overlay] = membership
            system.indexes[self._overlay] = system.linux.indexes[membership.device]
            system.keeper_changed.notify_all()
            if self._in_process:
                system.in_process.add(self._overlay)
            else:
                system.in_process.discard(self._overlay)
                system.feed.entry(f"ovs-mcast-{self._overlay}.keeper")


class FakeKeepers:
    """platform.Keepers: the keepers within an agent, until it hands them over."""

    def __init__(self, system: FakeSystem) -> None:
        self._system = system

    def keeper(self, overlay: str) -> FakeKeeper:
        """Return the keeper of an overlay."""
        return FakeKeeper(self._system, overlay, in_process=True)

    def hand_over(self) -> None:
        """Leave a process behind for each overlay."""
        self._system.in_process.clear()

    def close(self) -> None:
        """Release all groups that were not handed over."""
        for overlay in list(self._system.in_process):
            self._system.kill_keeper(overlay)
