"""Signals as the loop takes them: SIGTERM and SIGINT end it, SIGHUP has it read its file again."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..core.closeable import Closeable

_GRACE = 2.0  # seconds that a look under way has to end by itself
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """A look took too long to end by itself after a signal that ends the agent."""


class Signals(Closeable):
    """From the main thread, until ``close``; readable when a signal came."""

    def __init__(self) -> None:
        self.ended = False
        self._again = False
        self._reconciling = False
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in (*_ENDING, signal.SIGHUP, signal.SIGALRM)
        }
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """For select."""
        return self._reader.fileno()

    def close(self) -> None:
        """Give the signals back."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def read(self) -> bool:
        """Whether the file is to be read again since the last call."""
        with suppress(BlockingIOError):
            while self._reader.recv(256):
                pass
        again, self._again = self._again, False
        return again

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """A look is under way: a signal to end waits a moment for it, then raises Interrupted.

        A plan can be interrupted after any change; the next run converges.
        """
        self._reconciling = True
        try:
            if self.ended:
                raise Interrupted
            yield
        finally:
            self._reconciling = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._again = True
        elif number == signal.SIGALRM:
            if self._reconciling and self.ended:
                raise Interrupted
        elif self.ended and self._reconciling:
            raise Interrupted
        else:
            self.ended = True
            if self._reconciling:
                signal.setitimer(signal.ITIMER_REAL, _GRACE)
