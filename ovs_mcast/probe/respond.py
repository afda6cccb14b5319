"""The responder: answer the questions of `probe send` on one device, until a signal ends it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector

from netaddr import IPAddress

from ..adapters.packet_socket import PacketSocket
from ..adapters.proc import joined
from ..adapters.signals import SignalPipe
from ..errors import ConfigurationError, UnavailableError
from ..membership.device_groups import DeviceGroups
from .device import DAY, Station, check_number, find_groups, find_station, find_unicast
from .protocol import PORT
from .responder import RATE, Answerer, Counts, Now


@dataclass(frozen=True, slots=True)
class Ready:
    """What a responder that is ready answers for: device, groups, its addresses, UDP port."""

    device: str
    groups: tuple[IPAddress, ...]
    sources: tuple[IPAddress, ...]
    port: int


def respond(
    device: str,
    groups: Sequence[str | IPAddress],
    *,
    source: str | IPAddress | None = None,
    port: int = PORT,
    key: bytes | None = None,
    rate: float = RATE,
    join: bool = True,
    silent: bool = False,
    once: bool = False,
    duration: float | None = None,
    on_ready: Callable[[Ready], None] = lambda _: None,
) -> Counts:
    """Answer until SIGINT or SIGTERM, for ``duration`` seconds, or ``once``; then leave the groups.

    Calls ``on_ready`` when the kernel shows the memberships and questions are received. Without
    ``join``, becomes a member of nothing and answers the questions that a switch floods. Call it
    from the main thread. Needs CAP_NET_RAW: UnavailableError without it.
    """
    check_number(port, "port", 1, 65535)
    check_number(rate, "rate", 0.1, 1_000_000)
    if duration is not None:
        check_number(duration, "duration", 0, 365 * DAY)
    wanted, station = find_groups(groups), find_station(device)
    sources = _sources(station, wanted, source)
    settings = _Settings(station, wanted, sources, port, key, rate, join, silent)
    with _opened(settings) as (ending, packets, answerer):
        on_ready(Ready(device, wanted, tuple(sources.values()), port))
        _serve(answerer, packets, ending, once=once, duration=duration)
    return answerer.counts


@dataclass(frozen=True, slots=True)
class _Settings:
    """The arguments of a run, checked."""

    station: Station
    groups: tuple[IPAddress, ...]
    sources: dict[int, IPAddress]
    port: int
    key: bytes | None
    rate: float
    join: bool
    silent: bool


@contextmanager
def _opened(settings: _Settings) -> Iterator[tuple[SignalPipe, PacketSocket, Answerer]]:
    """Open the sockets and join the groups."""
    device = settings.station.device
    with ExitStack() as stack:
        ending = stack.enter_context(SignalPipe((signal.SIGINT, signal.SIGTERM)))
        packets = stack.enter_context(PacketSocket(device, udp_port=settings.port))
        for family in settings.sources:
            stack.enter_context(_port_taken(family, device, settings.port))
        held = stack.enter_context(DeviceGroups(device))
        if settings.join:
            held.join(settings.groups)
            _check_joined(device, settings.groups)
        answerer = Answerer(
            station=settings.station,
            groups=frozenset(settings.groups),
            joined=held.groups,
            sources=settings.sources,
            started=_now(),
            key=settings.key,
            rate=settings.rate,
            silent=settings.silent,
            port=settings.port,
        )
        yield ending, packets, answerer


def _serve(
    answerer: Answerer,
    packets: PacketSocket,
    ending: SignalPipe,
    *,
    once: bool,
    duration: float | None,
) -> None:
    end = None if duration is None else time.monotonic() + duration
    with DefaultSelector() as selector:
        selector.register(ending, EVENT_READ)
        selector.register(packets, EVENT_READ)
        while end is None or time.monotonic() < end:
            ready = selector.select(None if end is None else max(0.0, end - time.monotonic()))
            if any(key.fileobj is ending for key, _ in ready):
                return
            frame = _heard(packets)
            answer = answerer.answer(frame, _now()) if frame is not None else None
            if answer is None:
                continue
            # While the device is down, an answer is lost; the responder goes on.
            with suppress(UnavailableError):
                packets.send(answer)
            if once and answerer.counts.answered:
                return


def _heard(packets: PacketSocket) -> bytes | None:
    """Return the next frame; None once if the device goes down, for it may come up again."""
    try:
        return packets.receive()
    except UnavailableError:
        find_station(packets.device)
        return None


def _now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1000)


def _sources(
    station: Station, groups: Sequence[IPAddress], named: str | IPAddress | None
) -> dict[int, IPAddress]:
    families = sorted({group.version for group in groups})
    if named is None:
        return {family: station.source(family) for family in families}
    if len(families) > 1:
        raise ConfigurationError("the groups are of two families: leave it out", field="source")
    family = families[0]
    return {family: station.source(family, find_unicast(named, "source", family))}


def _check_joined(device: str, groups: Sequence[IPAddress]) -> None:
    seen = joined(device)
    missing = [str(group) for group in groups if str(group) not in seen]
    if missing:
        raise UnavailableError(f"the kernel shows no membership of {', '.join(missing)}")


@contextmanager
def _port_taken(family: int, device: str, port: int) -> Iterator[None]:
    """Bind the UDP port, so that the kernel answers no question by ICMP; receive nothing."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as holder:
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if family == 6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.bind(("", port))
        except OSError as error:
            raise UnavailableError(
                f"UDP port {port} on {device}: {error.strerror}; one responder serves many groups"
            ) from error
        yield
