"""Captured and decoded frames of one device of the lab."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ..adapters.packet_socket import PacketSocket
from ..core.closeable import Closeable
from .namespace import patient

_T = TypeVar("_T")


class Capture(Closeable, Generic[_T]):
    """Frames seen on a device since the capture was made, decoded, in order; a context."""

    def __init__(self, packets: PacketSocket, decode: Callable[[bytes], _T | None]) -> None:
        self._packets = packets
        self._decode = decode
        self._seen: list[_T] = []

    def seen(self, seconds: float = 0.0) -> list[_T]:
        """Capture for ``seconds`` more; return all that was seen so far."""
        for frame in self._packets.frames(seconds):
            self._keep(frame)
        return list(self._seen)

    def wait(
        self, number: int = 1, *, timeout: float = 5.0, where: Callable[[_T], bool] | None = None
    ) -> list[_T]:
        """Return the items that ``where`` accepts: ``number``, or those of ``timeout`` seconds."""
        end = time.monotonic() + patient(timeout)
        judged = 0
        wanted: list[_T] = []
        while True:
            fresh = self._seen[judged:]
            judged = len(self._seen)
            wanted += [item for item in fresh if where is None or where(item)]
            if len(wanted) >= number:
                return wanted
            frame = self._packets.receive(max(0.0, end - time.monotonic()))
            if frame is None:
                return wanted
            self._keep(frame)

    def close(self) -> None:
        """End the capture."""
        self._packets.close()

    def _keep(self, frame: bytes) -> None:
        item = self._decode(frame)
        if item is not None:
            self._seen.append(item)
