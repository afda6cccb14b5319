"""Where an ordinary datagram to a group goes, as seen in packets on the device and on lo.

One datagram is sent: with TTL or hop limit 1, so that routers do not forward it; to the probe's own
port, with a payload that identifies it; and not looped back to members on this host. (A datagram
with TTL 0 to a group never leaves the host, so nothing would be seen. 1 is also the default of
programs that set no TTL, ip(7) IP_MULTICAST_TTL.)
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from selectors import EVENT_READ, DefaultSelector

from netaddr import IPAddress

from ..adapters.packet_socket import PacketSocket
from ..adapters.polling import poll_until
from ..adapters.rtnetlink.client import Netlink
from ..core.frames import decode_udp
from ..core.observed import RoutePath
from .device import Station, find_group, find_station, find_unicast
from .protocol import PORT, Kind, Message, Way, parse
from .verdict import LOOPBACK, Evidence, SendPath, judge

SIGHT = 0.5  # seconds to wait until a datagram is seen leaving
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
    """Return the verdict on the send path of an ordinary program to the group, with the evidence.

    ``source`` is the tunnel's, by default the device's first unicast address of the family. For
    IPv6, waits up to ``detection`` seconds for duplicate address detection on the device. Needs
    CAP_NET_RAW: UnavailableError without it. A verdict other than "wire" is a value, no exception.
    """
    destination = find_group(group)
    station = find_station(device)
    tunnel = _tunnel_source(station, destination, source)
    with closing(Netlink()) as netlink:
        tentative, sends = _after_detection(netlink, device, destination, detection)
        tunnels = _tunnel_path(netlink, destination, tunnel)
        taken = netlink.fib_route(destination)
    watched = tuple(dict.fromkeys(filter(None, (device, LOOPBACK, sends.device))))
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


def _after_detection(
    netlink: Netlink, device: str, group: IPAddress, seconds: float
) -> tuple[frozenset[str], RoutePath]:
    """Return the addresses still tentative after so many seconds, and an ordinary program's path.

    For IPv6 alone, duplicate address detection (RFC 4862, 5.4) is waited for.
    """
    sends = netlink.look_up([group])[str(group)]
    if group.version == 4:
        return frozenset(), sends
    # The other device's detection matters too: without an address, nothing can be sent.
    devices = set(filter(None, {device, sends.device} - {LOOPBACK}))

    def tentative() -> frozenset[str]:
        addresses = netlink.addresses()
        return frozenset(a.address for a in addresses if a.device in devices and a.tentative)

    if tentative():
        left = poll_until(tentative, lambda found: not found, seconds, 0.05)
        time.sleep(0.05)  # the kernel adds the route a moment after the flag is cleared
        sends = netlink.look_up([group])[str(group)]
        return left, sends
    return frozenset(), sends


def _tunnel_path(netlink: Netlink, group: IPAddress, source: IPAddress | None) -> RoutePath:
    if source is None:
        return RoutePath(None)
    # The kernel returns no preferred source if the source is given.
    return RoutePath(netlink.look_up([group], source)[str(group)].device, str(source))


def _watch_one(
    group: IPAddress, port: int, watched: Sequence[str], device: str, seconds: float
) -> tuple[frozenset[str], int]:
    """Send one datagram; return the devices on which it was seen, and the errno of sending or 0."""
    run = os.urandom(16)
    payload = Message(Kind.NOTICE, Way.GROUP, run, 0, group, ttl=1).encode()
    seen: set[str] = set()
    with ExitStack() as stack:
        selector = stack.enter_context(DefaultSelector())
        for name in watched:
            # Outgoing packets alone: a switch may return by one device what left by another.
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
    """Send as a program that binds no socket and names no device; return the errno, or 0."""
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
