"""`python -m ovs_mcast.agent`, also `ovs-mcast agent`: stays, and keeps an overlay applied."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..adapters.systemd import Notify, handed_over
from ..cli import output
from ..cli.app import log_to_stderr, require_net_admin, run_module
from ..cli.run import run
from ..errors import ConfigurationError, UnavailableError
from ..host.agent_name import AgentName, TakenError
from ..host.connect import check_remote, rundir_of, this_platform
from ..host.platform import Platform
from ..membership.in_process import stored_sets
from .config_file import ConfigFile
from .flow_metrics import FlowMetrics, dump_from
from .log import Log
from .log_format import FORMATS, for_people, for_programs
from .loop import Agent
from .metrics import Metrics
from .metrics_server import parse_address
from .observer import Observer
from .prober import Prober

_SHORTEST, _LONGEST = 0.1, 86400.0  # seconds between two probes

Config = Annotated[Path, typer.Option(help="Configuration, YAML or JSON, as of setup.")]
MetricsAddress = Annotated[
    str | None, typer.Option(metavar="ADDR:PORT", help="Serve Prometheus metrics there.")
]
Respond = Annotated[
    bool, typer.Option("--respond", help="Answer what `probe send` asks of the groups.")
]
Probe = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Probe one group at this interval, for --metrics."),
]
LogForm = Annotated[
    str, typer.Option(metavar="text|keys|json", help="Lines for people, or for programs.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log every event and change.")]
OpenPlatform = Callable[[str | None, Notify], Platform]


@dataclass(frozen=True, slots=True)
class _Options:
    config: Path
    metrics: str | None
    db: str | None
    respond: bool
    probe: float | None
    log: str
    verbose: bool


def agent(
    context: typer.Context,
    config: Config,
    metrics: MetricsAddress = None,
    db: output.Database = None,
    respond: Respond = False,
    probe: Probe = None,
    log: LogForm = "text",
    verbose: Verbose = False,
) -> None:
    """Keep an overlay as its configuration wants it, until SIGTERM or SIGINT; it then runs on.

    Reconciles on changes of Open vSwitch, addresses, routes, links and the configuration, and once
    a minute without any. SIGHUP reads the configuration again. Exit status: 0 ended by a signal;
    2 bad arguments or configuration; 5 a privilege is missing, or another agent keeps the overlay.
    """
    log_to_stderr(verbose)
    options = _Options(config, metrics, db, respond, probe, log, verbose)
    act = partial(_run, options, context.obj or this_platform)
    run("agent", act, interrupted=0, interruptible=True)


def _run(options: _Options, open_platform: OpenPlatform) -> int:
    stored = stored_sets(handed_over())
    check_remote(options.db, "--db")
    address = _address(options)
    with ExitStack() as stack:
        config = stack.enter_context(ConfigFile(options.config))
        overlay = config.read()
        notify = Notify()
        observers: list[Observer] = [_log(options.log, notify, verbose=options.verbose)]
        require_net_admin()
        stack.enter_context(_alone(overlay.name, options.db))
        platform = open_platform(options.db, notify)
        if address is not None:
            observers += _metrics(address, options.probe, platform, stack)
        running = Agent(
            config,
            overlay,
            observers,
            platform,
            notify=notify,
            stored_sets=stored,
            respond=options.respond,
        )
        stack.enter_context(running).run()
    return 0


def _address(options: _Options) -> tuple[str, int] | None:
    address = None if options.metrics is None else parse_address(options.metrics)
    probe = options.probe
    if probe is not None and not (address is not None and _SHORTEST <= probe <= _LONGEST):
        raise ConfigurationError(
            f"needs {_SHORTEST:g} to {_LONGEST:g} seconds, and --metrics", field="--probe"
        )
    return address


def _metrics(
    address: tuple[str, int], probe: float | None, platform: Platform, stack: ExitStack
) -> Iterator[Observer]:
    flows = FlowMetrics(dump_from(platform.counted_flows), platform.joined)
    metrics = stack.enter_context(Metrics(address, flows))
    yield metrics
    if probe is not None:
        yield stack.enter_context(Prober(probe, metrics.probed))


def _log(form: str, notify: Notify, *, verbose: bool) -> Log:
    if form == "text":
        return Log(for_people(output.say), notify.status, verbose=verbose)
    if form not in FORMATS:
        raise ConfigurationError(f"{form!r} is not text, keys or json", field="--log")
    write = for_programs(sys.stderr, time.time, FORMATS[form])
    return Log(write, notify.status, verbose=verbose)


def _alone(name: str, db: str | None) -> AgentName:
    try:
        return AgentName(rundir_of(db), name)
    except TakenError as taken:
        raise UnavailableError(
            f"another agent keeps overlay {name}: {taken}", reason="agent"
        ) from None


def main(open_platform: OpenPlatform = this_platform) -> None:
    """Run the command on the machine that ``open_platform`` returns."""
    run_module(agent, given=open_platform)
