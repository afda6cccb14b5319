"""Signals as a descriptor to wait for, along with sockets."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..core.closeable import Closeable

_RECEIVE_OCTETS = 256


class SignalPipe(Closeable):
    """Readable once one of these signals came, from ``__init__`` to ``close``; main thread only.

    ``on_signal`` is called with the number, in the signal's handler, and may raise.
    """

    def __init__(
        self, signals: Iterable[int], on_signal: Callable[[int], None] = lambda _: None
    ) -> None:
        self._reader, self._writer = socket.socketpair()
        for side in (self._reader, self._writer):
            side.setblocking(False)
        self._handlers = {
            number: signal.signal(number, lambda came, _frame: on_signal(came))
            for number in signals
        }
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._reader.fileno()

    def drain(self) -> None:
        """Be readable no longer, until the next signal."""
        with suppress(BlockingIOError):
            while self._reader.recv(_RECEIVE_OCTETS):
                pass

    def close(self) -> None:
        """Restore the former handlers."""
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup)
        while self._handlers:
            signal.signal(*self._handlers.popitem())
        self._reader.close()
        self._writer.close()
