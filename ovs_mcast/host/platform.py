"""A machine as a long-lived program uses it, also while Open vSwitch is not running."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.closeable import Closeable
from ..core.reports import Report
from .backend import Backend, Keeper
from .events import DirectoryEvents, KernelEvents


class Keepers(Protocol):
    """Keepers that are threads of this process, as membership.in_process.InProcessKeepers."""

    def keeper(self, overlay: str) -> Keeper:
        """Return the keeper of an overlay."""

    def hand_over(self) -> None:
        """Leave a process behind for each overlay; UnavailableError names those without one."""

    def close(self) -> None:
        """Release all groups."""


CountedFlows = Callable[[str, int, int, int], list[str] | None]


@dataclass(frozen=True)
class Platform(Closeable):
    """One machine for an agent; tests have one in memory.

    ``connect`` opens its Backend, whose keepers are ``keepers``: these hold groups while Open
    vSwitch is away. UnavailableError where Open vSwitch does not run. ``kernel_events`` and
    ``directory_events`` open sources of events; ``rundir`` is Open vSwitch's run directory.
    ``counted_flows`` returns the flows of a bridge by name, cookie and mask with their counters,
    within so many seconds; None where that fails. ``joined`` are the groups of a device in /proc.
    Any thread may call these two. ``report`` sends membership reports from a device:
    UnavailableError; ``igmp_version`` is what a device speaks.
    """

    rundir: Path
    keepers: Keepers
    connect: Callable[[], Backend]
    kernel_events: Callable[[], KernelEvents]
    directory_events: Callable[[], DirectoryEvents]
    counted_flows: CountedFlows
    joined: Callable[[str], frozenset[str]]
    report: Callable[[str, Iterable[Report]], None]
    igmp_version: Callable[[str], int]

    def close(self) -> None:
        """Release all groups that are held here."""
        self.keepers.close()
