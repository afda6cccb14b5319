"""Poll until the answer is good, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_result, wait_exponential

_T = TypeVar("_T")


def poll_until(
    ask: Callable[[], _T],
    good: Callable[[_T], bool],
    seconds: float,
    pause: float,
    *,
    first: float = 0.02,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """Ask at least once, until the answer is good or ``seconds`` are over; return the last answer.

    The pauses between two questions double from ``first`` to ``pause`` seconds. Time that ``sleep``
    lets pass counts in full, whatever the clock shows.
    """
    asking = Retrying(
        retry=retry_if_result(lambda answer: not good(answer)),
        wait=wait_exponential(multiplier=min(first, pause), max=pause),
        stop=lambda state: max(state.seconds_since_start or 0, state.idle_for) >= seconds,
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        sleep=sleep,
    )
    answer: _T = asking(ask)
    return answer
