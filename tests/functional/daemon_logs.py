"""The last log lines of the daemons of a failed test's hosts, shown with its failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovs_mcast.lab import Host, Lab
from ovs_mcast.lab.namespace import RUNDIR

_LINES = 20
_DAEMONS = ("ovs-vswitchd", "ovsdb-server")


def last_words(fixtures: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Yield for each host and daemon a title with its state, and the last lines of its log."""
    for host in dict.fromkeys(_hosts(fixtures)):
        for daemon in _DAEMONS:
            yield f"{host.name}: {_state(host, daemon)}", _log(host, daemon)


def _hosts(values: Iterable[object]) -> Iterator[Host]:
    for value in values:
        parts = (value, getattr(value, "host", None), getattr(value, "lab", None))
        for part in parts:
            if isinstance(part, Host):
                yield part
            elif isinstance(part, Lab):
                yield from part.hosts


def _state(host: Host, daemon: str) -> str:
    try:
        process = host.path(f"{RUNDIR}/{daemon}.pid").read_text().strip()
        status = host.path(f"/proc/{process}/status").read_text()
        waits_in = host.path(f"/proc/{process}/wchan").read_text()
    except OSError as error:
        return f"{daemon} does not run ({error.strerror}: {error.filename.rpartition('root')[2]})"
    state = next(line for line in status.splitlines() if line.startswith("State:"))
    return f"{daemon} is there, {' '.join(state.split())}, in {waits_in}"


def _log(host: Host, daemon: str) -> str:
    try:
        lines = host.path(f"{RUNDIR}/{daemon}.log").read_text(errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join([line for line in lines if "Datapath supports" not in line][-_LINES:])
