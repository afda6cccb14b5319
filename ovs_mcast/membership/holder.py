"""Which process holds an overlay's groups."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..core.status import Holder, Who
from .keeper import Keeper

_AGENT = frozenset({"agent", "ovs_mcast.agent"})


def holder(rundir: Path, overlay: str) -> Holder:
    """Return the process that answers as the overlay's keeper; nobody if none does."""
    answer = Keeper(rundir, overlay).look()
    return Holder("nobody") if answer is None else Holder(_who(answer.pid), answer.pid)


def _who(pid: int) -> Who:
    """Return what kind of process it is, by its name and command line."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        if (process / "comm").read_text().strip() == "ovs-mcast-keep":
            return "keeper"
        command = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
        if any("ovs_mcast/agent" in part or part in _AGENT for part in command):
            return "agent"
    return "hold"
