"""The state of one fake machine: its Linux, its Open vSwitch, its faults and keepers."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence

from netaddr import IPAddress

from ..core.changes import Change
from ..core.items import GroupMembership
from ..core.observed import RoutePath
from ..probe import Evidence, SendPath
from ..probe.verdict import judge
from .events import EventfulLinux, EventfulOpenVSwitch, Feed
from .faults import Faults
from .linux import DETECTION


class FakeSystem:
    """The state of one fake machine; ``made`` are the changes so far, in order."""

    def __init__(self, linux: EventfulLinux, switch: EventfulOpenVSwitch) -> None:
        self.linux, self.switch, self.faults = linux, switch, Faults()
        self.made: list[Change] = []
        self.keepers: dict[str, GroupMembership] = {}
        self.in_process: set[str] = set()  # overlays whose keeper is a thread of an agent
        self.indexes: dict[str, int | None] = {}
        self.lock = threading.RLock()
        self.alone = threading.Lock()  # one run at a time
        self.keeper_changed = threading.Condition(self.lock)
        self.feed = Feed(linux, switch)

    def make(self, changes: Sequence[Change], make: Callable[[Sequence[Change]], None]) -> None:
        """Make an atomic batch; an interrupted run makes none of its changes."""
        with self.lock:
            if self.faults.cut(len(changes), whole=True):
                make(changes)
                self.made += changes
                self.feed.publish()
            self.faults.made(len(changes))

    def kill_keeper(self, overlay: str) -> None:
        """End the process that holds the overlay's sockets."""
        with self.keeper_changed:
            self.keepers.pop(overlay, None)
            self.in_process.discard(overlay)
            self.linux.leave(overlay)
            self.keeper_changed.notify_all()
            self.feed.publish()
            self.feed.keeper_ended(overlay)

    def sleep(self, seconds: float) -> None:
        """Let time pass on the machine, without waiting."""
        with self.lock:
            self.linux.elapse(seconds)
            self.feed.publish()

    def send_path(self, device: str, group: str, *, detection: float = DETECTION) -> SendPath:
        """Return what probe.send_path would; detection takes time on the machine's own clock."""
        with self.lock:
            linux, family = self.linux, IPAddress(group).version
            if family == 6:
                linux.elapse(min(detection, DETECTION))
            unicast = (
                IPAddress(item.address)
                for item in linux.addresses.values()
                if item.device == device and not IPAddress(item.address).is_multicast()
            )
            source = next((one for one in unicast if one.version == family), None)
            destination = IPAddress(group)
            sends = linux.send_path(group)
            tunnels = RoutePath(None)
            if source is not None:
                tunnels = RoutePath(linux.send_path(group, str(source)).device, str(source))
            seen = {sends.device} if sends.device and linux.links[sends.device].up else set()
            return judge(
                Evidence(
                    group=destination,
                    device=device,
                    watched=tuple(dict.fromkeys(filter(None, (device, "lo", sends.device)))),
                    seen=frozenset(seen),
                    sends=sends,
                    tunnels=tunnels,
                    taken=linux.fib_match(group),
                    holders=tuple(a for a in linux.addresses.values() if a.address == group),
                    error=0 if sends.device else errno.ENETUNREACH,
                    up=linux.links[device].up,
                )
            )
