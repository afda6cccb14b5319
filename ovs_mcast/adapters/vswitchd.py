"""What only ovs-vswitchd's control socket gives: that it is there, and tunnel neighbours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ovs.unixctl.client import UnixctlClient

from ..errors import UnavailableError
from ..state import Neighbour, RoutePath

_ROUTE = re.compile(
    r"(?:Cached|User): (?P<host>[0-9a-f.:]+)/(?:32|128) (?:MARK \S+ )?dev (?P<device>\S+)"
    r"(?: GW \S+)?(?: SRC (?P<source>\S+))?"
)
DEFAULT_RUNDIR = "/var/run/openvswitch"


def run_directory() -> Path:
    """Where the sockets of Open vSwitch are: $OVS_RUNDIR, else its compiled-in default."""
    return Path(os.environ.get("OVS_RUNDIR") or DEFAULT_RUNDIR)


class Vswitchd:
    """One connection to ovs-vswitchd's control socket. UnavailableError if nobody answers."""

    def __init__(self, rundir: Path) -> None:
        missing = f"ovs-vswitchd does not run (no answer in {rundir}): start openvswitch-switch"
        try:
            pid = int((rundir / "ovs-vswitchd.pid").read_text())
        except (FileNotFoundError, ValueError):
            raise UnavailableError(missing) from None
        except PermissionError:
            raise UnavailableError(f"reading {rundir} needs privileges: run as root") from None
        error, client = UnixctlClient.create(str(rundir / f"ovs-vswitchd.{pid}.ctl"))
        if error:
            raise UnavailableError(missing)
        self._client: Any = client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, command: str, *arguments: str) -> str:
        """One command, as `ovs-appctl` gives it; UnavailableError if the connection breaks."""
        code, error, result = self._client.transact(command, list(arguments))
        if code or error:
            raise UnavailableError(f"ovs-vswitchd: {command}: {error or os.strerror(code)}")
        return str(result or "")

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Let the userspace datapath know the Ethernet addresses of outer destinations.

        They age out after 900 s without use, and go when ovs-vswitchd ends (`tnl/neigh/show`).
        """
        for neighbour in neighbours:
            self.call("tnl/neigh/set", neighbour.bridge, neighbour.group, neighbour.mac)

    def routes(self) -> dict[str, RoutePath]:
        """Host routes of Open vSwitch's own table, by which the userspace datapath sends."""
        found = {}
        for line in self.call("ovs/route/show").splitlines():
            printed = _ROUTE.match(line)
            if printed and not line.rstrip().endswith(" local"):
                found[printed["host"]] = RoutePath(printed["device"], printed["source"])
        return found
