"""An ordinary UDP socket, and the errors of its datagrams."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress

from ..core.closeable import Closeable
from ..errors import UnavailableError

UNICAST_TTL = 64

# linux/in.h, linux/in6.h, linux/errqueue.h
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # errno, origin, type, code, zero, info, data


class OrdinarySocket(Closeable):
    """Sends; a context. ``bound`` is a device and a source address, or None for neither.

    ``ttl`` is that of multicast. It receives nothing: answers are captured on the device.
    """

    def __init__(self, family: int, ttl: int, bound: tuple[str, str] | None = None) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        try:
            self._socket = socket.socket(kind, socket.SOCK_DGRAM)
        except OSError as error:
            raise UnavailableError(f"no IPv{family} socket: {error.strerror}") from error
        try:
            self._prepare(family, ttl, bound)
        except OSError as error:
            self.close()
            raise UnavailableError(f"no socket on {bound}: {error.strerror}") from error

    def _prepare(self, family: int, ttl: int, bound: tuple[str, str] | None) -> None:
        set_option = self._socket.setsockopt
        if family == 4:
            set_option(socket.IPPROTO_IP, _IP_RECVERR, 1)
            set_option(socket.IPPROTO_IP, socket.IP_TTL, UNICAST_TTL)
            set_option(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        else:
            set_option(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            set_option(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, UNICAST_TTL)
            set_option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        if bound is not None:
            set_option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bound[0].encode())
        self._socket.bind((bound[1] if bound is not None else "", 0))

    @property
    def port(self) -> int:
        """The UDP port that the kernel chose."""
        port: int = self._socket.getsockname()[1]
        return port

    def send(self, payload: bytes, destination: str, port: int) -> int:
        """Send one datagram; return the errno, or 0."""
        # The kernel reports the error of an earlier datagram once, at the next call of any kind.
        with suppress(OSError):
            return self._send(payload, destination, port)
        try:
            return self._send(payload, destination, port)
        except OSError as error:
            return error.errno or errno.EIO

    def _send(self, payload: bytes, destination: str, port: int) -> int:
        self._socket.sendto(payload, (destination, port))
        return 0

    def source_towards(self, destination: str, port: int) -> str | None:
        """Return the source address that the kernel would choose; None without a route."""
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as asking:
            try:
                asking.connect((destination, port))
            except OSError:
                return None
            return str(asking.getsockname()[0])

    def errors(self) -> dict[str, int]:
        """Return the errors since the last call: destination to errno (ip(7), IP_RECVERR)."""
        # Unread answers fill the buffer that errors need too.
        with suppress(OSError):
            while True:
                self._socket.recv(1, socket.MSG_DONTWAIT)
        found: dict[str, int] = {}
        with suppress(BlockingIOError):
            while True:
                _, ancillary, _, address = self._socket.recvmsg(
                    0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
                for _, kind, data in ancillary:
                    if kind in {_IP_RECVERR, _IPV6_RECVERR} and len(data) >= _EXTENDED_ERROR.size:
                        found[str(address[0])] = _EXTENDED_ERROR.unpack_from(data)[0]
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
