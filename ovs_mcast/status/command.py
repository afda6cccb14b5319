"""`ovs-mcast status`, also `python -m ovs_mcast.status`: the overlays in place on this machine.

Read-only; finds overlays by the marks on rows, flows and routes, so it needs neither the agent nor
a configuration. `--json` prints one StatusDocument on stdout; with `--watch` one per inspection,
each on a line.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, NoReturn

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ..cli import output
from ..cli.app import log_to_stderr, run_module
from ..cli.run import INTERRUPTED, run
from ..core.status import OverlayStatus
from ..errors import ConfigurationError, UnavailableError, VerifyError
from ..host.connect import check_remote, open_backend
from ..host.inspector import Inspector
from .table import Pace, console, screen

_PERIOD = 2.0  # seconds between two inspections
_SHORTEST = 0.1


def status(
    seconds: Annotated[
        float | None,
        typer.Argument(metavar="[SECONDS]", help="With --watch: between two inspections."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the overlay.  [default: all of ovs-mcast]")
    ] = None,
    db: output.Database = None,
    json_: output.Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat until Ctrl-C.  [every 2 s]")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Log details to stderr.")
    ] = False,
) -> None:
    """Show the overlays on this machine: segments, memberships, peers, counters. Read-only.

    Exit status: 0 healthy, or --watch was ended; 2 bad arguments; 3 degraded; 5 Open vSwitch or
    the privilege is missing.
    """
    log_to_stderr(verbose)

    def act() -> int:
        if watch:
            _watch(name, db, _period(seconds), as_json=json_)
        if seconds is not None:
            raise ConfigurationError("only with --watch", field="SECONDS")
        return _once(name, db, as_json=json_)

    run("status", act, interrupted=0 if watch else INTERRUPTED, interruptible=watch)


def schema() -> object:
    """Return the JSON Schema of the `--json` document."""
    from ..core import schemas  # noqa: PLC0415 - pydantic builds a schema only if asked for one

    return schemas.status()


def _period(seconds: float | None) -> float:
    if seconds is not None and not _SHORTEST <= seconds <= 86_400:
        raise ConfigurationError(f"{seconds:g} is not within 0.1 to 86400", field="SECONDS")
    return _PERIOD if seconds is None else seconds


def _inspect(name: str | None, db: str | None) -> list[OverlayStatus]:
    """Inspect the overlays. Reconnect every time, so a lost connection is never reused."""
    check_remote(db, "--db")
    with Inspector(open_backend(db)) as inspector:
        names = inspector.overlays()
        if name is not None and name not in names:
            others = f"; --name: {', '.join(names)}" if names else ""
            problem = f"no overlay {name} on this host{others}"
            return [OverlayStatus(name, healthy=False, problems=(problem,))]
        return [inspector.inspect(one) for one in ([name] if name else names)]


def _once(name: str | None, db: str | None, *, as_json: bool) -> int:
    seen = _inspect(name, db)
    if as_json:
        output.write_json(_document(seen))
    else:
        console().print(screen(seen, Pace()))
    return 0 if all(one.healthy for one in seen) else VerifyError.exit_status


def _watch(name: str | None, db: str | None, period: float, *, as_json: bool) -> NoReturn:
    """Inspect until a signal ends it. Open vSwitch must run at first, and may stop later."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pause = threading.Event()
    seen, inspected = _inspect(name, db), time.monotonic()
    pace = Pace()
    with ExitStack() as shown:
        draw = None if as_json else shown.enter_context(_in_place())
        while True:
            _show(seen, pace, draw)
            pause.wait(period)
            before = {(one.overlay, vni): row for one in seen for vni, row in one.segments.items()}
            try:
                seen = _inspect(name, db)
            except UnavailableError as error:
                seen = [OverlayStatus(name or "all", healthy=False, problems=(str(error),))]
            now = time.monotonic()
            pace, inspected = Pace(before, now - inspected), now


def _show(seen: Sequence[OverlayStatus], pace: Pace, draw: _Draw | None) -> None:
    if draw is None:
        output.write_json(_document(seen), indent=None)
    else:
        draw(seen, pace)


def _document(seen: Sequence[OverlayStatus]) -> dict[str, object]:
    return {"overlays": [one.to_json() for one in seen]}


class _Draw:
    """Draws an inspection over the one before; without a terminal, after it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __call__(self, seen: Sequence[OverlayStatus], pace: Pace) -> None:
        out = self._live.console
        clock = Text(time.strftime("%H:%M:%S"), style="dim", justify="right")
        height = out.height - 1 if out.is_terminal else None
        body = screen(seen, pace, height=height)
        if out.is_terminal:
            self._live.update(Group(clock, body), refresh=True)
        else:
            out.print(clock, body)


@contextmanager
def _in_place() -> Iterator[_Draw]:
    out = console()
    if not out.is_terminal:
        yield _Draw(Live(console=out, auto_refresh=False))
        return
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield _Draw(live)


def main() -> None:
    """Run the command."""
    run_module(status, schema=schema)
