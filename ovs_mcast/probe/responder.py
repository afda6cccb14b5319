"""Decide what a responder answers to a frame. Pure: the caller has frames, clocks and sockets.

Made for hostile networks. A responder answers only a well-formed question, once, to its unicast
source, with a frame no longer than the question's, at a limited rate, of which each source has a
share while others ask: so much, and no more, is sent to a victim whose address is forged. With a
key, a question without its code, with a bad time, or sent again, gets no answer. A question with
the wrong key is refused, so that a mistyped key is not mistaken for a network that loses packets: a
refusal is no longer than an answer, has a tenth of the rate, and reveals no more than the IGMP
report did. ``silent`` turns refusals off.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from netaddr import IPAddress

from ..core.frames import EthernetFrame, UdpDatagram, decode_ethernet, decode_udp, mac_bytes
from ..core.groups import check_vtep
from .device import Station
from .protocol import PORT, Kind, Message, Reason, Way, parse
from .replay import TOLERANCE, FairBucket, Run, Runs, TokenBucket

RATE = 200.0
_TTL = 64
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Now:
    """``steady`` in seconds, of a clock that only goes forward; ``wall`` in µs since 1970."""

    steady: float
    wall: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it came."""

    mac: str
    datagram: UdpDatagram
    message: Message


@dataclass(slots=True)
class Counts:
    """The numbers of questions answered, refused, and withheld by the rate limit."""

    answered: int = 0
    refused: int = 0
    withheld: int = 0


@dataclass
class Answerer:
    """The responder of one device.

    ``groups`` are those that it answers for, ``joined`` those of which it is a member; ``sources``
    are its own address by family, from which questions to a group are answered. ``rate`` is in
    answers per second. ``started`` is when it began: with a key, what was sent before is refused,
    for what was answered before is forgotten.
    """

    station: Station
    groups: Collection[IPAddress]
    joined: Collection[IPAddress]
    sources: Mapping[int, IPAddress]
    started: Now
    key: bytes | None = None
    rate: float = RATE
    silent: bool = False
    port: int = PORT
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._mine = frozenset(self.station.unicast(4) + self.station.unicast(6))
        self._broadcasts = self.station.broadcasts()
        self._runs = Runs(keep=self.key is not None)
        self._answers = FairBucket(self.rate, self.started.steady)
        self._refusals = TokenBucket(self.rate / 10, self.started.steady)

    def answer(self, frame: bytes, now: Now) -> bytes | None:
        """Return the frame to send in return, or None."""
        asked = self._question(frame)
        if asked is None:
            return None
        reason = self._refusal_reason(asked, now)
        if reason is not Reason.NONE:
            return self._refusal(asked, reason, now)
        message = asked.message
        run = self._runs.find(asked.datagram.source, message.run, now.steady)
        if run is None or not run.windows[message.way].accept(message.sequence):
            return None
        if not self._answers.take(asked.datagram.source, now.steady):
            run.withheld += message.way is Way.GROUP
            self.counts.withheld += 1
            return None
        self.counts.answered += 1
        return self._answer(asked, run)

    def _question(self, frame: bytes) -> _Asked | None:
        """Return a question to answer or refuse: well-formed, for us, from one host; else None."""
        outer, datagram = decode_ethernet(frame), decode_udp(frame)
        if outer is None or datagram is None or not self._may_answer(outer, datagram):
            return None
        message = parse(datagram.payload)
        if message is None or message.kind is not Kind.QUESTION:
            return None
        destination = IPAddress(datagram.destination)
        if destination.version != message.group.version:
            return None
        if message.way is Way.GROUP:
            for_us = destination == message.group and destination in self.groups
        else:
            for_us = destination in self._mine
        return _Asked(outer.source, datagram, message) if for_us else None

    def _may_answer(self, outer: EthernetFrame, datagram: UdpDatagram) -> bool:
        """Whether an answer goes to one host only, and not to ourselves."""
        if outer.vlan is not None or mac_bytes(outer.source)[0] & 1:
            return False
        if datagram.destination_port != self.port or not datagram.source_port:
            return False
        try:
            source = check_vtep(IPAddress(datagram.source))
        except ValueError:
            return False
        return source not in self._mine and source not in self._broadcasts

    def _refusal_reason(self, asked: _Asked, now: Now) -> Reason:
        message, datagram = asked.message, asked.datagram
        if self.key is None:
            return Reason.NONE if message.code is None else Reason.KEY_UNKNOWN
        if message.code is None:
            return Reason.KEY_NEEDED
        if not message.verified(self.key, datagram.source, datagram.destination):
            return Reason.KEY_DIFFERS
        oldest = max(now.wall - TOLERANCE * _MICRO, self.started.wall)
        in_time = oldest <= message.time <= now.wall + TOLERANCE * _MICRO
        return Reason.NONE if in_time else Reason.CLOCK

    def _refusal(self, asked: _Asked, reason: Reason, now: Now) -> bytes | None:
        if self.silent:
            return None
        if not self._refusals.take(now.steady):
            self.counts.withheld += 1
            return None
        self.counts.refused += 1
        return self._frame(asked, replace(asked.message, kind=Kind.REFUSAL, reason=reason))

    def _answer(self, asked: _Asked, run: Run) -> bytes:
        window = run.windows[Way.GROUP]
        message = replace(
            asked.message,
            kind=Kind.ANSWER,
            reason=Reason.NONE,
            seen=window.seen,
            repeats=window.repeats,
            withheld=run.withheld,
        )
        return self._frame(asked, message)

    def _frame(self, asked: _Asked, message: Message) -> bytes:
        question = asked.datagram
        source = question.destination
        if message.way is Way.GROUP:
            source = str(self.sources[message.group.version])
        message = replace(
            message,
            ttl_seen=question.ttl,
            joined=message.group in self.joined,
            code=None,
        )
        # A refusal because of the key has no code: the sender could not check it.
        if self.key is not None and message.reason in {Reason.NONE, Reason.CLOCK}:
            message = message.signed(self.key, source, question.source)
        ports = (self.port, question.source_port)
        payload = message.encode()
        return self.station.frame(asked.mac, source, question.source, ports, payload, _TTL)
