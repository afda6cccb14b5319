"""Find the agent that keeps an overlay: it would take back what another run changes."""

from __future__ import annotations

import os
from contextlib import suppress

from ..adapters import processes, unix_socket
from ..errors import UnavailableError
from ..host.connect import rundir_of


def keeping_agent(db: str | None, overlay: str) -> UnavailableError | None:
    """Return an error that names the agent's process and configuration file; None without one.

    The processes of other unprivileged users are no agents, whatever name their sockets have.
    """
    rundir = rundir_of(db)
    inode = unix_socket.agent_socket(rundir, overlay)
    if inode is None:
        return None
    trusted = {0, os.geteuid()}
    with suppress(OSError):
        trusted.add(rundir.stat().st_uid)
    process = processes.process_with_socket(inode)
    if process is not None and processes.user_of(process) not in trusted:
        return None
    file = None if process is None else processes.option_of(process, "--config")
    which = f" (process {process})" if process is not None else " in another PID namespace"
    source = f" from {file}" if file else ""
    return UnavailableError(
        f"an agent{which} keeps overlay {overlay}{source}: "
        "change its configuration, or end the agent first"
    )
