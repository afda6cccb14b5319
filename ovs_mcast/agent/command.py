"""`python -m ovs_mcast.agent`, also `ovs-mcast agent`: stays, and keeps an overlay true."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..adapters.systemd import Notify, handed_over
from ..adapters.unix_socket import Instance, TakenError
from ..cli import output
from ..cli.app import log_to_stderr, require_net_admin, run_module
from ..cli.run import run
from ..errors import ConfigurationError, UnavailableError
from ..host.connect import check_remote, rundir_of
from ..membership.in_process import left_behind
from .config_file import Configuration
from .flow_metrics import FlowMetrics, dump_from
from .loop import Agent
from .metrics import Metrics
from .metrics_server import parse_address
from .observer import Observer
from .prober import Prober
from .records import FORMATS, Records
from .spoken import Spoken

_SHORTEST, _LONGEST = 0.1, 86400.0  # seconds between two probes


def agent(
    config: Annotated[Path, typer.Option(help="Configuration, YAML or JSON, as of setup.")],
    metrics: Annotated[
        str | None, typer.Option(metavar="ADDR:PORT", help="Serve Prometheus metrics there.")
    ] = None,
    db: output.Database = None,
    respond: Annotated[
        bool, typer.Option("--respond", help="Answer what `probe send` asks of the groups.")
    ] = False,
    probe: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Ask one group so often who hears it, for --metrics."),
    ] = None,
    log: Annotated[
        str, typer.Option(metavar="text|keys|json", help="Lines for people, or for programs.")
    ] = "text",
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say every event and change.")
    ] = False,
) -> None:
    """Keep an overlay as its configuration says, until SIGTERM or SIGINT; it then runs on.

    Acts on what happens to Open vSwitch, addresses, routes, links and the configuration itself, and
    looks at all of it every minute. SIGHUP reads the configuration again. Exit status: 0 ended by a
    signal; 2 bad arguments or configuration; 5 a privilege is missing, or another agent is there.
    """
    log_to_stderr(verbose)
    act = partial(_run, config, metrics, db, log=log, respond=respond, probe=probe, verbose=verbose)
    run("agent", act, interrupted=0, interruptible=True)


def _run(
    config: Path,
    metrics: str | None,
    db: str | None,
    *,
    log: str,
    respond: bool,
    probe: float | None,
    verbose: bool,
) -> int:
    stored = left_behind(handed_over())
    check_remote(db, "--db")
    address = None if metrics is None else parse_address(metrics)
    if probe is not None and not (address is not None and _SHORTEST <= probe <= _LONGEST):
        raise ConfigurationError(
            f"seconds from {_SHORTEST:g} to {_LONGEST:g}, beside --metrics", field="--probe"
        )
    configuration = Configuration(config)
    overlay = configuration.read()
    notify = Notify()
    with ExitStack() as stack:
        observers = [_teller(log, notify, verbose=verbose)]
        require_net_admin()
        stack.enter_context(_alone(overlay.name, db))
        if address is not None:
            flows = FlowMetrics(dump_from(rundir_of(db)))
            counts = stack.enter_context(Metrics(address, flows))
            observers.append(counts)
            if probe is not None:
                observers.append(stack.enter_context(Prober(probe, counts.probed)))
        stack.enter_context(
            running := Agent(
                configuration,
                overlay,
                observers,
                db=db,
                notify=notify,
                left_behind=stored,
                respond=respond,
            )
        )
        running.run()
    return 0


def _teller(log: str, notify: Notify, *, verbose: bool) -> Observer:
    if log == "text":
        return Spoken(output.say, notify, verbose=verbose)
    if log not in FORMATS:
        raise ConfigurationError(f"{log!r} is none of text, keys, json", field="--log")
    return Records(sys.stderr, time.time, notify.status, form=FORMATS[log], verbose=verbose)


def _alone(name: str, db: str | None) -> Instance:
    try:
        return Instance(f"{rundir_of(db).resolve()} {name}")
    except TakenError as taken:
        raise UnavailableError(
            f"another agent keeps overlay {name}: process {taken.pid} of user {taken.uid}"
        ) from None


def main() -> None:
    """Run the command."""
    run_module(agent)
