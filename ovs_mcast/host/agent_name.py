"""An overlay's agent is known by a listener in the abstract name space of its network namespace.

Any user can listen at any name there, so a name decides nothing: each agent has one of its own,
and the users who listen at such names do. Only root, this user and the owner of Open vSwitch's run
directory count.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..adapters import processes, unix_socket
from ..core.closeable import Closeable

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Keeping:
    """The agent of an overlay: its name, process (0 in another PID namespace) and user."""

    name: str
    pid: int
    uid: int


class TakenError(Exception):
    """Another agent keeps the overlay."""

    def __init__(self, keeping: Keeping) -> None:
        super().__init__(f"process {keeping.pid} of user {keeping.uid}")
        self.keeping = keeping


class AgentName(Closeable):
    """The name of an overlay's agent, until ``close``; TakenError if another agent keeps it.

    Of two that start at once, the one with the later name gives way.
    """

    def __init__(self, rundir: Path, overlay: str) -> None:
        for left in reversed(range(_TRIES)):
            self.name = f"{_prefix(rundir, overlay)}-{time.monotonic_ns():020}"
            try:
                self._socket = unix_socket.listen(self.name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not left:
                    raise
        other = keeping(rundir, overlay, before=self.name)
        if other is not None:
            self.close()
            raise TakenError(other)

    def close(self) -> None:
        """Release the name."""
        self._socket.close()


def keeping(rundir: Path, overlay: str, *, before: str = "") -> Keeping | None:
    """Return the agent that keeps an overlay, the one with the first name; None without one.

    ``before`` leaves out that name and those after it. The agent accepts no connection: where its
    queue is full, its process is looked for by the inodes that are shown for the name, which others
    can add to (unix_socket.listeners): all of them must be of trusted users.
    """
    trusted = {0, os.geteuid()}
    with suppress(OSError):
        trusted.add(rundir.stat().st_uid)
    full: dict[str, set[int]] = {}
    for name, inodes in sorted(unix_socket.listeners(_prefix(rundir, overlay)).items()):
        if before and name >= before:
            continue
        try:
            owner = unix_socket.owner(name)
        except BlockingIOError:
            full[name] = inodes
            continue
        if owner is not None and owner[1] in trusted:
            return Keeping(name, *owner)
    processes_of = processes.with_sockets(set().union(*full.values()))
    for name, inodes in full.items():
        pids = [processes_of.get(inode) for inode in sorted(inodes)]
        users = [None if pid is None else processes.user_of(pid) for pid in pids]
        if pids[0] is not None and users[0] is not None and set(users) <= trusted:
            return Keeping(name, pids[0], users[0])
    return None


def _prefix(rundir: Path, overlay: str) -> str:
    place = f"{rundir.resolve()} {overlay}"
    return f"ovs-mcast-agent-{hashlib.sha256(place.encode()).hexdigest()[:32]}"
