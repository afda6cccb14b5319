"""A small HTTP server for Prometheus: one address, its own registry, gone when it is closed."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from netaddr import AddrFormatError, IPAddress
from prometheus_client import CollectorRegistry, make_wsgi_app

from ..core.closeable import Closeable
from ..errors import ConfigurationError, UnavailableError

_FIELD = "--metrics"
_IDLE = 3600.0  # seconds between two looks at whether it shall end, which `close` does not wait for
_PATIENCE = 5.0  # seconds for a client to say what it wants, and to take the answer


def parse_address(text: str) -> tuple[str, int]:
    """`10.0.0.1:9417` or `[fd00::1]:9417` as address and port; ConfigurationError for all else."""
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


class Exposition(Closeable):
    """Answers each GET on (address, port) with all of a registry; port 0 takes any that is free.

    UnavailableError where the port is taken, or the address is not this machine's. A scrape has a
    thread of its own; ``close`` returns when none is left.
    """

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        host, port = address
        try:
            self._server = _server(host)((host, port), _Handler)
        except OSError as error:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise UnavailableError(f"{_FIELD} {where}: {_why(error)}") from None
        self._server.set_app(make_wsgi_app(registry))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _IDLE}, name="metrics"
        )
        self._thread.start()

    def close(self) -> None:
        """End, once scrapes that are under way have been answered."""
        if self._thread.is_alive():
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes it
            self._server.shutdown()
            self._thread.join()
        self._server.hear_no_more()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        """Scrapes are no news."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client went away, or said nothing in time
            self.close_connection = True


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 16

    def __init__(self, *values: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*values)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def hear_no_more(self) -> None:
        """Whoever has not said yet what it wants is not waited for."""
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RD)

    def server_bind(self) -> None:
        """Without the look-up of a name, which HTTPServer waits for."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there: choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no device has the address"
    return error.strerror or str(error)
