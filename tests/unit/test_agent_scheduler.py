"""Properties of the agent's scheduler: bursts, resyncs, failures, storms."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.agent.observer import FailureStreak
from ovs_mcast.agent.scheduler import Scheduler, Timings

TIMINGS = Timings()
SLACK = 1e-6
lengths = st.floats(0, 20, allow_nan=False)
chances = st.floats(0, 1, allow_nan=False)


@dataclass(frozen=True)
class Event:
    at: float
    wakes: bool = False


@dataclass(frozen=True)
class Reconcile:
    began: float
    ended: float
    well: bool


def play(
    events: list[Event], outcomes: list[tuple[float, bool]], chance: float, end: float
) -> list[Reconcile]:
    """Run a loop like the agent's without a clock; events during a reconcile count after it."""
    scheduler = Scheduler(0.0, TIMINGS, lambda: chance)
    waiting = sorted(events, key=lambda event: event.at)
    left = list(outcomes)
    done: list[Reconcile] = []
    now = 0.0
    while now < end:
        while waiting and waiting[0].at <= now:
            scheduler.event(now, wakes=waiting.pop(0).wakes)
        due = scheduler.due()
        if due > now:
            now = min(due, waiting[0].at if waiting else due)
            continue
        length, well = left.pop(0) if left else (0.1, True)
        scheduler.began(now)
        done.append(Reconcile(now, now + length, well))
        now += length
        if well:
            scheduler.succeeded(now)
        else:
            scheduler.failed(now)
        now += 1e-9
    return done


plays = st.tuples(
    st.lists(st.builds(Event, st.floats(0, 300), st.booleans()), max_size=30),
    st.lists(st.tuples(lengths, st.booleans()), max_size=30),
    chances,
)


def test_the_first_reconcile_is_at_once() -> None:
    """A starting agent does not wait for an event."""
    assert Scheduler(5.0, TIMINGS, lambda: 0.0).due() <= 5.0


@given(plays)
def test_every_event_is_reconciled(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """A reconcile begins after each event: in time, unless one fails or is running."""
    events, outcomes, chance = play_of
    done = play(events, outcomes, chance, end=500.0)
    for event in events:
        after = [one for one in done if one.began >= event.at]
        assert after
        before = [one for one in done if one.began < event.at]
        idle = max((one.ended for one in before), default=0.0) <= event.at
        well = all(one.well for one in before[-1:])
        if idle and (well or event.wakes):
            rest = TIMINGS.rest_max if not event.wakes else TIMINGS.max_delay
            assert after[0].began <= event.at + TIMINGS.max_delay + rest + SLACK


@given(plays)
def test_a_minute_at_most_between_reconciles(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """However little happens, and however much."""
    done = play(*play_of, end=500.0)
    for one, other in itertools.pairwise(done):
        assert one.ended <= other.began <= one.ended + TIMINGS.resync + SLACK


@given(st.lists(st.floats(0, 0.019), min_size=1, max_size=200))
def test_a_burst_is_one_reconcile(gaps: list[float]) -> None:
    """Events closer than the debounce time bring one reconcile per max_delay, not one each."""
    times = [10.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    done = play([Event(at) for at in times], [(0.0, True)] * 300, 0.0, end=60.0)
    length = times[-1] - times[0]
    assert 2 <= len(done) <= 2 + int(length / TIMINGS.max_delay) + 1
    assert done[1].began <= times[0] + TIMINGS.max_delay + SLACK
    if length < TIMINGS.max_delay - TIMINGS.debounce:
        assert len(done) == 2
        assert done[1].began == pytest.approx(times[-1] + TIMINGS.debounce)


def test_a_burst_without_end_is_not_waited_for() -> None:
    """With an event every 10 ms, max_delay decides."""
    done = play([Event(10.0 + index / 100) for index in range(300)], [], 0.0, end=13.0)
    assert done[1].began == pytest.approx(10.0 + TIMINGS.max_delay)


@given(st.floats(0.01, 4.0), st.integers(50, 2000))
def test_a_storm_takes_half_of_the_time_at_most(length: float, number: int) -> None:
    """Under endless events, reconciles take half of the time at most, after a short burst."""
    events = [Event(10.0 + index * 0.05) for index in range(number)]
    done = play(events, [(length, True)] * 10_000, 0.0, end=200.0)
    for count, one in enumerate(done, 1):
        assert count * length <= TIMINGS.burst_budget + one.ended / 2 + length + SLACK


def test_own_changes_bring_one_reconcile() -> None:
    """A reconcile that changes things gets their events; the next one finds nothing to do."""
    scheduler = Scheduler(0.0, TIMINGS, lambda: 0.0)
    scheduler.began(0.0)
    scheduler.succeeded(0.1)
    for _ in range(40):
        scheduler.event(0.11, wakes=False)
    assert 0.11 <= scheduler.due() <= 0.11 + TIMINGS.max_delay
    scheduler.began(0.3)
    scheduler.succeeded(0.4)
    assert scheduler.due() == 0.4 + TIMINGS.resync


@given(st.lists(chances, min_size=1, max_size=40))
def test_pauses_grow_and_are_bounded(drawn: list[float]) -> None:
    """Without an event, each pause is up to twice the one before, at most backoff_max."""
    chance = iter(drawn)
    scheduler = Scheduler(0.0, TIMINGS, lambda: next(chance))
    now, longest = 0.0, TIMINGS.backoff_min
    for tries in range(1, len(drawn) + 1):
        scheduler.began(now)
        streak = scheduler.failed(now)
        assert streak.tries == tries
        assert longest * (1 - TIMINGS.jitter) <= streak.pause <= longest
        assert scheduler.due() == pytest.approx(now + streak.pause)
        now = scheduler.due()
        longest = min(longest * 2, TIMINGS.backoff_max)
    assert scheduler.failing is not None
    ended = scheduler.succeeded(now)
    assert ended is not None
    assert ended.tries == len(drawn)
    assert ended.seconds == pytest.approx(now)
    assert scheduler.due() == now + TIMINGS.resync


def test_success_begins_anew() -> None:
    """After a success the pauses of the next streak grow from the shortest."""
    scheduler = failed_often(100.0)
    scheduler.began(130.0)
    scheduler.succeeded(130.0)
    scheduler.began(190.0)
    assert scheduler.failed(190.0) == FailureStreak(1, 0.0, TIMINGS.backoff_min)


def failed_often(now: float) -> Scheduler:
    scheduler = Scheduler(now, TIMINGS, lambda: 0.0)
    for _ in range(12):
        scheduler.began(now)
        scheduler.failed(now)
    assert scheduler.due() == now + TIMINGS.backoff_max
    return scheduler


def test_what_may_end_a_failure_ends_the_pause() -> None:
    """A daemon that is back is reconciled at once, and pauses grow from the shortest again."""
    scheduler = failed_often(100.0)
    scheduler.event(105.0, wakes=True)
    assert scheduler.due() == 105.0 + TIMINGS.debounce
    scheduler.began(105.1)
    assert scheduler.failed(105.1).pause == TIMINGS.backoff_min


def test_an_echo_does_not_end_a_pause_at_once() -> None:
    """Events of a failing reconcile's own changes bring at most one reconcile per second."""
    scheduler = failed_often(100.0)
    scheduler.event(100.0, wakes=False)
    assert scheduler.due() == 100.0 + TIMINGS.self_event_delay
    later = failed_often(100.0)
    later.event(110.0, wakes=False)
    assert later.due() == 110.0 + TIMINGS.debounce


@given(plays)
def test_failing_reconciles_are_few(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """Events of failing reconciles, however many, bring at most one reconcile per second."""
    events = [Event(1.0 + index / 20) for index in range(400)]
    done = play(events, [(0.05, False)] * 1000, play_of[2], end=21.0)
    assert len(done) <= 4 + 21
