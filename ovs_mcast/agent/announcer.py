"""Reports the groups again after a failover below the underlay device.

Another port of the network's switch then leads here, and has heard no report: without this the
host hears nothing until a querier asks. Linux's bonding repeats the reports itself, through VLAN
devices and Linux bridges (bonding.rst, resend_igmp), but not through Open vSwitch, whose own bonds
never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..core.model import Overlay
from ..core.reports import Report, reports
from ..core.uplinks import below
from ..errors import UnavailableError
from ..host.backend import Backend

_SETTLE = 0.1  # seconds after an event: a bond changes its active link after the carrier
_REPEAT = 1.0  # seconds until the second report, and between two looks (RFC 3376, 8.11)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What was reported: the devices that failed over, how many groups; ``error`` if it failed."""

    device: str
    moved: tuple[str, ...]
    groups: int
    error: str = ""


class Announcer:
    """Reports at once, and once more. Times are seconds of a monotonic clock.

    ``send`` sends reports from a device; ``joined`` and ``igmp_version`` are those of the device.
    """

    def __init__(
        self,
        send: Callable[[str, Iterable[Report]], None],
        joined: Callable[[str], frozenset[str]],
        igmp_version: Callable[[str], int],
    ) -> None:
        self._send, self._joined, self._igmp_version = send, joined, igmp_version
        self._moved: set[str] = set()
        self._repeats = False
        self._last = float("-inf")
        self._due = float("inf")

    def moved(self, name: str, now: float) -> None:
        """Record that the carrier or the active link of a device or port changed."""
        self._moved.add(name)
        self._due = min(self._due, max(now + _SETTLE, self._last + _REPEAT))

    def due(self) -> float:
        """Return when to call `run`."""
        return self._due

    def run(self, overlay: Overlay, backend: Backend, now: float) -> Announcement | None:
        """Report the groups if one of the devices is below the underlay's; None if none is.

        The second report returns None, too. UnavailableError if the OVSDB or the device is gone:
        then it is due again a second later.
        """
        device = overlay.underlay.device
        self._last, self._due = now, now + _REPEAT
        links = backend.netlink.links()
        moved = self._moved & below(device, links, backend.ovsdb.ports())
        repeats = self._repeats
        self._moved, self._repeats, self._due = set(), False, float("inf")
        groups = sorted(self._joined(device).intersection(map(str, overlay.flood_groups)))
        if device not in links or not groups or not (moved or repeats):
            return None
        if moved:
            self._repeats, self._due = True, now + _REPEAT
        try:
            self._send(device, reports(groups, links[device].mtu, self._igmp_version(device)))
        except UnavailableError as error:
            return Announcement(device, tuple(sorted(moved)), len(groups), str(error))
        return Announcement(device, tuple(sorted(moved)), len(groups)) if moved else None
