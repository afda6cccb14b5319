"""Who listens at a name, in the abstract name space of this network namespace (unix(7)).

A name is there for as long as its socket is, kill -9 included, whatever happens to files; and
anybody can take it, so that it matters who does.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from ..core.closeable import Closeable

_PATIENCE = 5.0  # seconds, for each word of an answer
_LISTENING = "00010000"  # of the flags in /proc/net/unix: __SO_ACCEPTCON


def listen(name: str) -> socket.socket:
    """A socket that listens there; OSError if another does."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{name}")
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def connect(name: str, trusted: Collection[int], *, wait: bool = True) -> socket.socket | None:
    """A connection to who listens there; None if that is nobody, or no user who is trusted.

    Who has more callers than are let in is waited for with ``wait`` alone: a name that a stranger
    may have taken is not worth it.
    """
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(_PATIENCE if wait else 0)
    try:
        caller.connect(f"\0{name}")
        caller.settimeout(_PATIENCE)
        if _peer(caller)[1] in trusted:
            return caller
    except OSError:
        pass
    caller.close()
    return None


def names(prefix: str) -> list[str]:
    """Return the names with this prefix that have a listener, sorted."""
    marked = f" @{prefix}"  # "@" stands for the first octet, which is 0
    text = Path("/proc/net/unix").read_text(errors="replace")
    rows = (line.split(maxsplit=7) for line in text.splitlines() if marked in line)
    found = (row[7][1:] for row in rows if len(row) == 8 and row[3] == _LISTENING)
    return sorted(name for name in found if name.startswith(prefix))


class TakenError(Exception):
    """Another process has the name: ``pid``, or 0 if it is in another PID namespace."""

    def __init__(self, pid: int, uid: int) -> None:
        super().__init__(f"process {pid} of user {uid}")
        self.pid, self.uid = pid, uid


class Instance(Closeable):
    """The name, held until ``close``; TakenError if another process has it."""

    def __init__(self, name: str) -> None:
        address = f"ovs-mcast-agent-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        try:
            self._socket = listen(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise _taken(address) from None

    def close(self) -> None:
        """Release the name."""
        self._socket.close()


def _taken(address: str) -> TakenError:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        try:
            caller.connect(f"\0{address}")
            return TakenError(*_peer(caller))
        except OSError:
            return TakenError(0, 0)


def _peer(caller: socket.socket) -> tuple[int, int]:
    """The process and the user that listen, as they were when they began to."""
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, user, _group = struct.unpack("3i", credentials)
    return pid, user
