"""Listeners at names, in the abstract name space of this network namespace (unix(7)).

A name exists for as long as its socket does, kill -9 included, whatever happens to files. Any user
can take a name, so the owner of the listener matters.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from pathlib import Path

_PATIENCE = 5  # seconds, for each word of an answer
_TIMEVAL = struct.Struct("@ll")
_LISTENING = "00010000"  # of the flags in /proc/net/unix: __SO_ACCEPTCON


def listen(name: str) -> socket.socket:
    """Return a socket that listens at the name; OSError if another does."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{name}")
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def connect(name: str, trusted: Collection[int], *, wait: bool = True) -> socket.socket | None:
    """Connect to the listener; None if there is none, or none of a trusted user.

    ``wait`` up to five seconds for a listener whose queue is full. Do not wait where an untrusted
    process may own the name.
    """
    caller = socket.socket(socket.AF_UNIX)
    # Python's own timeout makes a socket non-blocking, and then connect(2) to a full queue fails at
    # once with EAGAIN. A blocking socket waits as long as its SO_SNDTIMEO (socket(7)).
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(_PATIENCE, 0))
    caller.setblocking(wait)
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
    return sorted(listeners(prefix))


def listeners(prefix: str) -> dict[str, set[int]]:
    """Return the inodes that /proc/net/unix has for each listener whose name has this prefix.

    The kernel shows a name as it is: one with a line's end in it makes up rows of any name and
    inode, beside the true ones. Only a connection shows who listens at a name.
    """
    marked = f" @{prefix}"  # "@" stands for the first octet, which is 0
    text = Path("/proc/thread-self/net/unix").read_text(errors="replace")
    rows = (line.split(maxsplit=7) for line in text.splitlines() if marked in line)
    found: dict[str, set[int]] = {}
    for row in rows:
        if len(row) == 8 and row[3] == _LISTENING and row[6].isdecimal():
            name = row[7][1:]
            if name.startswith(prefix):
                found.setdefault(name, set()).add(int(row[6]))
    return found


def owner(name: str) -> tuple[int, int] | None:
    """Return the process and user that listen at the name; None if nobody does.

    The process is 0 in another PID namespace. BlockingIOError if the queue is full.
    """
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            caller.connect(f"\0{name}")
            return _peer(caller)
        except BlockingIOError:
            raise
        except OSError:
            return None


def _peer(caller: socket.socket) -> tuple[int, int]:
    """The process and the user that listen, as they were when they began to."""
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, user, _group = struct.unpack("3i", credentials)
    return pid, user
