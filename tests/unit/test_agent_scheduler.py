"""Laws of the agent's pacing: bursts, minutes, failures, storms; and what is said of failures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.agent.observer import Failing
from ovs_mcast.agent.saying import Saying
from ovs_mcast.agent.scheduler import Scheduler, Timings

PACE = Timings()
SLACK = 1e-6
lengths = st.floats(0, 20, allow_nan=False)
chances = st.floats(0, 1, allow_nan=False)


@dataclass(frozen=True)
class Event:
    at: float
    wakes: bool = False


@dataclass(frozen=True)
class Look:
    began: float
    ended: float
    well: bool


def play(
    events: list[Event], outcomes: list[tuple[float, bool]], chance: float, end: float
) -> list[Look]:
    """A loop as the agent's, without a clock: events that come during a look are told after it."""
    pacer = Scheduler(0.0, PACE, lambda: chance)
    waiting = sorted(events, key=lambda event: event.at)
    left = list(outcomes)
    looks: list[Look] = []
    now = 0.0
    while now < end:
        while waiting and waiting[0].at <= now:
            pacer.event(now, wakes=waiting.pop(0).wakes)
        due = pacer.due()
        if due > now:
            now = min(due, waiting[0].at if waiting else due)
            continue
        length, well = left.pop(0) if left else (0.1, True)
        pacer.began(now)
        looks.append(Look(now, now + length, well))
        now += length
        if well:
            pacer.succeeded(now)
        else:
            pacer.failed(now)
        now += 1e-9
    return looks


plays = st.tuples(
    st.lists(st.builds(Event, st.floats(0, 300), st.booleans()), max_size=30),
    st.lists(st.tuples(lengths, st.booleans()), max_size=30),
    chances,
)


def test_the_first_look_is_at_once() -> None:
    """An agent that starts does not wait for an event."""
    assert Scheduler(5.0, PACE, lambda: 0.0).due() <= 5.0


@given(plays)
def test_every_event_is_looked_at(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """A look begins after each event: in time, if no look fails or is under way."""
    events, outcomes, chance = play_of
    looks = play(events, outcomes, chance, end=500.0)
    for event in events:
        after = [look for look in looks if look.began >= event.at]
        assert after
        before = [look for look in looks if look.began < event.at]
        idle = max((look.ended for look in before), default=0.0) <= event.at
        well = all(look.well for look in before[-1:])
        if idle and (well or event.wakes):
            rest = PACE.rest if not event.wakes else PACE.bound
            assert after[0].began <= event.at + PACE.bound + rest + SLACK


@given(plays)
def test_a_minute_at_most_between_looks(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """However little happens, and however much."""
    looks = play(*play_of, end=500.0)
    for one, other in itertools.pairwise(looks):
        assert one.ended <= other.began <= one.ended + PACE.full + SLACK


@given(st.lists(st.floats(0, 0.019), min_size=1, max_size=200))
def test_a_burst_is_one_look(gaps: list[float]) -> None:
    """Events closer than the quiet time bring one look for each bound, not one each."""
    times = [10.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    looks = play([Event(at) for at in times], [(0.0, True)] * 300, 0.0, end=60.0)
    length = times[-1] - times[0]
    assert 2 <= len(looks) <= 2 + int(length / PACE.bound) + 1
    assert looks[1].began <= times[0] + PACE.bound + SLACK
    if length < PACE.bound - PACE.quiet:
        assert len(looks) == 2
        assert looks[1].began == pytest.approx(times[-1] + PACE.quiet)


def test_a_burst_without_end_is_not_waited_for() -> None:
    """An event every 10 ms leaves no quiet time: the bound it is."""
    looks = play([Event(10.0 + index / 100) for index in range(300)], [], 0.0, end=13.0)
    assert looks[1].began == pytest.approx(10.0 + PACE.bound)


@given(st.floats(0.01, 4.0), st.integers(50, 2000))
def test_a_storm_takes_half_of_the_time_at_most(length: float, number: int) -> None:
    """Whatever somebody does all the time, half of the time is not ours, but for a short burst."""
    events = [Event(10.0 + index * 0.05) for index in range(number)]
    looks = play(events, [(length, True)] * 10_000, 0.0, end=200.0)
    for count, look in enumerate(looks, 1):
        assert count * length <= PACE.credit + look.ended / 2 + length + SLACK


def test_own_changes_are_looked_at_once() -> None:
    """A look that changes things hears of them; the next finds nothing, and all is quiet."""
    pacer = Scheduler(0.0, PACE, lambda: 0.0)
    pacer.began(0.0)
    pacer.succeeded(0.1)
    for _ in range(40):
        pacer.event(0.11, wakes=False)
    assert 0.11 <= pacer.due() <= 0.11 + PACE.bound
    pacer.began(0.3)
    pacer.succeeded(0.4)
    assert pacer.due() == 0.4 + PACE.full


@given(st.lists(chances, min_size=1, max_size=40))
def test_pauses_grow_and_are_bounded(drawn: list[float]) -> None:
    """Without an event, each pause is up to twice the one before it, and never above the most."""
    chance = iter(drawn)
    pacer = Scheduler(0.0, PACE, lambda: next(chance))
    now, longest = 0.0, PACE.first
    for tries in range(1, len(drawn) + 1):
        pacer.began(now)
        spell = pacer.failed(now)
        assert spell.tries == tries
        assert longest * (1 - PACE.jitter) <= spell.pause <= longest
        assert pacer.due() == pytest.approx(now + spell.pause)
        now = pacer.due()
        longest = min(longest * 2, PACE.most)
    assert pacer.failing is not None
    ended = pacer.succeeded(now)
    assert ended is not None
    assert ended.tries == len(drawn)
    assert ended.seconds == pytest.approx(now)
    assert pacer.due() == now + PACE.full


def test_success_begins_anew() -> None:
    """After a success the pauses of the next spell grow from the shortest."""
    pacer = failed_often(100.0)
    pacer.began(130.0)
    pacer.succeeded(130.0)
    pacer.began(190.0)
    assert pacer.failed(190.0) == Failing(1, 0.0, PACE.first)


def failed_often(now: float) -> Scheduler:
    pacer = Scheduler(now, PACE, lambda: 0.0)
    for _ in range(12):
        pacer.began(now)
        pacer.failed(now)
    assert pacer.due() == now + PACE.most
    return pacer


def test_what_may_end_a_failure_ends_the_pause() -> None:
    """A daemon that is back is looked at at once, and pauses grow from the shortest again."""
    pacer = failed_often(100.0)
    pacer.event(105.0, wakes=True)
    assert pacer.due() == 105.0 + PACE.quiet
    pacer.began(105.1)
    assert pacer.failed(105.1).pause == PACE.first


def test_an_echo_does_not_end_a_pause_at_once() -> None:
    """What a failing look changes, it hears of: that brings no more than a look a second."""
    pacer = failed_often(100.0)
    pacer.event(100.0, wakes=False)
    assert pacer.due() == 100.0 + PACE.floor
    later = failed_often(100.0)
    later.event(110.0, wakes=False)
    assert later.due() == 110.0 + PACE.quiet


@given(plays)
def test_failing_looks_are_few(
    play_of: tuple[list[Event], list[tuple[float, bool]], float],
) -> None:
    """Echoes of failing looks, as many as there may be, bring one look a second at most."""
    events = [Event(1.0 + index / 20) for index in range(400)]
    looks = play(events, [(0.05, False)] * 1000, play_of[2], end=21.0)
    assert len(looks) <= 4 + 21


# What is said


def test_a_failure_is_said_once() -> None:
    """The same message, whatever its numbers, is said once in a spell, and again in the next."""
    saying = Saying()
    first = saying.failed("process 7 does not answer", Failing(1, 0.0, 0.1))
    assert first == "process 7 does not answer (trying again in 0.1 s, then more slowly)"
    assert saying.failed("process 8 does not answer", Failing(2, 0.1, 0.2)) is None
    assert saying.failed("there is no device eth0", Failing(3, 0.3, 0.4)) is not None
    assert saying.failed("process 7 does not answer", Failing(4, 0.7, 0.8)) is None
    assert saying.fine(Failing(4, 12.3, 0.0)) == "fine again, after 4 tries in 12 s"
    assert saying.fine(None) is None
    assert saying.failed("process 7 does not answer", Failing(1, 0.0, 0.1)) is not None


def test_words_without_end_are_cut() -> None:
    """A message that is another each time is said so many times and no more."""
    saying = Saying()
    words = ["x" * length for length in range(1, 1000)]
    said = [saying.failed(word, Failing(1, 0.0, 0.1)) for word in words]
    assert 1 < sum(one is not None for one in said) <= 100
