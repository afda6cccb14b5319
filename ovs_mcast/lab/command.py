"""`python -m ovs_mcast.lab`: several hosts on one machine, and the table of who reaches whom."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ..cli import app as app_module
from ..errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError
from .namespace import RUNDIR, Namespace
from .ovs_host import Host, Kind, SetupRun
from .reachability import Reachability, reach
from .table import print_table
from .topology import HOSTS_MAX, Lab, in_parallel

FIRST_VNI = 100
SEGMENTS_MAX = 254
_KINDS: dict[str, Kind] = {"netdev": "netdev", "system": "kernel"}
_UNREACHABLE_STATUS = 3
_INTERRUPTED_STATUS = 128 + signal.SIGINT
_TERMINATED_STATUS = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a lab: how setup went on each host, who reached whom, and the time in s."""

    groups: dict[int, str]
    runs: dict[str, SetupRun]
    reachability: Reachability
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The same as values that JSON knows."""
        return {
            **self.reachability.to_json(),
            "groups": {str(vni): group for vni, group in self.groups.items()},
            "hosts": {name: run.report for name, run in self.runs.items()},
            "seconds": round(self.seconds, 3),
        }


def lab(
    hosts: Annotated[int, typer.Option(min=1, max=HOSTS_MAX, help="Hosts with Open vSwitch.")] = 3,
    segments: Annotated[
        int, typer.Option(min=1, max=SEGMENTS_MAX, help="Segments, from VNI 100 on.")
    ] = 2,
    linux: Annotated[int, typer.Option(min=0, max=HOSTS_MAX, help="Plain Linux VXLAN hosts.")] = 1,
    datapath: Annotated[
        str, typer.Option(metavar="netdev|system", help="In userspace, or the kernel's.")
    ] = "netdev",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the lab until Ctrl-C; say how to enter it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Build several hosts on this machine, set up the overlay on each, and see who reaches whom.

    Needs root. Nothing is left behind, however it ends.
    Exit status: 0 all reach all · 1 a setup failed · 2 bad arguments · 3 not all reach all,
    or a segment leaks · 5 something is missing on this machine.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        status = _run(hosts, segments, linux, datapath, keep=keep, as_json=as_json)
    except OvsMcastError as error:
        print(f"ovs-mcast lab: {error}", file=sys.stderr)
        status = error.exit_status
    except OSError as error:
        print(f"ovs-mcast lab: {error}", file=sys.stderr)
        status = UnavailableError.exit_status
    except KeyboardInterrupt:
        status = _INTERRUPTED_STATUS
    raise typer.Exit(status)


def application() -> typer.Typer:
    """The command as an application of its own."""
    app = app_module.application()
    app.command()(lab)
    return app


def main() -> None:
    """The command, from the command line."""
    application()()


def _run(hosts: int, segments: int, linux: int, datapath: str, *, keep: bool, as_json: bool) -> int:
    if datapath not in _KINDS:
        raise ConfigurationError("netdev or system", field="datapath")
    if hosts + linux > HOSTS_MAX:
        raise ConfigurationError(f"at most {HOSTS_MAX} hosts, Linux ones too", field="hosts")
    groups = {FIRST_VNI + n: f"239.0.0.{n + 1}" for n in range(segments)}
    with Lab(kind=_KINDS[datapath]) as machine:
        trial = try_out(machine, groups, hosts=hosts, linux=linux)
        if as_json:
            print(json.dumps(trial.to_json(), indent=2), flush=True)
        else:
            print_table(trial.reachability, trial.groups, trial.seconds)
        if keep:
            _keep(machine)
    return 0 if trial.reachability.ok else _UNREACHABLE_STATUS


def try_out(machine: Lab, groups: dict[int, str], *, hosts: int, linux: int) -> Trial:
    """Fill an empty lab with hosts and workloads, set up each host, and see who reaches whom.

    A setup that fails is an ApplyError that has what it said.
    """
    begun = time.monotonic()
    with Console(stderr=True).status("") as progress:
        progress.update(f"Starting hosts: {hosts} with Open vSwitch, {linux} plain Linux")
        machine.add_hosts(hosts)
        others = [machine.add_linux_host() for _ in range(linux)]
        progress.update(f"Attaching workloads: {len(groups) * (hosts + linux)}")
        in_parallel(lambda host: [host.add_workload(vlan=vni) for vni in groups], machine.hosts)
        for other in others:
            for vni, group in groups.items():
                other.add_segment(vni=vni, group=group)
        progress.update("Running setup on every Open vSwitch host")
        runs = in_parallel(lambda host: _set_up(host, groups), machine.hosts)
        progress.update("Broadcasting from every workload")
        heard = reach(machine.workloads)
    named = {host.name: run for host, run in zip(machine.hosts, runs, strict=True)}
    return Trial(groups, named, heard, time.monotonic() - begun)


def _set_up(host: Host, groups: dict[int, str]) -> SetupRun:
    segments = [part for vni, g in groups.items() for part in ("--segment", f"{vni},group={g}")]
    run = host.setup(*segments)
    problem = _shortcoming(run, groups)
    if problem:
        raise ApplyError(f"setup on {host.name}: {problem}\n{run.stderr.strip()}".strip())
    return run


def _shortcoming(run: SetupRun, groups: dict[int, str]) -> str:
    if run.status != 0:
        return f"exit status {run.status}"
    if run.report.get("verified") is not True:
        return "exit status 0, and yet not verified"
    if set(run.report.get("segments", {})) != {str(vni) for vni in groups}:
        return "exit status 0, and yet not all segments are reported"
    return ""


def _keep(machine: Lab) -> None:
    err = Console(stderr=True, soft_wrap=True, highlight=False)
    everything: Sequence[Namespace] = [
        machine.switch, *machine.hosts, *machine.linux_hosts, *machine.workloads
    ]  # fmt: skip
    try:
        err.print("\nThe lab stays until Ctrl-C. To enter a machine:")
        for one in everything:
            shell = " ".join(one.enter_command())
            err.print(f"  {one.name:<10} {shell} env OVS_RUNDIR={RUNDIR} bash")
        signal.pause()
    except KeyboardInterrupt:
        err.print("Ending the lab")


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(_TERMINATED_STATUS)
