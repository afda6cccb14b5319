"""Who hears whom: a broadcast from each workload by itself, and the unicast answers to it.

A working ping proves little: its answer is unicast, and does not show that the group is received.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, NamedTuple, cast

from ..adapters.packet_socket import PacketSocket
from ..core.frames import BROADCAST, ETHERTYPE_EXPERIMENTAL, decode_ethernet, ethernet
from .namespace import patient
from .nodes import Workload

if TYPE_CHECKING:
    from ..core.documents import PairDocument, ReachabilityDocument, StrayDocument

# Nonce of the run, then: is an answer, VNI, sender, addressee, number of the try.
_PAYLOAD = struct.Struct("!16s?IHHI")
_ALL = 0xFFFF
# How long one broadcast and its answers may take; the silence that ends the run.
_PATIENCE_SECONDS = 0.25
_SILENCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """The broadcasts of one workload as another received them, in one segment.

    ``duplicates`` counts copies beyond the first of each broadcast; ``unicast``: an answer to the
    sender's own address came back; ``tries`` is the number of the first broadcast that was received
    and answered, else the number of broadcasts.
    """

    vni: int
    sender: str
    receiver: str
    broadcast: bool
    duplicates: int
    unicast: bool
    tries: int

    @property
    def ok(self) -> bool:
        """Return True if received exactly once, and answered."""
        return self.broadcast and self.unicast and not self.duplicates

    def to_json(self) -> PairDocument:
        """Return all fields for JSON."""
        return cast("PairDocument", asdict(self))


@dataclass(frozen=True, slots=True, order=True)
class Stray:
    """Frames received in another segment, or back at their sender."""

    sender: str
    vni: int
    heard_by: str
    heard_in: int

    def to_json(self) -> StrayDocument:
        """Return all fields for JSON."""
        return cast("StrayDocument", asdict(self))


@dataclass(frozen=True, slots=True)
class Reachability:
    """The outcome: every pair of each segment, and the leaks and echoes."""

    pairs: tuple[Pair, ...]
    leaks: tuple[Stray, ...]
    echoes: tuple[Stray, ...]

    @property
    def ok(self) -> bool:
        """Return True if all reach all in their segment, without a leak or an echo."""
        return all(pair.ok for pair in self.pairs) and not self.leaks and not self.echoes

    def to_json(self) -> ReachabilityDocument:
        """Return the outcome for JSON, pairs by segment."""
        segments: dict[str, list[PairDocument]] = {}
        for pair in self.pairs:
            segments.setdefault(str(pair.vni), []).append(pair.to_json())
        return {
            "ok": self.ok,
            "segments": segments,
            "leaks": [leak.to_json() for leak in self.leaks],
            "echoes": [echo.to_json() for echo in self.echoes],
        }


def reach(workloads: Sequence[Workload], *, timeout: float = 5.0) -> Reachability:
    """Let every workload broadcast until all of its segment have received and answered it.

    All workloads of all segments listen all the time. After ``timeout`` seconds no sender tries
    again.
    """
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(w.listen(ethertype=ETHERTYPE_EXPERIMENTAL)) for w in workloads
        ]
        selector = stack.enter_context(DefaultSelector())
        for number, packets in enumerate(sockets):
            selector.register(packets, EVENT_READ, number)
        exchange = _Exchange(workloads, sockets, selector)
        end = time.monotonic() + timeout
        for attempt in count(1):
            waiting = [n for n in range(len(workloads)) if exchange.unheard(n)]
            if not waiting or time.monotonic() > end:
                break
            for sender in waiting:
                exchange.broadcast(sender, attempt)
        exchange.listen_until_silent()
    return exchange.result()


class _Message(NamedTuple):
    answer: bool
    vni: int
    sender: int
    addressee: int
    attempt: int


class _Exchange:
    def __init__(
        self,
        workloads: Sequence[Workload],
        sockets: Sequence[PacketSocket],
        selector: DefaultSelector,
    ) -> None:
        self._workloads = workloads
        self._sockets = sockets
        self._selector = selector
        self._nonce = os.urandom(16)
        self._tries: Counter[int] = Counter()
        # How often each message was received, by workload.
        self._heard: Counter[tuple[_Message, int]] = Counter()

    def broadcast(self, sender: int, attempt: int) -> None:
        """Send once; wait a short time for the answers of all."""
        self._tries[sender] = attempt
        workload = self._workloads[sender]
        message = _Message(False, workload.vni, sender, _ALL, attempt)
        self._send(message, BROADCAST)
        end = time.monotonic() + patient(_PATIENCE_SECONDS)
        while self._missing(sender, attempt) and (left := end - time.monotonic()) > 0:
            self._listen(left)

    def unheard(self, sender: int) -> bool:
        """Return True until every peer in the segment has received and answered this sender."""
        tries = range(1, self._tries[sender] + 1)
        missing = [self._missing(sender, attempt) for attempt in tries]
        return not missing or bool(set.intersection(*missing))

    def listen_until_silent(self) -> None:
        """Receive frames still in flight: duplicates and leaks may come late."""
        end = time.monotonic() + 10 * _SILENCE_SECONDS
        while self._listen(_SILENCE_SECONDS) and time.monotonic() < end:
            pass

    def result(self) -> Reachability:
        """Return the outcome, pair by pair, with leaks and echoes."""
        pairs = [
            self._pair(sender, receiver)
            for sender in range(len(self._workloads))
            for receiver in self._peers(sender)
        ]
        strays = {
            Stray(self._name(message.sender), message.vni, self._name(hearer), heard_in)
            for message, hearer in self._heard
            if (heard_in := self._workloads[hearer].vni) != message.vni or hearer == message.sender
        }
        return Reachability(
            pairs=tuple(sorted(pairs, key=lambda p: (p.vni, p.sender, p.receiver))),
            leaks=tuple(sorted(stray for stray in strays if stray.vni != stray.heard_in)),
            echoes=tuple(sorted(stray for stray in strays if stray.vni == stray.heard_in)),
        )

    def _pair(self, sender: int, receiver: int) -> Pair:
        tries = range(1, self._tries[sender] + 1)
        copies = [self._copies(sender, receiver, attempt) for attempt in tries]
        answers = [self._answered(sender, receiver, attempt) for attempt in tries]
        both = (n for n in tries if copies[n - 1] and answers[n - 1])
        return Pair(
            vni=self._workloads[sender].vni,
            sender=self._name(sender),
            receiver=self._name(receiver),
            broadcast=any(copies),
            duplicates=sum(number - 1 for number in copies if number),
            unicast=any(answers),
            tries=next(both, len(tries)),
        )

    def _missing(self, sender: int, attempt: int) -> set[int]:
        return {
            receiver
            for receiver in self._peers(sender)
            if not self._copies(sender, receiver, attempt)
            or not self._answered(sender, receiver, attempt)
        }

    def _copies(self, sender: int, receiver: int, attempt: int) -> int:
        vni = self._workloads[sender].vni
        return self._heard[_Message(False, vni, sender, _ALL, attempt), receiver]

    def _answered(self, sender: int, receiver: int, attempt: int) -> bool:
        vni = self._workloads[sender].vni
        return self._heard[_Message(True, vni, receiver, sender, attempt), sender] > 0

    def _peers(self, sender: int) -> list[int]:
        vni = self._workloads[sender].vni
        return [n for n, w in enumerate(self._workloads) if w.vni == vni and n != sender]

    def _name(self, number: int) -> str:
        return self._workloads[number].name

    def _send(self, message: _Message, destination: str) -> None:
        source = self._workloads[message.sender].mac
        payload = _PAYLOAD.pack(self._nonce, *message)
        frame = ethernet(destination, source, ETHERTYPE_EXPERIMENTAL, payload)
        self._sockets[message.sender].send(frame)

    def _listen(self, seconds: float) -> bool:
        """Wait for frames, then receive all that are there; return True if any was of this run."""
        any_heard = False
        for key, _ in self._selector.select(seconds):
            for message in self._messages(key.data):
                any_heard = True
                self._heard[message, key.data] += 1
                self._answer(message, key.data)
        return any_heard

    def _answer(self, message: _Message, hearer: int) -> None:
        same_segment = self._workloads[hearer].vni == message.vni
        if not message.answer and same_segment and hearer != message.sender:
            answer = _Message(True, message.vni, hearer, message.sender, message.attempt)
            self._send(answer, self._workloads[message.sender].mac)

    def _messages(self, hearer: int) -> Iterator[_Message]:
        for data in self._sockets[hearer].frames():
            frame = decode_ethernet(data)
            if frame is None or len(frame.payload) < _PAYLOAD.size:
                continue
            nonce, *fields = _PAYLOAD.unpack_from(frame.payload)
            if nonce == self._nonce:
                yield _Message(*fields)
