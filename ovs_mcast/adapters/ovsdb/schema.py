"""The schema of Open vSwitch's database, asked for with a deadline (get_schema, RFC 7047, 4.1.2).

ovsdbapp asks without one, and would wait for a server that hangs without end.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

_DATABASE = "Open_vSwitch"
_REQUEST = json.dumps({"id": 0, "method": "get_schema", "params": [_DATABASE]}).encode()


def fetch(remote: str, timeout: float) -> Any:
    """Return the schema from an ovsdb-server, unix:FILE or tcp:ADDRESS:PORT.

    OSError, TimeoutError among them, without an answer in ``timeout`` seconds; ValueError if the
    server has no such database.
    """
    deadline = time.monotonic() + timeout
    received = b""
    with _connected(remote, timeout) as server:
        server.sendall(_REQUEST)
        while True:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            part = server.recv(1 << 20)
            if not part:
                raise ConnectionError("it closed the connection")
            received += part
            if part.endswith(b"}"):  # the answer is one object, and may come in parts
                try:
                    answer = json.loads(received)
                except ValueError:
                    continue
                return _result(answer)


def _connected(remote: str, timeout: float) -> socket.socket:
    method, _, place = remote.partition(":")
    if method == "tcp":
        address, _, port = place.rpartition(":")
        return socket.create_connection((address.strip("[]"), int(port)), timeout)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.settimeout(timeout)
        server.connect(place)
    except OSError:
        server.close()
        raise
    return server


def _result(answer: Any) -> Any:
    if answer.get("error"):
        raise ValueError(f"it has no database {_DATABASE}")
    return answer["result"]
