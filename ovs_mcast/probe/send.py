"""The sender: asks a group, then each of its hosts by unicast, and tells what came back.

The questions to the group are complete Ethernet frames put on the device, so that this host's
routes have no say; answers are heard there too, whatever a packet filter thinks of them. Unicast
goes by an ordinary UDP socket, and with ``sender="socket"`` so does the group: where the two
senders differ, this host's routing is the reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from netaddr import IPAddress

from ..adapters.packet_socket import PacketSocket
from ..core.frames import decode_ethernet, decode_udp
from ..core.groups import ethernet_of
from ..errors import ConfigurationError
from .device import DAY, Station, check_number, find_group, find_station, find_unicast
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

    Needs CAP_NET_RAW: UnavailableError without it. Absence is a value, no exception. Interrupted
    from the keyboard, it returns what came until then.
    """
    check_number(count, "count", 1, 100_000)
    check_number(interval, "interval", 0.001, DAY)
    check_number(timeout, "timeout", 0, DAY)
    check_number(ttl, "ttl", 1, 255)
    check_number(port, "port", 1, 65535)
    destination = find_group(group)
    station = find_station(device)
    family = destination.version
    own = station.source(
        family, find_unicast(source, "source", family) if source is not None else None
    )
    expected = tuple(dict.fromkeys(str(find_unicast(one, "expect", family)) for one in expect))
    for address in expected:
        if IPAddress(address) in station.unicast(family):
            raise ConfigurationError(f"{address} is this host's own", field="expect")
    tally = Tally(expected, keyed=key is not None)
    with ExitStack() as stack:
        bound = (device, str(own)) if sender == "raw" else None
        ordinary = stack.enter_context(OrdinarySocket(family, ttl, bound))
        packets = stack.enter_context(PacketSocket(device, udp_port=ordinary.port))
        asking = _Asking(
            station, destination, own, key, sender, ttl, port, ordinary, packets, tally
        )
        interrupted = asking.run(count, interval, timeout, progress)
    return Reachability(
        group=str(destination),
        device=device,
        source=str(own),
        sender=sender,
        sent=tally.sent,
        responders=tally.responders(),
        expected=expected,
        error=asking.error,
        interrupted=interrupted,
    )


@dataclass
class _Asking:
    """One run, from the first question to the last answer."""

    station: Station
    group: IPAddress
    source: IPAddress
    key: bytes | None
    sender: Sender
    ttl: int
    port: int
    ordinary: OrdinarySocket
    packets: PacketSocket
    tally: Tally
    nonce: bytes = field(default_factory=lambda: os.urandom(16))
    error: int = 0

    def __post_init__(self) -> None:
        self._sources = {str(self.source)}

    def run(
        self, count: int, interval: float, timeout: float, progress: Callable[[int, int], None]
    ) -> bool:
        """Ask the group, then each host; whether it was interrupted."""
        expected = self.tally.hosts
        try:
            for sequence in range(count):
                self._ask_group(sequence)
                progress(sequence + 1, 2 * count)
                self._listen(interval)
            self._listen(
                timeout,
                lambda: bool(expected) and self.tally.all_replied(Way.GROUP, self.tally.hosts),
            )
            # After the last question to the group: the answers say how many arrived.
            hosts = self.tally.hosts
            for sequence in range(count if hosts else 0):
                for host in hosts:
                    self._ask_host(host, sequence)
                progress(count + sequence + 1, 2 * count)
                self._listen(interval, lambda: self.tally.all_replied(Way.UNICAST, hosts))
            self._listen(timeout, lambda: self.tally.all_replied(Way.UNICAST, hosts))
        except KeyboardInterrupt:
            return True
        self.tally.errors.update(self.ordinary.errors())
        return False

    def _ask_group(self, sequence: int) -> None:
        group = str(self.group)
        if self.sender == "raw":
            payload = self._question(Way.GROUP, sequence, str(self.source), group, self.ttl)
            ports = (self.ordinary.port, self.port)
            frame = self.station.frame(
                ethernet_of(self.group), str(self.source), group, ports, payload, self.ttl
            )
            self.tally.asked(Way.GROUP, "", sequence, time.monotonic())
            self.packets.send(frame)
            return
        source = self._source_towards(group)
        payload = self._question(Way.GROUP, sequence, source, group, self.ttl)
        self.tally.asked(Way.GROUP, "", sequence, time.monotonic())
        self.error = self.ordinary.send(payload, group, self.port)

    def _ask_host(self, host: str, sequence: int) -> None:
        source = str(self.source) if self.sender == "raw" else self._source_towards(host)
        payload = self._question(Way.UNICAST, sequence, source, host, UNICAST_TTL)
        self.tally.errors.update(self.ordinary.errors())
        self.tally.asked(Way.UNICAST, host, sequence, time.monotonic())
        error = self.ordinary.send(payload, host, self.port)
        if error:
            self.tally.errors[host] = error

    def _question(self, way: Way, sequence: int, source: str, destination: str, ttl: int) -> bytes:
        # The time is for the key's sake: without one, the clock is nobody's business.
        wall = time.time_ns() // 1000 if self.key is not None else 0
        message = Message(Kind.QUESTION, way, self.nonce, sequence, self.group, time=wall, ttl=ttl)
        if self.key is not None:
            message = message.signed(self.key, source, destination)
        return message.encode()

    def _source_towards(self, destination: str) -> str:
        source = self.ordinary.source_towards(destination, self.port) or str(self.source)
        self._sources.add(source)
        return source

    def _listen(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Take answers for so many seconds, or until there are enough."""
        end = time.monotonic() + seconds
        while not enough():
            left = end - time.monotonic()
            frame = self.packets.receive(left) if left > 0 else None
            if frame is None:
                return
            self._take(frame, time.monotonic())

    def _take(self, frame: bytes, at: float) -> None:
        outer, datagram = decode_ethernet(frame), decode_udp(frame)
        if outer is None or outer.vlan is not None or datagram is None:
            return
        if (
            datagram.destination not in self._sources
            or datagram.destination_port != self.ordinary.port
        ):
            return
        message = parse(datagram.payload)
        if message is None or message.run != self.nonce or message.group != self.group:
            return
        # Who refuses for the key's sake has none that we could check.
        coded = message.kind is Kind.ANSWER or message.reason is Reason.CLOCK
        between = datagram.source, datagram.destination
        if self.key is None or not coded or message.verified(self.key, *between):
            self.tally.heard(datagram.source, message, at)
