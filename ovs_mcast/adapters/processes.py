"""Other processes of this machine, from /proc (proc(5))."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path


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
