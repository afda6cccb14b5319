"""Programs of a host that send to groups and receive; decoding of the IGMP and MLD of joins."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from itertools import count
from threading import Thread
from typing import Literal, Self, TypeVar

from ovs_mcast.core.closeable import Closeable
from ovs_mcast.core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, decode_ethernet
from ovs_mcast.lab.namespace import Namespace, patient

PORT = 5000
_CLONE_NEWNET = 0x40000000
_JOINED, _LEFT = (2, 4), 3  # MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE; CHANGE_TO_INCLUDE (RFC 3376, 4.2)
_SERIAL = count(1)
_T = TypeVar("_T")

Said = tuple[tuple[Literal["join", "leave"], str], ...]


def opened_in(machine: Namespace, make: Callable[[], _T]) -> _T:
    """Return what ``make`` opens in the network namespace of a machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    made: list[_T] = []
    failed: list[OSError] = []

    def enter_and_make() -> None:
        with open(f"/proc/{machine.pid}/ns/net", encoding="ascii") as namespace:
            assert libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0, os.strerror(
                ctypes.get_errno()
            )
        try:
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = Thread(target=enter_and_make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


class Program(Closeable):
    """A UDP socket of a program on a machine, without a membership until ``join``.

    It is bound to ``source``; without one the kernel chooses the source of each datagram.
    """

    def __init__(self, machine: Namespace, *, source: str = "", family: int = 4) -> None:
        self._machine = machine
        self._family = socket.AF_INET if family == 4 else socket.AF_INET6
        self._socket = opened_in(machine, lambda: socket.socket(self._family, socket.SOCK_DGRAM))
        if source:
            self._socket.bind((source, 0))

    def send(self, group: str, *, port: int = PORT) -> bytes:
        """Send one datagram, unlike any other, and return its payload."""
        said = f"datagram {next(_SERIAL)}".encode()
        self._socket.sendto(said, (group, port))
        return said

    def listen(self) -> Self:
        """Bind to the port, to receive from every group that the machine is a member of."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("", PORT))
        return self

    def hear(self, timeout: float = 5.0) -> bytes:
        """Return the next datagram, or b"" after the timeout."""
        self._socket.settimeout(patient(timeout))
        try:
            return self._socket.recv(2048)
        except TimeoutError:
            return b""

    def join(self, group: str, device: str) -> Self:
        """Become a member (IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP)."""
        index = int(opened_in(self._machine, lambda: socket.if_nametoindex(device)))
        if self._family == socket.AF_INET6:
            request = struct.pack("=16si", socket.inet_pton(self._family, group), index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            return self
        request = struct.pack("=4s4xi", socket.inet_aton(group), index)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        return self

    def close(self) -> None:
        """Close the socket, which ends its memberships."""
        self._socket.close()


def membership_said(frame: bytes) -> Said | None:
    """Decode joins and leaves of IGMP 2 and 3, MLD 1 and 2; None for any other frame."""
    outer = decode_ethernet(frame)
    if outer is None or outer.ethertype not in {ETHERTYPE_IPV4, ETHERTYPE_IPV6}:
        return None
    packet = outer.payload
    if outer.ethertype == ETHERTYPE_IPV4:
        head = (packet[0] & 0xF) * 4
        said = tuple(_igmp(packet[head:])) if packet[9] == socket.IPPROTO_IGMP else ()
    else:
        # A hop-by-hop header with the router alert comes before (RFC 3810, 5).
        said = tuple(_mld(packet[48:])) if packet[6] == 0 and packet[40] == 58 else ()
    return said or None


def _igmp(message: bytes) -> Iterator[tuple[Literal["join", "leave"], str]]:
    if message[0] == 0x16:
        yield "join", socket.inet_ntoa(message[4:8])
    elif message[0] == 0x17:
        yield "leave", socket.inet_ntoa(message[4:8])
    elif message[0] == 0x22:
        yield from _records(message, 4, socket.AF_INET)


def _mld(message: bytes) -> Iterator[tuple[Literal["join", "leave"], str]]:
    if message[0] in {131, 132}:
        group = socket.inet_ntop(socket.AF_INET6, message[8:24])
        yield "join" if message[0] == 131 else "leave", group
    elif message[0] == 143:
        yield from _records(message, 16, socket.AF_INET6)


def _records(
    message: bytes, octets: int, family: int
) -> Iterator[tuple[Literal["join", "leave"], str]]:
    (number,) = struct.unpack_from("!H", message, 6)
    at = 8
    for _ in range(number):
        kind, more, sources = struct.unpack_from("!BBH", message, at)
        group = socket.inet_ntop(family, message[at + 4 : at + 4 + octets])
        if kind in _JOINED:
            yield "join", group
        elif kind == _LEFT and not sources:
            yield "leave", group
        at += 4 + octets + sources * octets + more * 4


class AddressEvents:
    """Rtnetlink notifications of the addresses and routes of a machine."""

    _GROUPS = 0x10 | 0x40 | 0x100 | 0x400  # IPv4 addresses and routes, IPv6 addresses and routes

    def __init__(self, machine: Namespace) -> None:
        self._socket = opened_in(machine, self._open)

    def _open(self) -> socket.socket:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        events.bind((0, self._GROUPS))
        return events

    def number(self) -> int:
        """Return the number of notifications since the last call."""
        self._socket.setblocking(False)
        number = 0
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return number
            number += 1

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
