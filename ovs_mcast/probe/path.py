"""Where an ordinary datagram to a group goes, as seen in packets on the device and on lo.

It disturbs nobody: one datagram, of TTL or hop limit 1, so that no router passes it on, to a port
of the probe's own, with a payload that says what it is, and not handed to members on this host.
(Of TTL 0 nothing would be seen: such a datagram to a group never leaves the host. 1 is also what a
program sends that sets nothing, ip(7) IP_MULTICAST_TTL.)
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from selectors import EVENT_READ, DefaultSelector

from netaddr import IPAddress
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from ..adapters.packet_socket import PacketSocket
from ..adapters.rtnetlink import fib
from ..adapters.rtnetlink.client import Netlink
from ..core.frames import decode_udp
from ..core.observed import RoutePath
from .device import Station, find_group, find_station, find_unicast
from .protocol import PORT, Kind, Message, Way, parse
from .verdict import LOOPBACK, Evidence, SendPath, judge

SIGHT = 0.5  # seconds in which a datagram that leaves is seen to
DETECTION = 8.0  # seconds that duplicate address detection may take


def send_path(
    device: str,
    group: str | IPAddress,
    *,
    source: str | IPAddress | None = None,
    port: int = PORT,
    sight: float = SIGHT,
    detection: float = DETECTION,
) -> SendPath:
    """The verdict on the send path of an ordinary program to the group, with the evidence.

    ``source`` is the tunnel's, by default the device's first unicast address of the family. For
    IPv6, waits up to ``detection`` seconds for duplicate address detection on the device. Needs
    CAP_NET_RAW: UnavailableError without it. A verdict that is not "wire" is a value, no exception.
    """
    destination = find_group(group)
    station = find_station(device)
    tunnel = _tunnel_source(station, destination, source)
    tentative, sends, tunnels = _look(device, destination, tunnel, detection)
    watched = tuple(dict.fromkeys(filter(None, (device, LOOPBACK, sends.device))))
    taken = fib.taken(destination)
    seen, error = _watch_one(destination, port, watched, device, sight)
    return judge(
        Evidence(
            group=destination,
            device=device,
            watched=watched,
            seen=seen,
            sends=sends,
            tunnels=tunnels,
            taken=taken,
            holders=tuple(a for a in station.holders if a.address == str(destination)),
            error=error,
            up=station.link.up,
            tentative=tentative,
        )
    )


def _tunnel_source(
    station: Station, group: IPAddress, named: str | IPAddress | None
) -> IPAddress | None:
    if named is not None:
        return station.source(group.version, find_unicast(named, "source", group.version))
    return next(iter(station.unicast(group.version)), None)


def _look(
    device: str, group: IPAddress, source: IPAddress | None, detection: float
) -> tuple[frozenset[str], RoutePath, RoutePath]:
    """Addresses that are tentative all the same, and how a program and a tunnel would send."""
    tentative: frozenset[str] = frozenset()
    with closing(Netlink()) as netlink:
        sends = netlink.look_up([group])[str(group)]
        if group.version == 6:
            # The other device's detection matters too: without an address, nothing can be sent.
            for name in filter(None, {device, sends.device} - {LOOPBACK}):
                tentative |= _after_detection(name, detection)
            sends = netlink.look_up([group])[str(group)]
        if source is None:
            return tentative, sends, RoutePath(None)
        # The kernel names no preferred source where the source is given.
        tunnels = netlink.look_up([group], source)[str(group)]
        return tentative, sends, RoutePath(tunnels.device, str(source))


def _after_detection(device: str, seconds: float) -> frozenset[str]:
    """The addresses whose detection is not over after so many seconds; mostly none."""
    looking = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.05),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    if fib.tentative(device):
        left: frozenset[str] = looking(fib.tentative, device)
        time.sleep(0.05)  # the flag goes a moment before the route comes
        return left
    return frozenset()


def _watch_one(
    group: IPAddress, port: int, watched: Sequence[str], device: str, seconds: float
) -> tuple[frozenset[str], int]:
    """Send one datagram; on which devices it was seen, and the errno of sending or 0."""
    run = os.urandom(16)
    payload = Message(Kind.NOTICE, Way.GROUP, run, 0, group, ttl=1).encode()
    seen: set[str] = set()
    with ExitStack() as stack:
        selector = stack.enter_context(DefaultSelector())
        for name in watched:
            # Not what comes in: a switch may bring back by one device what left by another.
            packets = stack.enter_context(
                PacketSocket(name, outgoing=True, incoming=False, udp_port=port)
            )
            selector.register(packets, EVENT_READ)
        error = _send_ordinarily(group, port, payload)
        end = time.monotonic() + (seconds if not error else 0)
        while device not in seen and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                packets = key.fileobj  # type: ignore[assignment]
                if any(_is_of(run, frame) for frame in packets.frames()):
                    seen.add(packets.device)
    return frozenset(seen), error


def _send_ordinarily(group: IPAddress, port: int, payload: bytes) -> int:
    """As any program does, which binds nothing and names no device; the errno, or 0."""
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            if group.version == 4:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            else:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sender.sendto(payload, (str(group), port))
    except OSError as error:
        return error.errno or 0
    return 0


def _is_of(run: bytes, frame: bytes) -> bool:
    datagram = decode_udp(frame)
    message = parse(datagram.payload) if datagram else None
    return message is not None and message.run == run
