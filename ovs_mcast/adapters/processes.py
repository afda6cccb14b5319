"""Other processes of this machine, from /proc (proc(5))."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ..core.udp_port import UNSEEN

_UDP = (Path("/proc/thread-self/net/udp"), Path("/proc/thread-self/net/udp6"))


def with_sockets(inodes: Collection[int]) -> dict[int, int]:
    """Return socket → the process that has it open, for those that are visible from here."""
    links = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*") if links else ():
        with suppress(OSError):  # it ended, or is another user's
            for number in os.listdir(process / "fd"):
                with suppress(OSError):  # closed by now
                    inode = links.get(os.readlink(process / "fd" / number))
                    if inode is not None:
                        found.setdefault(inode, int(process.name))
    return found


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

    A socket of the kernel belongs to no process.
    """
    bound = _bound(port)
    found = with_sockets(bound)
    return tuple(sorted({_holder(found.get(inode)) for inode in bound}))


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


def _holder(process: int | None) -> str:
    if process is None:
        return UNSEEN
    name = "ended"
    with suppress(OSError):
        name = Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    return f"process {process} ({name})"
