"""The kind of a process that holds groups, by its name and command line in /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..core.status import Holder, Who

_AGENT = frozenset({"agent", "ovs_mcast.agent"})
_KEEPER = "ovs-mcast-keep"  # the name of the keeper's process, cut by the kernel to 15 octets


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
