"""The loop's signals: SIGTERM and SIGINT end it, SIGHUP makes it read its configuration again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ..adapters.signals import SignalPipe
from ..core.closeable import Closeable

_GRACE = 2.0  # seconds for a reconcile to finish after a signal that ends the agent
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """A reconcile took too long to finish after a signal that ends the agent."""


class Signals(Closeable):
    """Handles the signals of the main thread until ``close``; readable once a signal came."""

    def __init__(self) -> None:
        self.ended = False
        self._hangup = False
        self._reconciling = False
        self._pipe = SignalPipe((*_ENDING, signal.SIGHUP, signal.SIGALRM), self._on_signal)

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._pipe.fileno()

    def close(self) -> None:
        """Restore the former handlers."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._pipe.close()

    def read(self) -> bool:
        """Return True if SIGHUP came since the last call."""
        self._pipe.drain()
        hangup, self._hangup = self._hangup, False
        return hangup

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Run a reconcile: a signal to end gives it a moment to finish, then raises Interrupted.

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

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._hangup = True
            return
        if self.ended and self._reconciling:  # a second signal, or the end of the grace period
            raise Interrupted
        if number != signal.SIGALRM:
            self.ended = True
            if self._reconciling:
                signal.setitimer(signal.ITIMER_REAL, _GRACE)
