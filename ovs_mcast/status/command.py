"""`ovs-mcast status`, also `python -m ovs_mcast.status`: what is kept on this machine.

It reads and changes nothing, and needs neither the agent nor a configuration: what is ours is
marked. `--json` prints one document on stdout (with `--watch` one a line, at each look):

    {"overlays": [{
        "overlay", "healthy", "underlay", "vtep", "datapath": "system|netdev", "bridge",
        "tunnel_bridge", "held_by": {"who": "kernel|keeper|agent|hold|nobody", "pid"},
        "segments": {"100": {
            "vlan", "group", "joined_by": "autojoin|repaired|peer|socket|none",
            "send_path": "wire|loopback|none", "learned", "peers": {"10.0.0.2": [MAC, …]},
            "bum_sent": {"packets", "bytes"}, "bum_received": …, "unicast_sent": …,
            "unicast_received": …}},
        "problems": [..]}]}

Counters are of frames as workloads send them, since ovs-vswitchd last made the flow;
``unicast_sent`` is what the MACs that are known now were sent. Where so little of an overlay is
left that it cannot be told what it was, all but ``overlay``, ``problems`` and ``held_by`` is null.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ..cli import app as app_module
from ..cli import output
from ..core.status import OverlayStatus
from ..errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError, VerifyError
from ..host.connect import check_remote, open_backend
from ..host.inspector import Inspector
from .table import Pace, console, screen

LOG = logging.getLogger(__name__)

_PERIOD = 2.0  # seconds between two looks
_SHORTEST = 0.1


def status(
    seconds: Annotated[
        float | None, typer.Argument(metavar="[SECONDS]", help="With --watch: between two looks.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the overlay.  [default: all that are ours]")
    ] = None,
    db: output.Database = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.  [every 2 s]")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")] = False,
) -> None:
    """Show what is kept on this machine: segments, memberships, peers, counters. Changes nothing.

    Exit status: 0 as it was made; 3 something is not; 2 bad arguments; 5 Open vSwitch or the
    privilege is missing.
    """
    app_module.log_to_stderr(verbose)
    code = 0
    try:
        if watch:
            _watch(name, db, _period(seconds), as_json=json_)
        elif seconds is not None:
            raise ConfigurationError("seconds are for --watch", field="SECONDS")
        else:
            code = _once(name, db, as_json=json_)
    except OvsMcastError as error:
        output.say(str(error))
        code = error.exit_status
    except KeyboardInterrupt:
        code = 0 if watch else ApplyError.exit_status
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()
    except Exception as error:
        LOG.debug("unexpected", exc_info=True)
        output.say(f"a defect of ovs_mcast, please report it with -v: {error!r}")
        code = ApplyError.exit_status
    raise typer.Exit(code)


def _period(seconds: float | None) -> float:
    if seconds is not None and not _SHORTEST <= seconds <= 86_400:
        raise ConfigurationError(f"{seconds:g} is not within 0.1 to 86400", field="SECONDS")
    return _PERIOD if seconds is None else seconds


def _look(name: str | None, db: str | None) -> list[OverlayStatus]:
    """Each look has its own connections, so that one that was lost is none that is missed."""
    check_remote(db, "--db")
    with Inspector(open_backend(db)) as inspector:
        names = inspector.overlays()
        if name is not None and name not in names:
            others = f"; --name: {', '.join(names)}" if names else ""
            return [
                OverlayStatus(name, healthy=False, problems=(f"nothing is marked {name}{others}",))
            ]
        return [inspector.inspect(one) for one in ([name] if name else names)]


def _once(name: str | None, db: str | None, *, as_json: bool) -> int:
    seen = _look(name, db)
    if as_json:
        output.write_json({"overlays": [one.to_json() for one in seen]})
    else:
        console().print(screen(seen, Pace()))
    return 0 if all(one.healthy for one in seen) else VerifyError.exit_status


def _watch(name: str | None, db: str | None, period: float, *, as_json: bool) -> None:
    """Look until somebody ends it. Open vSwitch must be there at first, and may go later."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pause = threading.Event()
    seen, looked = _look(name, db), time.monotonic()
    pace = Pace()
    with ExitStack() as shown:
        draw = None if as_json else shown.enter_context(_in_place())
        while True:
            _show(seen, pace, draw)
            pause.wait(period)
            before = {(one.overlay, vni): row for one in seen for vni, row in one.segments.items()}
            try:
                seen = _look(name, db)
            except UnavailableError as error:
                seen = [OverlayStatus(name or "all", healthy=False, problems=(str(error),))]
            now = time.monotonic()
            pace, looked = Pace(before, now - looked), now


def _show(seen: Sequence[OverlayStatus], pace: Pace, draw: _Draw | None) -> None:
    if draw is None:
        sys.stdout.write(json.dumps({"overlays": [one.to_json() for one in seen]}) + "\n")
        sys.stdout.flush()
    else:
        draw(seen, pace)


class _Draw:
    """Draws one look over the one before; where there is no terminal, after it."""

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
    """Run the command; typer reports usage errors with exit status 2."""
    app = app_module.application()
    app.command()(status)
    app(prog_name="python -m ovs_mcast.status")
