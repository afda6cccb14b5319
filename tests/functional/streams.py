"""Streams of numbered frames, each of which must arrive exactly once whatever happens meanwhile."""

from __future__ import annotations

import struct
import time
from collections import Counter
from itertools import count
from threading import Event, Thread
from types import TracebackType
from typing import Self

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_EXPERIMENTAL, decode_ethernet, ethernet
from ovs_mcast.lab import Workload

# Frames a second, of four streams. Many more, and the queue of a host's eth0 overflows when its
# ovs-vswitchd gets no processor for some tenths of a second.
RATE = 100
_NUMBER = struct.Struct("!HI")


class Stream:
    """Numbered frames from one workload to another, or to all, from now until ``stop``."""

    _names = count(1)

    def __init__(
        self, sender: Workload, hearer: Workload, *, broadcast: bool, rate: int = RATE
    ) -> None:
        self.name = next(self._names)
        self.sent = 0
        self._interval = 1 / rate
        self._destination = BROADCAST if broadcast else hearer.mac
        self._source = sender.mac
        self._wire = PacketSocket("eth0", namespace=sender.pid)
        self._ear = hearer.listen(ethertype=ETHERTYPE_EXPERIMENTAL)
        self._over = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._wire.close()
        self._ear.close()

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join()

    def not_once(self) -> dict[int, int]:
        """The numbers that were not heard exactly once, and how often they were."""
        end, heard = time.monotonic() + 5, Counter[int]()
        while time.monotonic() < end and not heard[self.sent - 1]:
            heard.update(self._numbers(0.1))
        # Duplicates would come right behind.
        heard.update(self._numbers(0.1))
        return {number: heard[number] for number in range(self.sent) if heard[number] != 1}

    def _numbers(self, seconds: float) -> list[int]:
        seen = filter(None, map(decode_ethernet, self._ear.frames(seconds)))
        read = [_NUMBER.unpack_from(each.payload) for each in seen if each.source == self._source]
        return [number for name, number in read if name == self.name]

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            payload = _NUMBER.pack(self.name, self.sent)
            self._wire.send(
                ethernet(self._destination, self._source, ETHERTYPE_EXPERIMENTAL, payload)
            )
            self.sent += 1
