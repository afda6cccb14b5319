"""When to look: bursts become one look, failures are retried with growing pauses. Pure.

Nothing here knows a clock: times are handed in, as seconds of a clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .observer import Failing


@dataclass(frozen=True, slots=True)
class Timings:
    """Lengths in seconds; ``jitter`` is the share of a pause that chance takes off.

    ``quiet`` and ``bound``: a look begins once no event came for so long, and at the latest so long
    after the first. ``full``: at the latest so long after the last look. ``first`` to ``most``: the
    pauses after failures. ``floor``: while looks fail, what may be their own echo brings the next
    one no sooner than this after the last. ``credit``: after so much looking without a rest, each
    look is followed by one as long, at most ``rest``.
    """

    quiet: float = 0.02
    bound: float = 0.2
    full: float = 60.0
    first: float = 0.1
    most: float = 30.0
    jitter: float = 0.3
    floor: float = 1.0
    credit: float = 5.0
    rest: float = 5.0


class Scheduler:
    """When the next look is due. ``chance`` gives numbers from 0 to 1.

    Calls come in the order of time: ``event`` at any time, ``began`` and then ``succeeded`` or
    ``failed`` for each look.
    """

    def __init__(self, now: float, pace: Timings, chance: Callable[[], float]) -> None:
        self._pace, self._chance = pace, chance
        self._first: float | None = now - pace.bound  # the first look is due at once
        self._last = now - pace.bound
        self._wakes = True
        self._began: float | None = None
        self._ended = now
        self._rest = 0.0
        self._credit = pace.credit
        self._tries = 0
        self._since = now
        self._pause = 0.0
        self._growth = 0

    @property
    def failing(self) -> Failing | None:
        """The spell of failures that goes on, if one does."""
        if not self._tries:
            return None
        return Failing(self._tries, self._ended - self._since, self._pause)

    @property
    def pending(self) -> bool:
        """Whether an event waits for its look."""
        return self._first is not None

    def event(self, now: float, *, wakes: bool) -> None:
        """Something happened. ``wakes``: it is no echo of a look, and may end what made looks fail.

        Such are daemons that come or go, links, the configuration: they end a pause at once.
        """
        if self._first is None:
            self._first = now
        self._last = now
        self._wakes |= wakes
        if wakes:
            self._growth = 0

    def due(self) -> float:
        """When the next look is to begin; in the past if that is at once."""
        pace = self._pace
        regular = self._ended + (self._pause if self._tries else pace.full)
        if self._first is None:
            return regular
        settled = min(self._last + pace.quiet, self._first + pace.bound)
        soonest = min(self._rest, pace.bound) if self._wakes else self._rest
        if self._tries and not self._wakes:
            soonest = min(self._pause, pace.floor)
        return min(max(settled, self._ended + soonest), regular)

    def began(self, now: float) -> None:
        """A look begins; the events until now are those that it is for."""
        self._began = now
        self._first = None
        self._wakes = False

    def succeeded(self, now: float) -> Failing | None:
        """The look has ended well; the spell of failures that it ends, if one went on."""
        spell = None
        if self._tries:
            spell = Failing(self._tries, now - self._since, 0.0)
        self._tries = self._growth = 0
        self._pause = 0.0
        self._close(now)
        return spell

    def failed(self, now: float) -> Failing:
        """The look has failed; the spell that goes on, with the pause that comes."""
        pace = self._pace
        if not self._tries:
            self._since = self._began if self._began is not None else now
        self._tries += 1
        longest = min(pace.most, pace.first * 2.0 ** min(self._growth, 32))
        self._growth += 1
        self._pause = longest * (1.0 - pace.jitter * self._chance())
        self._close(now)
        return Failing(self._tries, now - self._since, self._pause)

    def _close(self, now: float) -> None:
        """Looks take at most half of the time, however many events there are, but for a burst."""
        began = self._began if self._began is not None else now
        idle, looked = began - self._ended, now - began
        self._credit = min(self._pace.credit, self._credit + idle) - looked
        self._rest = min(max(0.0, -self._credit), self._pace.rest)
        self._began = None
        self._ended = now
