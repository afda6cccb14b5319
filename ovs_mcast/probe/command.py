"""`python -m ovs_mcast.probe`: where packets to a group go, and whom they reach."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..cli import app as app_module
from ..cli import output
from ..errors import ConfigurationError, OvsMcastError, UnavailableError
from .path import send_path
from .protocol import PORT
from .reachability import Reachability, Sender
from .respond import Ready, respond
from .responder import RATE
from .send import send
from .verdict import SendPath

_FINDING = 3
_INTERRUPTED = 130
_KEY_VARIABLE = "OVS_MCAST_PROBE_KEY"

Device = Annotated[str, typer.Option(help="Device of the underlay.")]
Group = Annotated[str, typer.Option(help="Multicast group, IPv4 or IPv6.")]
Groups = Annotated[list[str], typer.Option("--group", help="A group; as often as wanted.")]
Source = Annotated[
    str | None, typer.Option(help="Source address.  [default: the device's first of the family]")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="UDP port of the probe.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, on a terminal too.")]
Key = Annotated[
    str | None, typer.Option(help=f"Shared key; ps shows it: ${_KEY_VARIABLE} or --key-file.")
]
KeyFile = Annotated[Path | None, typer.Option(help="File with the shared key.")]


def path(device: Device, group: Group, source: Source = None, port: Port = PORT,
         json_: Json = False) -> None:  # fmt: skip
    """Show where an ordinary program's datagram to the group goes, why, and the cure.

    One datagram of TTL 1 is sent, and looked for on the device and on lo. For IPv6, waits for
    duplicate address detection. Exit status: 0 it reaches the wire; 2 bad arguments; 3 it does not,
    or that is about to change; 5 a privilege is missing.
    """
    with _telling_errors():
        found = send_path(device, group, source=source, port=port)
        if _as_json(json_):
            _write_json(found.to_json())
        else:
            _tell_path(found)
        raise typer.Exit(0 if found.ok else _FINDING)


def respond_command(
    device: Device,
    group: Groups,
    source: Source = None,
    port: Port = PORT,
    key: Key = None,
    key_file: KeyFile = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Answers a second, at most.")] = RATE,
    no_join: Annotated[
        bool, typer.Option("--no-join", help="Join nothing; answer what is flooded.")
    ] = False,
    silent: Annotated[
        bool, typer.Option("--silent", help="Say nothing to questions with another key.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End after one answer.")] = False,
    duration: Annotated[float | None, typer.Option(min=0, help="End after so many s.")] = None,
) -> None:
    """Join groups on a device and answer `probe send` until SIGINT or SIGTERM.

    Exit status: 0 ended in order; 2 bad arguments; 5 a privilege or the UDP port is missing.
    """
    with _telling_errors():
        counts = respond(
            device, group, source=source, port=port, key=_key(key, key_file), rate=rate,
            join=not no_join, silent=silent, once=once, duration=duration, on_ready=_tell_ready,
        )  # fmt: skip
        output.say(
            f"ended: {counts.answered} answered, {counts.refused} refused, "
            f"{counts.withheld} held back by the rate limit"
        )


def send_command(
    device: Device,
    group: Group,
    source: Source = None,
    port: Port = PORT,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Questions each way.")] = 5,
    interval: Annotated[float, typer.Option(min=0.001, help="Seconds between questions.")] = 0.1,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait after the last.")] = 1.0,
    ttl: Annotated[int, typer.Option(min=1, max=255, help="TTL of what the group gets.")] = 8,
    expect: Annotated[
        list[str] | None, typer.Option(metavar="ADDR", help="A host that must answer.")
    ] = None,
    sender: Annotated[
        str, typer.Option(metavar="raw|socket", help="Frames of our own, or an ordinary socket.")
    ] = "raw",
    key: Key = None,
    key_file: KeyFile = None,
    json_: Json = False,
) -> None:
    """Ask a group, then each host of it by unicast, and tell who answers.

    Exit status: 0 all expected hosts answered to the group, and anybody did; 2 bad arguments;
    3 an expected host did not, or nobody did; 5 a privilege is missing.
    """
    with _telling_errors():
        chosen = _sender(sender)
        with _progress() as told:
            found = send(
                device, group, source=source, count=count, interval=interval, timeout=timeout,
                ttl=ttl, expect=expect or (), key=_key(key, key_file), sender=chosen, port=port,
                progress=told,
            )  # fmt: skip
        _tell_reachability(found, as_json=_as_json(json_))
        if found.interrupted:
            raise typer.Exit(_INTERRUPTED)
        raise typer.Exit(0 if found.ok else _FINDING)


def application() -> typer.Typer:
    """The commands as an application of their own."""
    app = app_module.application("Where packets to a group go, and whom they reach.")
    app.command("path")(path)
    app.command("respond")(respond_command)
    app.command("send")(send_command)
    return app


def main() -> None:
    """The commands, from the command line."""
    application()(prog_name="python -m ovs_mcast.probe")


@contextmanager
def _telling_errors() -> Iterator[None]:
    """An error is one sentence on stderr and an exit status; an interruption, a status."""
    try:
        yield
    except OvsMcastError as error:
        output.say(f"ovs-mcast probe: {error}")
        raise typer.Exit(error.exit_status) from None
    except BrokenPipeError:
        # Nobody reads stdout; nothing more is to be flushed there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        output.say(f"ovs-mcast probe: {error}")
        raise typer.Exit(UnavailableError.exit_status) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _write_json(value: object) -> None:
    output.write_json(value)
    sys.stdout.flush()  # that nobody reads it is known here, not when the interpreter ends


def _as_json(asked: bool) -> bool:
    return asked or not sys.stdout.isatty()


def _sender(name: str) -> Sender:
    if name == "raw":
        return "raw"
    if name == "socket":
        return "socket"
    raise ConfigurationError(f"{name!r} is neither raw nor socket", field="sender")


def _key(text: str | None, file: Path | None) -> bytes | None:
    if text is not None and file is not None:
        raise ConfigurationError("--key-file says it: leave --key out", field="key")
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
        raise ConfigurationError("an empty key is none", field=field)
    return key


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, else nothing."""
    out = output.console()
    if not out.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("asking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell_ready(ready: Ready) -> None:
    groups = ", ".join(map(str, ready.groups[:8])) + (", …" if len(ready.groups) > 8 else "")
    sources = ", ".join(map(str, ready.sources))
    output.say(f"ready: {groups} on {ready.device}, from {sources}, UDP port {ready.port}")


def _tell_path(found: SendPath) -> None:
    seen = found.evidence
    where = ", ".join(sorted(seen.seen)) or "no device"
    output.say(f"{seen.group} on {seen.device}: {found.verdict} (seen on {where})")
    output.say(f"cause: {found.cause}")
    if found.cure:
        output.say(f"cure: {found.cure}")
    if seen.tunnels.source:
        output.say(f"a tunnel from {seen.tunnels.source} sends by {seen.tunnels.device}")


def _tell_reachability(found: Reachability, *, as_json: bool) -> None:
    if as_json:
        _write_json(found.to_json())
    else:
        for one in found.responders.values():
            trip = one.group.round_trip
            times = f", rtt {trip.min:.3f}/{trip.avg:.3f}/{trip.max:.3f} ms" if trip else ""
            output.say(
                f"{one.address}: group {one.group.received}/{one.group.sent}, "
                f"unicast {one.unicast.received}/{one.unicast.sent}{times}"
            )
            output.say(f"  {one.conclusion(found.group)}")
    for problem in found.problems:
        output.say(problem)
