"""Requests to a keeper, and its answers: one of each to a connection."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from ..adapters.polling import poll_until

_END_SECONDS = 5.0  # for the process to end after it has answered


@dataclass(frozen=True, slots=True)
class KeeperAnswer:
    """A keeper's answer: its process, and the groups that it joined."""

    pid: int
    stays: bool  # a thread: its process outlives it
    device: str
    index: int
    groups: tuple[str, ...]
    refused: int  # errno of the group that was to be joined or left, or 0


def ask(connection: socket.socket, request: str) -> KeeperAnswer | None:
    """Send a request and close the connection; None if the keeper ends before it has answered."""
    received = bytearray()
    assumed = 0 if request in {"look", "end"} else errno.EPROTO
    with connection:
        try:
            connection.sendall(request.encode())
            while part := connection.recv(1 << 16):
                received += part
            answer = json.loads(received)
            return KeeperAnswer(
                pid=int(answer["pid"]),
                stays=bool(answer.get("stays")),
                device=str(answer["device"]),
                index=int(answer["index"]),
                groups=tuple(sorted(answer.get("groups", ()), key=_packed)),
                refused=int(answer.get("refused", assumed)),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def end(connection: socket.socket) -> None:
    """Ask the keeper to end, and wait until its process has ended."""
    answer = ask(connection, "end")
    if answer is None or answer.stays:
        return
    pid = answer.pid
    poll_until(lambda: _has_ended(pid), bool, _END_SECONDS, 0.05, first=0.002)


def _packed(group: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in group else socket.AF_INET, group)


def _has_ended(pid: int) -> bool:
    """True if the process holds no sockets any more, as a zombie holds none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}
