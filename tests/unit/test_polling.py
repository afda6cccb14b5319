"""Asking again until the answer is good, on a clock that is the test's."""

from __future__ import annotations

from itertools import count

import pytest

from ovs_mcast.adapters.polling import poll_until


class Slept:
    """A sleep that lets no time pass, and remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_a_good_answer_ends_it() -> None:
    """The first good answer is returned, after pauses that double up to the longest."""
    answers, sleep = iter(range(10)), Slept()
    last = poll_until(lambda: next(answers), lambda n: n >= 4, 60, 0.1, sleep=sleep)
    assert last == 4
    assert sleep.pauses == pytest.approx([0.02, 0.04, 0.08, 0.1])


def test_no_good_answer_in_time() -> None:
    """The last answer is returned once the pauses alone have taken the time, a fake clock's too."""
    asked, sleep = count(1), Slept()
    last = poll_until(lambda: next(asked), lambda _: False, 1, 0.25, sleep=sleep)
    assert last == len(sleep.pauses) + 1
    assert 1 <= sum(sleep.pauses) < 1.25


def test_without_time_it_asks_once() -> None:
    """Zero seconds are one question and no pause."""
    sleep = Slept()
    assert poll_until(lambda: "no", lambda _: False, 0, 0.1, sleep=sleep) == "no"
    assert sleep.pauses == []


def test_a_short_pause_is_the_first_too() -> None:
    """No pause is longer than the longest."""
    answers, sleep = iter([0, 0, 1]), Slept()
    assert poll_until(lambda: next(answers), bool, 1, 0.001, sleep=sleep)
    assert sleep.pauses == pytest.approx([0.001, 0.001])
