"""The I/O interfaces of a Host, replaceable for tests: protocols, and Backend, which has them all.

The errors are those of the adapters that have the same names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from netaddr import IPAddress

from .. import probe
from ..adapters.polling import poll_until
from ..core.changes import Change, Neighbour
from ..core.events import RowEvent, Watched
from ..core.items import Address, Bridge, GroupMembership, Port, Route
from ..core.observed import ArpSettings, Limits, Link, RoutePath
from ..core.status import Holder
from ..errors import UnavailableError
from .events import FlowEvents, ProcessEnd

_T = TypeVar("_T")
Holding = Literal["keeper", "here"]  # the holder of the sockets: a process that outlives us, or us

FOLLOW = 5.0  # seconds for Open vSwitch's route table to follow the kernel's addresses


class Ovsdb(Protocol):
    """Rows of bridges and ports, as adapters.ovsdb.connection.Ovsdb; OvsdbError."""

    def bridges(self) -> dict[str, Bridge]:
        """Return every bridge by name."""

    def ports(self, on: str | None = None) -> dict[str, Port]:
        """Return every port by name, or those on one bridge; no bridge's own port."""

    def apply(self, changes: Sequence[Change]) -> None:
        """Commit one transaction; return once ovs-vswitchd has followed."""

    def exclusive(
        self, patience: float, on_wait: Callable[[float], None]
    ) -> AbstractContextManager[None]:
        """Exclude other runs of ovs_mcast; UnavailableError after ``patience`` seconds.

        Calls ``on_wait`` again and again while it waits for one, with the seconds so far.
        """

    def watch(self, watcher: Callable[[RowEvent], None]) -> None:
        """Report every change of rows to ``watcher``, from any thread; a lost connection once."""

    def close(self) -> None:
        """Close the connection."""


class OpenFlow(Protocol):
    """Flows of a bridge, as adapters.openflow.OpenFlow; OpenFlowError."""

    def dump(self, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
        """Return the flows whose cookie matches, as `ovs-ofctl dump-flows --no-stats` prints them.

        ``match`` selects further: fields that the flows match, such as arp,arp_tpa=239.0.0.1.
        """

    def dump_counted(self, bridge: Bridge, cookie: int, mask: int) -> list[str]:
        """Return the same with statistics: the counters of each flow."""

    def apply(self, bridge: Bridge, changes: Sequence[Change]) -> None:
        """Send one bundle, all or nothing."""


class Netlink(Protocol):
    """Links, addresses, routes, as adapters.rtnetlink.client.Netlink; RefusedError."""

    def links(self) -> dict[str, Link]:
        """Return every device by name."""

    def addresses(self) -> tuple[Address, ...]:
        """Return every address of every device."""

    def group_routes(self) -> tuple[Route, ...]:
        """Return the host routes to groups in tables main and local."""

    def link(self, name: str) -> Link | None:
        """Return one device; None if it is missing."""

    def group_route(self, group: IPAddress) -> Route | None:
        """Return the host route to the group; None if a wider route matches, or no route."""

    def look_up(
        self, destinations: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Return the path of a packet to each address, by address."""

    def resolve(self, device: str, neighbours: Sequence[IPAddress]) -> None:
        """Have the kernel ask for the Ethernet address of each neighbour that it does not know."""

    def apply(self, changes: Sequence[Change], *, exclusive: bool = False) -> None:
        """Apply one batch. Items already removed are tolerated.

        So are items already there, unless ``exclusive``.
        """

    def close(self) -> None:
        """Close the socket."""


class Vswitchd(Protocol):
    """The control socket of ovs-vswitchd, as adapters.vswitchd.Vswitchd; UnavailableError."""

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Set the Ethernet addresses of groups in the userspace datapath."""

    def routes(self) -> Mapping[str, RoutePath]:
        """Return the host routes by which the userspace datapath sends."""

    def has_datapath(self, kind: str) -> bool:
        """Return whether Open vSwitch has this type of datapath here: system or netdev."""

    def flows(self, bridge: str) -> list[str]:
        """Return all flows of a bridge, as bridge/dump-flows prints them; none without it."""

    def trace(self, bridge: str, frames: Sequence[str]) -> Mapping[str, str]:
        """Return frame → what would become of it, as ofproto/trace prints it."""

    def look_up(self, destinations: Iterable[str]) -> Mapping[str, RoutePath]:
        """Return the path by which the userspace datapath sends to each address."""


class Keeper(Protocol):
    """The holder of one overlay's socket memberships, as membership.keeper.Keeper; KeeperError."""

    def held(self, joined: Callable[[str], frozenset[str]]) -> GroupMembership | None:
        """Return the groups held, confirmed by ``joined`` of the device; None without a keeper."""

    def join(self, device: str, group: str) -> None:
        """Hold one more group, in one message. KeeperError without a keeper for that device."""

    def leave(self, device: str, group: str) -> None:
        """Release one group, in one message. KeeperError without a keeper for that device."""

    def replace(self, membership: GroupMembership) -> None:
        """Hold these groups instead of the present ones; groups in both are never left."""

    def hold(self, membership: GroupMembership, ready: Callable[[], None]) -> None:
        """Hold the groups in the calling thread until another thread ends it."""

    def drop_duplicates(self) -> None:
        """Remove a duplicate left by a killed run; in-process, take over a process's groups."""

    def holder(self) -> Holder:
        """Return the process that holds the groups, by its kind."""

    def process_end(self) -> ProcessEnd | None:
        """Open the end of the keeper's process; None if no process but an agent's holds groups."""

    def end(self) -> None:
        """Release all groups."""


class Joining(Protocol):
    """Temporary memberships, as membership.device_groups.DeviceGroups."""

    def join(self, groups: Iterable[IPAddress]) -> None:
        """Join each group; UnavailableError if the kernel refuses."""


class PathProbe(Protocol):
    """The path of an ordinary datagram, as probe.path.send_path."""

    def __call__(self, device: str, group: str, *, detection: float = ...) -> probe.SendPath:
        """Send one; for IPv6 wait ``detection`` seconds for duplicate address detection."""


@dataclass(frozen=True)
class Backend:
    """One Open vSwitch and one network namespace.

    - ``vswitchd`` opens the control socket of ovs-vswitchd.
    - ``arp_settings`` returns the sysctls that decide whether a device answers ARP.
    - ``reverse_path_drops`` returns how many packets rp_filter has dropped here.
    - ``rule_set`` returns nft's own document of the packet filter, None if it does not say.
    - ``joined`` returns the groups of a device in /proc; ``is_member`` tests one group.
    - ``memberships`` holds groups of a device within a `with` block.
    - ``send_path`` sends an ordinary datagram from a device to a group and returns its path.
    - ``keeper`` returns the keeper of a named overlay.
    - ``udp_holders`` says who has sockets that are bound to a UDP port in this network namespace.
    - ``flow_events`` opens the flow events of a bridge; OSError if ovs-vswitchd does not have it.
    - ``agent`` returns the error that refuses a change while an agent keeps the overlay so named;
      None without one, and for the agent itself.
    - ``hand_over`` starts a process for each overlay whose groups this process holds;
      ``release_groups`` releases those groups.
    - ``namespace`` lets the calling thread work in this machine's network namespace.
    - ``connected``: it has a thread and descriptors, so that a Host must be closed.
    - ``follow`` is how many seconds Open vSwitch and the kernel may need after a change.
    - ``sleep`` waits.
    """

    ovsdb: Ovsdb
    openflow: OpenFlow
    netlink: Netlink
    vswitchd: Callable[[], AbstractContextManager[Vswitchd]]
    limits: Callable[[], Limits]
    arp_settings: Callable[[str], ArpSettings]
    joined: Callable[[str], frozenset[str]]
    is_member: Callable[[str, str], bool]
    memberships: Callable[[str], AbstractContextManager[Joining]]
    send_path: PathProbe
    keeper: Callable[[str], Keeper]
    flow_events: Callable[[Bridge, Sequence[Watched]], FlowEvents]
    udp_holders: Callable[[int], tuple[str, ...]] = lambda _port: ()
    reverse_path_drops: Callable[[], int] = lambda: 0
    rule_set: Callable[[], object] = lambda: None
    agent: Callable[[str], UnavailableError | None] = lambda _overlay: None
    hand_over: Callable[[], None] = lambda: None
    release_groups: Callable[[], None] = lambda: None
    namespace: Callable[[], AbstractContextManager[None]] = nullcontext
    close_namespace: Callable[[], None] = lambda: None
    connected: bool = False
    follow: float = FOLLOW
    sleep: Callable[[float], None] = time.sleep

    def poll(
        self, ask: Callable[[], _T], again: Callable[[_T], bool], seconds: float, pause: float
    ) -> _T:
        """Poll with this backend's own ``sleep`` while ``again``; see adapters.polling."""
        return poll_until(ask, lambda answer: not again(answer), seconds, pause, sleep=self.sleep)

    def close(self) -> None:
        """End the connections; no thread is left."""
        with self.namespace():
            self.release_groups()
            self.netlink.close()
            self.ovsdb.close()
        self.close_namespace()
