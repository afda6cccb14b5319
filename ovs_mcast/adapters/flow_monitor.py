"""Changes of a bridge's flows as they happen: an OpenFlow 1.4 flow monitor, over its own socket.

A client of the bridge's .mgmt socket that speaks only what that takes: hello, echo, and the
flow monitor of OpenFlow 1.4 and 1.5 (EXT-187, ovs-ofctl(8)). Decides nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.closeable import Closeable
from ..core.events import FlowEvent, Watched

_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY = 0, 1, 2, 3
_MULTIPART_REQUEST, _MULTIPART_REPLY = 18, 19
_FLOW_MONITOR = 16
_ANY = 0xFFFFFFFF
_ADD, _REMOVED, _MODIFY = 1 << 1, 1 << 2, 1 << 3
_ABBREVIATED, _PAUSED, _RESUMED = 4, 5, 6
_VERSIONS = {"OpenFlow14": 5, "OpenFlow15": 6}

_HEADER = struct.Struct("!BBHI")  # version, type, length, transaction
_MULTIPART = struct.Struct("!HH4x")  # type, flags
# Monitor, port, group, flags, table, command, and a match of everything.
_REQUEST = struct.Struct("!IIIHBB HH4x")
_UPDATE = struct.Struct("!HH")  # length, event
_FULL = struct.Struct("!BBHHH4xQ")  # table, reason, timeouts, priority, cookie


class FlowEvents(Closeable):
    """Flow events of one bridge, non-blocking; OSError if ovs-vswitchd does not have it now."""

    def __init__(self, rundir: Path, bridge: str, watched: Sequence[Watched], version: str) -> None:
        if version not in _VERSIONS:
            raise OSError(f"{version} has no flow monitor")
        self.bridge = bridge
        self._version = _VERSIONS[version]
        self.refused = False  # whether ovs-vswitchd reported that it has no flow monitor
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(rundir / f"{bridge}.mgmt"))
            self._socket.sendall(self._message(_HELLO, b""))
            for number, one in enumerate(watched):
                flags = _REMOVED | _MODIFY | (_ADD if one.added else 0)
                wanted = _REQUEST.pack(number, _ANY, _ANY, flags, one.table, 0, 1, 4)
                request = _MULTIPART.pack(_FLOW_MONITOR, 0) + wanted
                self._socket.sendall(self._message(_MULTIPART_REQUEST, request))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def read(self) -> list[FlowEvent] | None:
        """Return the pending events; None once ovs-vswitchd or the bridge is gone."""
        found: list[FlowEvent] = []
        while True:
            try:
                part = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError:
                return None
            if not part:
                return None
            self._received += part
            try:
                found += self._events()
            except (OSError, struct.error):
                return None

    def _message(self, kind: int, body: bytes, transaction: int = 0) -> bytes:
        return _HEADER.pack(self._version, kind, _HEADER.size + len(body), transaction) + body

    def _events(self) -> Iterator[FlowEvent]:
        while len(self._received) >= _HEADER.size:
            _version, kind, length, transaction = _HEADER.unpack_from(self._received)
            if length < _HEADER.size:
                raise struct.error("a message without length")
            if len(self._received) < length:
                return
            body = bytes(self._received[_HEADER.size : length])
            del self._received[:length]
            if kind == _ECHO_REQUEST:
                self._socket.sendall(self._message(_ECHO_REPLY, body, transaction))
            elif kind == _ERROR:
                self.refused = True
                raise OSError("ovs-vswitchd has no flow monitor")
            elif kind == _MULTIPART_REPLY:
                yield from self._updates(body)

    def _updates(self, body: bytes) -> Iterator[FlowEvent]:
        offset = _MULTIPART.size
        while offset + _UPDATE.size <= len(body):
            length, event = _UPDATE.unpack_from(body, offset)
            if event in {_PAUSED, _RESUMED}:
                yield FlowEvent(self.bridge, lost=True)
            elif event != _ABBREVIATED:
                table, _, _, _, _, cookie = _FULL.unpack_from(body, offset + _UPDATE.size)
                yield FlowEvent(self.bridge, table, cookie)
            if length < _UPDATE.size:
                raise struct.error("an update without length")
            offset += length
