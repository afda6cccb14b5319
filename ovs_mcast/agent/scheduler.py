"""When to reconcile: bursts are debounced, failures are retried with back-off. Pure.

Nothing here knows a clock: times are passed in, as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .observer import FailureStreak


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in seconds, and one share."""

    debounce: float = 0.02  # wait for this much silence after an event,
    max_delay: float = 0.2  # but never longer than this after the first
    resync: float = 60.0  # reconcile without an event this long after the last time
    backoff_min: float = 0.1  # pause after the first failure; each failure doubles it,
    backoff_max: float = 30.0  # up to this
    jitter: float = 0.3  # share of a pause that chance takes off
    self_event_delay: float = 1.0  # while failing, ignore events of our own changes for this long
    burst_budget: float = 5.0  # reconcile for this long without a rest; after that
    rest_max: float = 5.0  # rest as long as each reconcile took, up to this


class Scheduler:
    """When the next reconcile is due. ``chance`` gives numbers from 0 to 1.

    Calls come in the order of time: ``event`` at any time, ``began`` and then ``succeeded`` or
    ``failed`` for each reconcile.
    """

    def __init__(self, now: float, timings: Timings, chance: Callable[[], float]) -> None:
        self._timings, self._chance = timings, chance
        self._first: float | None = now - timings.max_delay  # the first reconcile is due at once
        self._last = now - timings.max_delay
        self._wakes = True
        self._began: float | None = None
        self._ended = now
        self._rest = 0.0
        self._budget = timings.burst_budget
        self._tries = 0
        self._since = now
        self._pause = 0.0
        self._growth = 0

    @property
    def failing(self) -> FailureStreak | None:
        """The current failure streak, if any."""
        if not self._tries:
            return None
        return FailureStreak(self._tries, self._ended - self._since, self._pause)

    @property
    def pending(self) -> bool:
        """True if an event waits for its reconcile."""
        return self._first is not None

    def event(self, now: float, *, wakes: bool) -> None:
        """Record an event. ``wakes``: it is not caused by a reconcile, and may end a failure.

        Daemons that start or stop, links and the configuration wake: they end a pause at once.
        """
        if self._first is None:
            self._first = now
        self._last = now
        self._wakes |= wakes
        if wakes:
            self._growth = 0

    def due(self) -> float:
        """Return when the next reconcile is to begin; a time in the past means at once."""
        timings = self._timings
        regular = self._ended + (self._pause if self._tries else timings.resync)
        if self._first is None:
            return regular
        settled = min(self._last + timings.debounce, self._first + timings.max_delay)
        soonest = min(self._rest, timings.max_delay) if self._wakes else self._rest
        if self._tries and not self._wakes:
            soonest = min(self._pause, timings.self_event_delay)
        return min(max(settled, self._ended + soonest), regular)

    def began(self, now: float) -> None:
        """A reconcile begins; it serves all events until now."""
        self._began = now
        self._first = None
        self._wakes = False

    def succeeded(self, now: float) -> FailureStreak | None:
        """The reconcile succeeded; return the failure streak that it ends, if any."""
        streak = None
        if self._tries:
            streak = FailureStreak(self._tries, now - self._since, 0.0)
        self._tries = self._growth = 0
        self._pause = 0.0
        self._close(now)
        return streak

    def failed(self, now: float) -> FailureStreak:
        """The reconcile failed; return the current streak, with the pause until the next try."""
        timings = self._timings
        if not self._tries:
            self._since = self._began if self._began is not None else now
        self._tries += 1
        longest = min(timings.backoff_max, timings.backoff_min * 2.0 ** min(self._growth, 32))
        self._growth += 1
        self._pause = longest * (1.0 - timings.jitter * self._chance())
        self._close(now)
        return FailureStreak(self._tries, now - self._since, self._pause)

    def _close(self, now: float) -> None:
        """Limit reconciles to half of the time, however many events come, except in a burst."""
        began = self._began if self._began is not None else now
        idle, busy = began - self._ended, now - began
        self._budget = min(self._timings.burst_budget, self._budget + idle) - busy
        self._rest = min(max(0.0, -self._budget), self._timings.rest_max)
        self._began = None
        self._ended = now
