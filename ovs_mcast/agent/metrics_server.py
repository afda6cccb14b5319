"""A small HTTP server for Prometheus: one address, its own registry.

Not prometheus_client.start_http_server: that resolves the address to a name before it serves, which
held up the agent for 10 s where the DNS server did not answer, wakes twice a second, serves
IPv4 too where [::] is asked for, and gives each client a thread for as long as that likes.
"""

from __future__ import annotations

import errno
import io
import socket
import threading
import time
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from netaddr import AddrFormatError, IPAddress
from prometheus_client import CollectorRegistry, make_wsgi_app

from ..core.closeable import Closeable
from ..errors import ConfigurationError, UnavailableError

_FIELD = "--metrics"
_POLL = 3600.0  # seconds; `close` wakes the server at once
_TIMEOUT = 5.0  # seconds for a client to send its request, and again to read the answer
_MOST = 16  # clients at a time; further ones take the place of those that have sent no request yet


def parse_address(text: str) -> tuple[str, int]:
    """Return address and port of `10.0.0.1:9417` or `[fd00::1]:9417`; else ConfigurationError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = IPAddress(host[1:-1] if bracketed else host)
    except (AddrFormatError, ValueError):
        address = None
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not colon or address is None or bracketed != (address.version == 6) or not digits:
        raise ConfigurationError(
            f"{text!r} is not ADDR:PORT, such as 127.0.0.1:9417 or [::1]:9417", field=_FIELD
        )
    if not 1 <= int(port) <= 65535:
        raise ConfigurationError(f"port {port} is not within 1 to 65535", field=_FIELD)
    return str(address), int(port)


class MetricsServer(Closeable):
    """Answers each GET on (address, port) with all of a registry; port 0 takes any free port.

    UnavailableError where the port is taken, or the address is not of this machine. Each scrape has
    a thread of its own, for which ``close`` does not wait; at most 16 at a time.
    """

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        host, port = address
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except OSError as error:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise UnavailableError(f"{_FIELD} {where}: {_bind_error(error)}") from None
        self._server.set_app(make_wsgi_app(registry))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving; the port is free again."""
        if self._thread.is_alive():
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes serve_forever
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Request(io.RawIOBase):
    """What a client sends, until a deadline for all of it."""

    def __init__(self, client: socket.socket, end: float) -> None:
        self._client, self._end = client, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._client.settimeout(left)
        return self._client.recv_into(buffer)


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT
    server: _Server

    def setup(self) -> None:
        """Read the request with a deadline."""
        super().setup()
        self.rfile = io.BufferedReader(_Request(self.connection, time.monotonic() + _TIMEOUT))

    def parse_request(self) -> bool:
        """Read the request; from now on nobody takes the client's place."""
        parsed = super().parse_request()
        self.connection.settimeout(_TIMEOUT)
        self.server.waiting.pop(self.connection, None)
        return parsed

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        """Log nothing about scrapes."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # a client that finds the queue full asks again after a second

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self.waiting: dict[socket.socket, None] = {}  # clients without a request, in their order
        self._places = threading.BoundedSemaphore(_MOST)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client on a thread, in the place of the first that has sent no request yet."""
        while not self._places.acquire(blocking=False):
            first = next(iter(list(self.waiting)), None)
            if first is None:
                self.shutdown_request(request)
                return
            self.waiting.pop(first, None)
            with suppress(OSError):
                first.shutdown(socket.SHUT_RDWR)  # its thread ends
            if self._places.acquire(timeout=_TIMEOUT):
                break
        self.waiting[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client, then leave its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self.waiting.pop(request, None)
        self._places.release()

    def server_bind(self) -> None:
        """Bind without HTTPServer's lookup of the address's name, which waits for DNS."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up or time out; errors of the application are answered."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _bind_error(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there: choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no device has the address"
    return error.strerror or str(error)
