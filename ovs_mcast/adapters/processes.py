"""Other processes of this machine, from /proc (proc(5))."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

from ..core.udp_port import UNSEEN

_UDP = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


def process_with_socket(inode: int) -> int | None:
    """Return the process that has a socket open; None if it is not visible from here."""
    link = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            if any(os.readlink(entry.path) == link for entry in os.scandir(process / "fd")):
                return int(process.name)
    return None


def user_of(process: int) -> int | None:
    """Return the user of a process; None if it ended."""
    try:
        return os.stat(f"/proc/{process}").st_uid
    except OSError:
        return None


def option_of(process: int, option: str) -> str | None:
    """Return the value of an option on the command line of a process; None without one."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return None
    for word, following in itertools.pairwise(words):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def udp_holders(port: int) -> tuple[str, ...]:
    """Return the holders of the sockets that are bound to the port, as text, sorted.

    A socket of the kernel belongs to no process. A search of all processes for each socket.
    """
    return tuple(sorted({_holder(inode) for inode in _bound(port)}))


def _bound(port: int) -> set[int]:
    """Return the inodes of the sockets: each line has a local address, and its inode tenth."""
    found = set()
    for table in _UDP:
        try:
            text = table.read_text()
        except FileNotFoundError:  # a kernel without the family
            continue
        rows = (line.split() for line in text.splitlines()[1:])
        found |= {int(row[9]) for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    return found


def _holder(inode: int) -> str:
    process = process_with_socket(inode)
    if process is None:
        return UNSEEN
    name = "ended"
    with suppress(OSError):
        name = Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    return f"process {process} ({name})"
