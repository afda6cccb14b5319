"""The I/O interfaces of a Host, replaceable for tests: protocols, and Backend, which has them all.

The errors are those of the adapters that have the same names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from netaddr import IPAddress

from .. import probe
from ..adapters.polling import poll_until
from ..core.changes import Change, Neighbour
from ..core.events import RowEvent, Watched
from ..core.items import Address, Bridge, GroupMembership, Port, Route
from ..core.observed import Limits, Link, RoutePath
from ..core.status import Holder
from .events import FlowEvents, ProcessEnd

_T = TypeVar("_T")
Holding = Literal["keeper", "here"]  # who holds what sockets hold: a process left behind, or this

FOLLOW = 5.0  # seconds for Open vSwitch's route table to follow the kernel's addresses


class Ovsdb(Protocol):
    """Rows of bridges and ports, as adapters.ovsdb.Ovsdb has them; OvsdbError."""

    def bridges(self) -> dict[str, Bridge]:
        """Every bridge by name."""

    def ports(self, on: str | None = None) -> dict[str, Port]:
        """Every port by name, or those on one bridge, but for the bridges themselves."""

    def apply(self, changes: Sequence[Change]) -> None:
        """One transaction; returns once ovs-vswitchd has followed."""

    def exclusive(
        self, patience: float, on_wait: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Alone among the runs of ovs_mcast; UnavailableError after ``patience`` seconds."""

    def watch(self, watcher: Callable[[RowEvent], None]) -> None:
        """Report every change of rows to ``watcher``, from any thread; a lost connection once."""

    def close(self) -> None:
        """Let go of the connection."""


class OpenFlow(Protocol):
    """Flows of a bridge, as adapters.openflow.OpenFlow has them; OpenFlowError."""

    def dump(self, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
        """The flows whose cookie matches, as `ovs-ofctl dump-flows --no-stats` prints them.

        ``match`` is one that they have within theirs, such as arp,arp_tpa=239.0.0.1.
        """

    def dump_counted(self, bridge: Bridge, cookie: int, mask: int) -> list[str]:
        """Return the same with statistics: what each flow counted."""

    def apply(self, bridge: Bridge, changes: Sequence[Change]) -> None:
        """Send one bundle, all or nothing."""


class Netlink(Protocol):
    """Links, addresses, routes, as adapters.netlink.Netlink has them; RefusedError."""

    def links(self) -> dict[str, Link]:
        """Every device by name."""

    def addresses(self) -> tuple[Address, ...]:
        """Every address of every device."""

    def group_routes(self) -> tuple[Route, ...]:
        """The host routes to groups in tables main and local."""

    def link(self, name: str) -> Link | None:
        """One device; None if it is not there."""

    def group_route(self, group: IPAddress) -> Route | None:
        """The host route that takes a packet to the group; None if a wider one does, or none."""

    def look_up(
        self, groups: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Where a packet to each group would leave, by group."""

    def apply(self, changes: Sequence[Change], *, exclusive: bool = False) -> None:
        """One batch; what is gone already is as wanted, and what is there, if not exclusive."""

    def close(self) -> None:
        """Let go of the socket."""


class Vswitchd(Protocol):
    """The control socket of ovs-vswitchd, as adapters.vswitchd.Vswitchd; UnavailableError."""

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Tell the userspace datapath the Ethernet addresses of groups."""

    def routes(self) -> Mapping[str, RoutePath]:
        """The host routes by which the userspace datapath sends."""

    def route(self, group: str) -> RoutePath:
        """How the userspace datapath sends to one group."""


class Keeper(Protocol):
    """What holds the socket memberships of one overlay, as keeper.Keeper; KeeperError."""

    def held(self, joined: Callable[[str], frozenset[str]]) -> GroupMembership | None:
        """What it truly holds, by what ``joined`` says of its device; None if none runs."""

    def join(self, device: str, group: str) -> None:
        """Hold one group more, in one message. KeeperError if none runs for that device."""

    def leave(self, device: str, group: str) -> None:
        """Let go of one group, in one message. KeeperError if none runs for that device."""

    def replace(self, membership: GroupMembership) -> None:
        """Hold these groups in place of those held; those in both are never left."""

    def hold(self, membership: GroupMembership, ready: Callable[[], None]) -> None:
        """Hold them in the calling thread until somebody ends it."""

    def drop_duplicates(self) -> None:
        """Remove a duplicate left by a killed run; in-process, take over a process's groups."""

    def holder(self) -> Holder:
        """Return the process that holds the groups, by its kind."""

    def process_end(self) -> ProcessEnd | None:
        """Open the end of the keeper's process; None if no process but an agent's holds groups."""

    def end(self) -> None:
        """Let go of all groups."""


class Joining(Protocol):
    """Sockets for a while, as membership.device_groups.DeviceGroups."""

    def join(self, groups: Iterable[IPAddress]) -> None:
        """Hold each of them; UnavailableError where the kernel refuses."""


class PathProbe(Protocol):
    """The path of an ordinary datagram, as probe.send_path."""

    def __call__(self, device: str, group: str, *, detection: float = ...) -> probe.SendPath:
        """Send one; for IPv6 wait ``detection`` seconds for duplicate address detection."""


@dataclass(frozen=True)
class Backend:
    """One Open vSwitch and one network namespace.

    ``vswitchd`` opens its control socket; ``joined`` are the groups of a device in /proc, and
    ``is_member`` is whether one of them is;
    ``memberships`` hold groups of a device within a `with` block; ``send_path`` looks where an
    ordinary datagram from a device to a group goes; ``keeper`` is that of a named overlay;
    ``flow_events`` opens those of a bridge (OSError if ovs-vswitchd does not have it);
    ``hand_over`` leaves processes behind for the groups that this one holds, ``let_go`` does not;
    ``follow`` is how long what comes after a change may take, in seconds; ``sleep`` lets seconds
    pass.
    """

    ovsdb: Ovsdb
    openflow: OpenFlow
    netlink: Netlink
    vswitchd: Callable[[], AbstractContextManager[Vswitchd]]
    limits: Callable[[], Limits]
    joined: Callable[[str], frozenset[str]]
    is_member: Callable[[str, str], bool]
    memberships: Callable[[str], AbstractContextManager[Joining]]
    send_path: PathProbe
    keeper: Callable[[str], Keeper]
    flow_events: Callable[[Bridge, Sequence[Watched]], FlowEvents]
    hand_over: Callable[[], None] = lambda: None
    let_go: Callable[[], None] = lambda: None
    follow: float = FOLLOW
    sleep: Callable[[float], None] = time.sleep

    def patiently(
        self, ask: Callable[[], _T], again: Callable[[_T], bool], seconds: float, pause: float
    ) -> _T:
        """Poll with this backend's own ``sleep`` while ``again``; see adapters.polling."""
        return poll_until(ask, lambda answer: not again(answer), seconds, pause, sleep=self.sleep)

    def close(self) -> None:
        """End the connections; no thread is left."""
        self.let_go()
        self.netlink.close()
        self.ovsdb.close()
