"""The sender: ask a group, then each of its hosts by unicast, and report the answers.

Questions to the group are complete Ethernet frames sent on the device, so that this host's routes
do not matter; answers are received there too, before any packet filter. Unicast is sent by an
ordinary UDP socket, and with ``sender="socket"`` so is the group: if the results of the two senders
differ, this host's routing is the reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from netaddr import IPAddress

from ..adapters.packet_socket import PacketSocket
from ..core.frames import decode_ethernet, decode_udp
from ..core.groups import ethernet_of
from ..errors import ConfigurationError
from .device import DAY, Station, check_number, find_group, find_station, find_unicast, gateways
from .protocol import PORT, Kind, Message, Reason, Way, parse
from .reachability import Reachability, Sender
from .tally import Tally
from .udp_socket import UNICAST_TTL, OrdinarySocket


def send(
    device: str,
    group: str | IPAddress,
    *,
    source: str | IPAddress | None = None,
    count: int = 5,
    interval: float = 0.1,
    timeout: float = 1.0,
    ttl: int = 8,
    expect: Sequence[str | IPAddress] = (),
    key: bytes | None = None,
    sender: Sender = "raw",
    port: int = PORT,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Reachability:
    """Ask ``count`` times, every ``interval`` s, the group and then its hosts; wait ``timeout`` s.

    Needs CAP_NET_RAW: UnavailableError without it. A missing answer is a value, no exception. After
    a keyboard interrupt, returns the answers received before it.
    """
    _check_times(count, interval, timeout)
    check_number(ttl, "ttl", 1, 255)
    check_number(port, "port", 1, 65535)
    destination, station = find_group(group), find_station(device)
    family = destination.version
    named = find_unicast(source, "source", family) if source is not None else None
    question = _Question(
        station, destination, station.source(family, named), key, sender, ttl, port
    )
    expected = _expected(station, expect, family)
    with _Asking.opened(question, Tally(expected, keyed=key is not None)) as asking:
        interrupted = asking.run(count, interval, timeout, progress)
    return asking.result(expected, interrupted=interrupted)


def _check_times(count: int, interval: float, timeout: float) -> None:
    check_number(count, "count", 1, 100_000)
    check_number(interval, "interval", 0.001, DAY)
    check_number(timeout, "timeout", 0, DAY)


def _expected(station: Station, values: Sequence[str | IPAddress], family: int) -> tuple[str, ...]:
    """Return the expected hosts, each once; ConfigurationError if one is this host."""
    expected = tuple(dict.fromkeys(str(find_unicast(one, "expect", family)) for one in values))
    for address in expected:
        if IPAddress(address) in station.unicast(family):
            raise ConfigurationError(f"{address} is this host's own", field="expect")
    return expected


@dataclass(frozen=True)
class _Question:
    """The checked arguments of a run."""

    station: Station
    group: IPAddress
    source: IPAddress
    key: bytes | None
    sender: Sender
    ttl: int
    port: int


class _Asking:
    """One run, from the first question to the last answer."""

    def __init__(
        self, question: _Question, ordinary: OrdinarySocket, packets: PacketSocket, tally: Tally
    ) -> None:
        self._question, self._ordinary, self._packets = question, ordinary, packets
        self._tally = tally
        self._nonce = os.urandom(16)
        self._error = 0
        self._sources = {str(question.source)}

    @classmethod
    @contextmanager
    def opened(cls, question: _Question, tally: Tally) -> Iterator[Self]:
        """Open the sockets for as long as the context lasts."""
        device = question.station.device
        bound = (device, str(question.source)) if question.sender == "raw" else None
        with (
            OrdinarySocket(question.group.version, question.ttl, bound) as ordinary,
            PacketSocket(device, udp_port=ordinary.port) as packets,
        ):
            yield cls(question, ordinary, packets, tally)

    def result(self, expected: tuple[str, ...], *, interrupted: bool) -> Reachability:
        """Return the result of the run."""
        question = self._question
        return Reachability(
            group=str(question.group),
            device=question.station.device,
            source=str(question.source),
            sender=question.sender,
            sent=self._tally.sent,
            responders=self._tally.responders(),
            expected=expected,
            error=self._error,
            interrupted=interrupted,
            ttl=question.ttl,
            gateways=gateways(expected, question.source),
        )

    def run(
        self, count: int, interval: float, timeout: float, progress: Callable[[int, int], None]
    ) -> bool:
        """Ask the group, then each host; return True if interrupted from the keyboard."""
        expected = self._tally.hosts
        try:
            for sequence in range(count):
                self._ask_group(sequence)
                progress(sequence + 1, 2 * count)
                self._listen(interval)
            self._listen(
                timeout,
                lambda: bool(expected) and self._tally.all_replied(Way.GROUP, self._tally.hosts),
            )
            # After the last question to the group: the answers say how many arrived.
            hosts = self._tally.hosts
            for sequence in range(count if hosts else 0):
                for host in hosts:
                    self._ask_host(host, sequence)
                progress(count + sequence + 1, 2 * count)
                self._listen(interval, lambda: self._tally.all_replied(Way.UNICAST, hosts))
            self._listen(timeout, lambda: self._tally.all_replied(Way.UNICAST, hosts))
        except KeyboardInterrupt:
            return True
        self._tally.errors.update(self._ordinary.errors())
        return False

    def _ask_group(self, sequence: int) -> None:
        question, group = self._question, str(self._question.group)
        raw = question.sender == "raw"
        source = str(question.source) if raw else self._source_towards(group)
        payload = self._payload(Way.GROUP, sequence, source, group, question.ttl)
        ports = (self._ordinary.port, question.port)
        mac = ethernet_of(question.group)
        frame = question.station.frame(mac, source, group, ports, payload, question.ttl)
        self._tally.asked(Way.GROUP, "", sequence, time.monotonic())
        if raw:
            self._packets.send(frame)
        else:
            self._error = self._ordinary.send(payload, group, question.port)

    def _ask_host(self, host: str, sequence: int) -> None:
        question = self._question
        source = str(question.source) if question.sender == "raw" else self._source_towards(host)
        payload = self._payload(Way.UNICAST, sequence, source, host, UNICAST_TTL)
        self._tally.errors.update(self._ordinary.errors())
        self._tally.asked(Way.UNICAST, host, sequence, time.monotonic())
        error = self._ordinary.send(payload, host, question.port)
        if error:
            self._tally.errors[host] = error

    def _payload(self, way: Way, sequence: int, source: str, destination: str, ttl: int) -> bytes:
        key, group = self._question.key, self._question.group
        # The time protects a key from replay; without a key, the clock is not revealed.
        wall = time.time_ns() // 1000 if key is not None else 0
        message = Message(Kind.QUESTION, way, self._nonce, sequence, group, time=wall, ttl=ttl)
        if key is not None:
            message = message.signed(key, source, destination)
        return message.encode()

    def _source_towards(self, destination: str) -> str:
        chosen = self._ordinary.source_towards(destination, self._question.port)
        source = chosen or str(self._question.source)
        self._sources.add(source)
        return source

    def _listen(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Take answers for so many seconds, or until there are enough."""
        end = time.monotonic() + seconds
        while not enough():
            left = end - time.monotonic()
            frame = self._packets.receive(left) if left > 0 else None
            if frame is None:
                return
            self._record_reply(frame, time.monotonic())

    def _record_reply(self, frame: bytes, at: float) -> None:
        outer, datagram = decode_ethernet(frame), decode_udp(frame)
        if outer is None or outer.vlan is not None or datagram is None:
            return
        if (
            datagram.destination not in self._sources
            or datagram.destination_port != self._ordinary.port
        ):
            return
        message, question = parse(datagram.payload), self._question
        if message is None or message.run != self._nonce or message.group != question.group:
            return
        # A responder that refuses for a wrong or missing key has no key that could be checked.
        coded = message.kind is Kind.ANSWER or message.reason is Reason.CLOCK
        between = datagram.source, datagram.destination
        if question.key is None or not coded or message.verified(question.key, *between):
            self._tally.heard(datagram.source, message, at)
