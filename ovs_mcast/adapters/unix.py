"""Who listens at a name, in the abstract name space of this network namespace (unix(7)).

A name is there for as long as its socket is, whatever happens to files; and anybody can take it, so
that it matters who does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from pathlib import Path

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
        _pid, user, _group = struct.unpack(
            "3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if user in trusted:
            return caller
    except OSError:
        pass
    caller.close()
    return None


def names(prefix: str) -> list[str]:
    """The names at which somebody listens that begin with ``prefix``, in their order."""
    marked = f" @{prefix}"  # "@" stands for the first octet, which is 0
    text = Path("/proc/net/unix").read_text(errors="replace")
    rows = (line.split(maxsplit=7) for line in text.splitlines() if marked in line)
    found = (row[7][1:] for row in rows if len(row) == 8 and row[3] == _LISTENING)
    return sorted(name for name in found if name.startswith(prefix))
