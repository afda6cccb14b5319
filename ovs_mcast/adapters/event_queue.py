"""Events from any thread to a selector (eventfd(2)); decides nothing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from ..core.closeable import Closeable

_T = TypeVar("_T")


class EventQueue(Closeable, Generic[_T]):
    """A queue that is readable for select while it has events."""

    def __init__(self) -> None:
        self._events: deque[_T] = deque()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._descriptor

    def put(self, event: _T) -> None:
        """Append an event; after ``close`` nothing happens."""
        self._events.append(event)
        self._wake()

    def read(self) -> Iterator[_T]:
        """Return the events since the last call."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        while self._events:
            yield self._events.popleft()

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _wake(self) -> None:
        with suppress(OSError, ValueError):  # its counter is full, or it is closed
            os.eventfd_write(self._descriptor, 1)
