"""`ovs-mcast probe`, also `python -m ovs_mcast.probe`: where packets go, and whom they reach."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..cli import app as cli
from ..cli import output
from ..cli.run import INTERRUPTED, run
from ..errors import ConfigurationError
from .path import send_path
from .protocol import PORT
from .reachability import Reachability, Sender
from .respond import Ready, respond
from .responder import RATE, Counts
from .send import send
from .verdict import SendPath

_FINDING = 3
_KEY_VARIABLE = "OVS_MCAST_PROBE_KEY"

Device = Annotated[str, typer.Option(help="Device of the underlay.")]
Group = Annotated[str, typer.Option(help="Multicast group, IPv4 or IPv6.")]
Groups = Annotated[list[str], typer.Option("--group", help="A group. Repeat for more.")]
Source = Annotated[
    str | None, typer.Option(help="Source address.  [default: the device's first of the family]")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="UDP port of the probe.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, also on a terminal.")]
Key = Annotated[
    str | None, typer.Option(help=f"Shared key. ps shows it: use ${_KEY_VARIABLE} or --key-file.")
]
KeyFile = Annotated[Path | None, typer.Option(help="File with the shared key.")]


def _stdout_is_terminal() -> bool:
    return sys.stdout.isatty()


@dataclass(frozen=True, slots=True)
class Engine:
    """The functions that the commands call; tests pass their own."""

    send_path: Callable[..., SendPath] = send_path
    respond: Callable[..., Counts] = respond
    send: Callable[..., Reachability] = send
    on_terminal: Callable[[], bool] = _stdout_is_terminal


class Commands:
    """The commands of the probe, on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def path(
        self,
        device: Device,
        group: Group,
        source: Source = None,
        port: Port = PORT,
        json_: Json = False,
    ) -> None:
        """Show where an ordinary program's datagram to the group goes, why, and the cure.

        Sends one datagram of TTL 1, and watches the device and lo for it. For IPv6, waits for
        duplicate address detection. Exit status: 0 it reaches the wire; 2 bad arguments; 3 it does
        not, or that is about to change; 5 a privilege is missing.
        """

        def act() -> int:
            found = self._engine.send_path(device, group, source=source, port=port)
            if self._as_json(json_):
                output.write_json(found.to_json())
            else:
                _say_path(found)
            return 0 if found.ok else _FINDING

        run("probe path", act)

    def respond(
        self,
        device: Device,
        group: Groups,
        source: Source = None,
        port: Port = PORT,
        key: Key = None,
        key_file: KeyFile = None,
        rate: Annotated[float, typer.Option(min=0.1, help="Answers per second, at most.")] = RATE,
        no_join: Annotated[
            bool, typer.Option("--no-join", help="Join nothing; answer what is flooded.")
        ] = False,
        silent: Annotated[
            bool, typer.Option("--silent", help="Ignore questions with another key.")
        ] = False,
        once: Annotated[bool, typer.Option("--once", help="End after one answer.")] = False,
        duration: Annotated[float | None, typer.Option(min=0, help="End after so many s.")] = None,
    ) -> None:
        """Join groups on a device and answer `probe send` until SIGINT or SIGTERM.

        Exit status: 0 ended by a signal, --once or --duration; 2 bad arguments; 5 a privilege or
        the UDP port is missing.
        """

        def act() -> int:
            counts = self._engine.respond(
                device, group, source=source, port=port, key=_key(key, key_file), rate=rate,
                join=not no_join, silent=silent, once=once, duration=duration, on_ready=_say_ready,
            )  # fmt: skip
            output.say(
                f"ended: {counts.answered} answered, {counts.refused} refused, "
                f"{counts.withheld} withheld by the rate limit"
            )
            return 0

        run("probe respond", act, interrupted=0, interruptible=True)

    def send(
        self,
        device: Device,
        group: Group,
        source: Source = None,
        port: Port = PORT,
        count: Annotated[int, typer.Option(min=1, max=100_000, help="Questions each way.")] = 5,
        interval: Annotated[
            float, typer.Option(min=0.001, help="Seconds between questions.")
        ] = 0.1,
        timeout: Annotated[
            float, typer.Option(min=0, help="Seconds to wait after the last.")
        ] = 1.0,
        ttl: Annotated[
            int, typer.Option(min=1, max=255, help="TTL of questions to the group.")
        ] = 8,
        expect: Annotated[
            list[str] | None, typer.Option(metavar="ADDR", help="A host that must answer.")
        ] = None,
        sender: Annotated[
            str, typer.Option(metavar="raw|socket", help="Frames, or an ordinary socket.")
        ] = "raw",
        key: Key = None,
        key_file: KeyFile = None,
        json_: Json = False,
    ) -> None:
        """Ask a group, then each of its hosts by unicast, and show who answers.

        Exit status: 0 a host answered to the group, and all expected ones did; 2 bad arguments;
        3 no host did, or an expected one did not; 5 a privilege is missing; 130 Ctrl-C, with what
        came until then.
        """

        def act() -> int:
            chosen = _sender(sender)
            with _progress() as on_progress:
                found = self._engine.send(
                    device, group, source=source, count=count, interval=interval, timeout=timeout,
                    ttl=ttl, expect=expect or (), key=_key(key, key_file), sender=chosen, port=port,
                    progress=on_progress,
                )  # fmt: skip
            if self._as_json(json_):
                output.write_json(found.to_json())
            else:
                _say_responders(found)
            for problem in found.problems:
                output.say(problem)
            if found.interrupted:
                return INTERRUPTED
            return 0 if found.ok else _FINDING

        run("probe send", act)

    def _as_json(self, asked: bool) -> bool:
        return asked or not self._engine.on_terminal()


def application(engine: Engine | None = None) -> typer.Typer:
    """Return the commands as an application of their own."""
    app = cli.application("Where packets to a group go, and whom they reach.")
    commands = Commands(engine or Engine())
    cli.add_command(app, commands.path, "path", schema=_path_schema)
    cli.add_command(app, commands.respond, "respond")
    cli.add_command(app, commands.send, "send", schema=_send_schema)
    return app


def main() -> None:
    """Run the commands."""
    application()(prog_name="python -m ovs_mcast.probe")


def _path_schema() -> object:
    from ..core import schemas  # noqa: PLC0415 - pydantic builds a schema only if asked for one

    return schemas.path()


def _send_schema() -> object:
    from ..core import schemas  # noqa: PLC0415 - as above

    return schemas.send()


def _sender(name: str) -> Sender:
    if name == "raw":
        return "raw"
    if name == "socket":
        return "socket"
    raise ConfigurationError(f"{name!r} is neither raw nor socket", field="sender")


def _key(text: str | None, file: Path | None) -> bytes | None:
    if text is not None and file is not None:
        raise ConfigurationError("not allowed with --key-file", field="key")
    if file is not None:
        try:
            key = file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}", field="key-file") from None
        field = "key-file"
    else:
        text = text if text is not None else os.environ.get(_KEY_VARIABLE)
        if text is None:
            return None
        key, field = os.fsencode(text), "key"
    if not key:
        raise ConfigurationError("the key is empty", field=field)
    return key


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield a function that draws a bar on a terminal, else one that does nothing."""
    out = output.console()
    if not out.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("asking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say_ready(ready: Ready) -> None:
    groups = ", ".join(map(str, ready.groups[:8])) + (", …" if len(ready.groups) > 8 else "")
    sources = ", ".join(map(str, ready.sources))
    output.say(f"ready: {groups} on {ready.device}, from {sources}, UDP port {ready.port}")


def _say_path(found: SendPath) -> None:
    seen = found.evidence
    where = ", ".join(sorted(seen.seen)) or "no device"
    output.say(f"{seen.group} on {seen.device}: {found.verdict} (seen on {where})")
    output.say(f"cause: {found.cause}")
    if found.cure:
        output.say(f"cure: {found.cure}")
    if seen.tunnels.source:
        output.say(f"a tunnel from {seen.tunnels.source} sends by {seen.tunnels.device}")


def _say_responders(found: Reachability) -> None:
    for one in found.responders.values():
        trip = one.group.round_trip
        times = f", rtt {trip.min:.3f}/{trip.avg:.3f}/{trip.max:.3f} ms" if trip else ""
        output.say(
            f"{one.address}: group {one.group.received}/{one.group.sent}, "
            f"unicast {one.unicast.received}/{one.unicast.sent}{times}"
        )
        output.say(f"  {one.conclusion(found.group)}")
