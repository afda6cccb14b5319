"""Observers of the agent's loop: logs, metrics, service managers. No I/O here.

The loop calls every method from its own thread, and each must return at once: slow work, such as
answering a scrape, belongs in a thread of the observer, which ``ended`` ends. An observer that
raises is a defect: the loop logs that once, drops the observer and keeps the overlay all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ConfigurationError, OvsMcastError
from ..probe.verdict import SendPath
from .announcer import Announcement

# Reasons for a reconcile. "minute" is the periodic resync, without an event; "retry" is the
# reconcile after a failed one.
Kind = Literal[
    "start", "ovsdb", "vswitchd", "flow", "link", "address", "route", "rule", "membership",
    "configuration", "signal", "overflow", "minute", "retry",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """Failures in a row: ``tries`` over ``seconds`` so far; the next try is in ``pause`` s."""

    tries: int
    seconds: float
    pause: float


class Observer:
    """Base class: every method does nothing. Durations are in seconds."""

    def configured(self, overlay: Overlay) -> None:
        """Take the wanted overlay: called at the start, and when the configuration changed."""

    def refused(self, error: ConfigurationError) -> None:
        """A new configuration is refused; the overlay wanted before is still wanted."""

    def event(self, kind: Kind) -> None:
        """An event affects the overlay: a reconcile follows."""

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """A reconcile succeeded after ``seconds``; ``changes`` is empty where nothing differed."""

    def failed(self, error: OvsMcastError, seconds: float, streak: FailureStreak) -> None:
        """A reconcile failed after ``seconds``. Called for every failure: deduplicate messages."""

    def waiting(self, until: float) -> None:
        """The loop is idle until then (time.monotonic()), unless an event comes."""

    def path(self, result: SendPath) -> None:
        """The path of one datagram to a group was measured, after the link came up."""

    def announced(self, announcement: Announcement) -> None:
        """The groups were reported again, after a failover below the underlay device."""

    def ended(self) -> None:
        """The agent ends without an error; the overlay runs on."""
