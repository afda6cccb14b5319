"""`ovs-mcast lab`, also `python -m ovs_mcast.lab`: hosts on one machine, and who reaches whom."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ..cli import output
from ..cli.app import run_module
from ..cli.run import run
from ..errors import ApplyError, ConfigurationError
from .namespace import RUNDIR, Namespace
from .ovs_host import Kind, OvsHost, SetupRun
from .reachability import Reachability, reach
from .table import print_table
from .topology import HOSTS_MAX, Lab, in_parallel

if TYPE_CHECKING:
    from ..core.documents import LabDocument

FIRST_VNI = 100
SEGMENTS_MAX = 254
# Runs setup on a host with these arguments, as `OvsHost.setup` does.
SetUp = Callable[..., SetupRun]
_KINDS: dict[str, Kind] = {"netdev": "netdev", "system": "kernel"}
_UNREACHABLE_STATUS = 3
_TERMINATED_STATUS = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of a lab: setup on each host, who reached whom, and the seconds taken."""

    groups: dict[int, str]
    runs: dict[str, SetupRun]
    reachability: Reachability
    seconds: float

    def to_json(self) -> LabDocument:
        """Return the document of `lab --json`."""
        return {
            **self.reachability.to_json(),
            "groups": {str(vni): group for vni, group in self.groups.items()},
            "hosts": {name: one.report for name, one in self.runs.items()},
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
        bool, typer.Option("--keep", help="Keep the lab until Ctrl-C; show how to enter it.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Build several hosts on this machine, set up the overlay on each, and see who reaches whom.

    Needs root. Nothing is left behind, however it ends.
    Exit status: 0 all reach all; 1 a setup failed; 2 bad arguments; 3 not all reach all,
    or a segment leaks; 5 something is missing on this machine; 130 Ctrl-C before the result.
    """
    build(hosts, segments, linux, datapath, keep=keep, as_json=as_json)


def build(
    hosts: int,
    segments: int,
    linux: int,
    datapath: str,
    *,
    keep: bool,
    as_json: bool,
    set_up: SetUp = OvsHost.setup,
) -> NoReturn:
    """Run the command; ``set_up`` is called for each host with the arguments of its segments."""

    def act() -> int:
        return _run(hosts, segments, linux, datapath, keep=keep, as_json=as_json, set_up=set_up)

    signal.signal(signal.SIGTERM, _terminated)
    run("lab", act, interruptible=True)


def schema() -> object:
    """Return the JSON Schema of the `--json` document."""
    from ..core import schemas  # noqa: PLC0415 - pydantic builds a schema only if asked for one

    return schemas.lab()


def main() -> None:
    """Run the command."""
    run_module(lab, schema=schema)


def _run(
    hosts: int,
    segments: int,
    linux: int,
    datapath: str,
    *,
    keep: bool,
    as_json: bool,
    set_up: SetUp,
) -> int:
    if datapath not in _KINDS:
        raise ConfigurationError("netdev or system", field="datapath")
    if hosts + linux > HOSTS_MAX:
        raise ConfigurationError(f"at most {HOSTS_MAX} hosts, Linux ones too", field="hosts")
    groups = {FIRST_VNI + n: f"239.0.0.{n + 1}" for n in range(segments)}
    with Lab(kind=_KINDS[datapath]) as machine:
        trial = run_trial(machine, groups, hosts=hosts, linux=linux, set_up=set_up)
        if as_json:
            output.write_json(trial.to_json())
        else:
            print_table(trial.reachability, trial.groups, trial.seconds)
        if keep:
            _keep(machine)
    return 0 if trial.reachability.ok else _UNREACHABLE_STATUS


def run_trial(
    machine: Lab,
    groups: dict[int, str],
    *,
    hosts: int,
    linux: int,
    set_up: SetUp = OvsHost.setup,
) -> Trial:
    """Fill an empty lab with hosts and workloads, set up each host, and see who reaches whom.

    A failed setup is an ApplyError with its messages.
    """
    begun = time.monotonic()
    with output.console().status("") as progress:
        progress.update(f"Starting hosts: {hosts} with Open vSwitch, {linux} plain Linux")
        machine.add_hosts(hosts)
        others = [machine.add_linux_host() for _ in range(linux)]
        progress.update(f"Attaching workloads: {len(groups) * (hosts + linux)}")
        in_parallel(lambda host: [host.add_workload(vlan=vni) for vni in groups], machine.hosts)
        for other in others:
            for vni, group in groups.items():
                other.add_segment(vni=vni, group=group)
        progress.update("Running setup on every Open vSwitch host")
        runs = in_parallel(lambda host: _set_up(host, groups, set_up), machine.hosts)
        progress.update("Broadcasting from every workload")
        heard = reach(machine.workloads)
    named = {host.name: run for host, run in zip(machine.hosts, runs, strict=True)}
    return Trial(groups, named, heard, time.monotonic() - begun)


def _set_up(host: OvsHost, groups: dict[int, str], set_up: SetUp) -> SetupRun:
    segments = [part for vni, g in groups.items() for part in ("--segment", f"{vni},group={g}")]
    made = set_up(host, *segments)
    problem = _shortcoming(made, groups)
    if problem:
        raise ApplyError(f"setup on {host.name}: {problem}\n{made.stderr.strip()}".strip())
    return made


def _shortcoming(run: SetupRun, groups: dict[int, str]) -> str:
    if run.status != 0:
        return f"exit status {run.status}"
    if run.report.get("verified") is not True:
        return "exit status 0, but not verified"
    if set(run.report.get("segments", {})) != {str(vni) for vni in groups}:
        return "exit status 0, but segments are missing from the report"
    return ""


def _keep(machine: Lab) -> None:
    everything: Sequence[Namespace] = [
        machine.switch, *machine.hosts, *machine.linux_hosts, *machine.workloads
    ]  # fmt: skip
    try:
        output.say("\nThe lab stays until Ctrl-C. To enter a machine:")
        for one in everything:
            shell = " ".join(one.enter_command())
            output.say(f"  {one.name:<10} {shell} env OVS_RUNDIR={RUNDIR} bash")
        signal.pause()
    except KeyboardInterrupt:
        output.say("Ending the lab")


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(_TERMINATED_STATUS)
