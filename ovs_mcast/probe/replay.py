"""Decide which questions a responder admits: each once, at a limited rate. Pure: no clock.

Sequence numbers identify the questions of a sender's run; those seen are remembered in a sliding
window, as IPsec does against replay (RFC 4303, 3.4.3).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from .protocol import Way

WINDOW = 4096  # sequence numbers that a window looks back
RUNS_MAX = 1024
SOURCES_MAX = 4096  # sources whose shares are remembered
TOLERANCE = 30.0  # seconds by which the clocks of sender and responder may differ


class TokenBucket:
    """So many a second on average; at most one second's worth at once."""

    def __init__(self, rate: float, now: float, tokens: float | None = None) -> None:
        self._rate = rate
        self._depth = max(1.0, rate)
        self._tokens = self._depth if tokens is None else tokens
        self._last = now

    def take(self, now: float) -> bool:
        """Return whether one more is allowed. ``now``: seconds of a monotonic clock."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def is_half_full(self, now: float) -> bool:
        """Return whether half a second's worth is left."""
        self._fill(now)
        return self._tokens >= self._depth / 2

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._last)
        self._tokens = min(self._depth, self._tokens + passed * self._rate)
        self._last = max(now, self._last)


@dataclass(slots=True)
class _Source:
    """One that asks: its share, and when it asked last."""

    share: TokenBucket
    last: float


class FairBucket:
    """So many a second for all sources; while there are several, none has more than a quarter.

    Anybody can forge sources. Beside others a source's share is empty at first, so that those who
    ask once get nothing, however many they are; it lasts while the 4,096 latest are remembered. The
    first half of the whole is anybody's, so that honest sources that are few need no share.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._all, self._rate = TokenBucket(rate, now), rate / 4
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    def take(self, source: str, now: float) -> bool:
        """Return whether one more is allowed to a source. ``now``: seconds, never backward."""
        own = self._sources.pop(source, None) or _Source(TokenBucket(self._rate, now, 0.0), now)
        latest = next(reversed(self._sources.values()), None)
        own.last = now
        self._sources[source] = own
        if len(self._sources) > SOURCES_MAX:
            self._sources.popitem(last=False)
        alone = latest is None or now - latest.last > 1.0
        if not own.share.take(now) and not alone and not self._all.is_half_full(now):
            return False
        return self._all.take(now)


@dataclass(slots=True)
class Window:
    """The sequence numbers seen: ``seen`` different ones, and ``repeats`` of them."""

    seen: int = 0
    repeats: int = 0
    _highest: int = -1
    _bits: int = 0  # bit n: the highest minus n was seen

    def accept(self, sequence: int) -> bool:
        """Record a number; return True if it is new. Numbers older than the window are rejected."""
        ahead = sequence - self._highest
        if ahead > 0:
            kept = self._bits << ahead if ahead < WINDOW else 0
            self._bits = (kept | 1) & ((1 << WINDOW) - 1)
            self._highest = sequence
        elif -ahead >= WINDOW or self._bits >> -ahead & 1:
            self.repeats += 1
            return False
        else:
            self._bits |= 1 << -ahead
        self.seen += 1
        return True


@dataclass(slots=True)
class Run:
    """The memory of one run of one sender."""

    last: float = 0.0
    withheld: int = 0
    windows: dict[Way, Window] = field(default_factory=lambda: {way: Window() for way in Way})


class Runs:
    """The runs that a responder remembers, at most RUNS_MAX; those it may forget go first.

    With ``keep`` (a key is in use), a run is kept for as long as its questions could be sent again
    and still be of good time; while there is no room, there is no new run.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = 2 * TOLERANCE if keep else 0.0
        self._runs: OrderedDict[tuple[str, bytes], Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, source: str, nonce: bytes, now: float) -> Run | None:
        """Return the run of this sender, a new one if missing; None if there is no room for it."""
        name = (source, nonce)
        run = self._runs.get(name)
        if run is None:
            if len(self._runs) >= RUNS_MAX and not self._forget_one(now):
                return None
            run = self._runs[name] = Run()
        run.last = now
        self._runs.move_to_end(name)
        return run

    def _forget_one(self, now: float) -> bool:
        oldest = next(iter(self._runs))
        if now - self._runs[oldest].last < self._keep:
            return False
        del self._runs[oldest]
        return True
