"""Find the agent that keeps an overlay: it would take back what another run changes."""

from __future__ import annotations

from pathlib import Path

from ..adapters import processes
from ..errors import UnavailableError
from .agent_name import keeping


def keeping_agent(rundir: Path, overlay: str) -> UnavailableError | None:
    """Return an error that names the agent's process and configuration file; None without one."""
    found = keeping(rundir, overlay)
    if found is None:
        return None
    file = processes.option_of(found.pid, "--config") if found.pid else None
    which = f" (process {found.pid})" if found.pid else " in another PID namespace"
    source = f" from {file}" if file else ""
    return UnavailableError(
        f"an agent{which} keeps overlay {overlay}{source}: "
        "change its configuration, or end the agent first",
        reason="agent",
    )
