"""Ctrl-C where a shell without job control has started the suite in the background: SIGINT ignored.

A program inherits that a signal is ignored, but not a handler (execve(2)).
"""

from __future__ import annotations

import signal
from types import FrameType


def survive() -> None:
    """Ignore SIGINT by a handler, so that programs started from here have the default one."""
    signal.signal(signal.SIGINT, _ignore)


def are_ignored() -> bool:
    """Whether SIGINT does not end this process, by inheritance or by ``survive``."""
    return signal.getsignal(signal.SIGINT) in {signal.SIG_IGN, _ignore}


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
