"""The process that holds groups: its kind, by its name and command line in /proc, and its end."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.closeable import Closeable
from ..core.status import Holder, Who

_AGENT = frozenset({"agent", "ovs_mcast.agent"})
_KEEPER = "ovs-mcast-keep"  # the name of the keeper's process, in keeper_process


@dataclass(frozen=True)
class ProcessEnd(Closeable):
    """A pidfd (pidfd_open(2)): readable once the process has ended."""

    pid: int
    descriptor: int

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self.descriptor

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def process_end(pid: int) -> ProcessEnd | None:
    """Open the end of a process; None if it has just ended, or is in another process namespace."""
    with suppress(OSError):
        return ProcessEnd(pid, os.pidfd_open(pid))
    return None


def holder(pid: int | None) -> Holder:
    """Return the holder that a process is; "nobody" for None."""
    return Holder("nobody") if pid is None else Holder(_who(Path(f"/proc/{pid}")), pid)


def _who(process: Path) -> Who:
    with suppress(OSError):
        if (process / "comm").read_text().strip() == _KEEPER:
            return "keeper"
        command = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
        if any("ovs_mcast/agent" in part or part in _AGENT for part in command):
            return "agent"
    return "hold"
