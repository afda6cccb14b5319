"""Output of the commands: JSON to stdout, messages to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..core.changes import Change
from ..core.status import Progress as OnProgress
from ..core.text import harmless

_MANY = 40  # changes beyond which a reader wants counts
_MUCH = 200  # changes beyond which a bar is worth drawing

Database = Annotated[
    str | None,
    typer.Option(
        help="OVSDB: unix:FILE, tcp:ADDRESS:PORT."
        "  [default: unix:/run/openvswitch/db.sock, or in $OVS_RUNDIR]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")]


class _Console(Console):
    """A console that prints text as it is, and raises BrokenPipeError if the reader has ended.

    rich would exit, and draw an emoji for the `:ab:` of a MAC or an IPv6 address.
    """

    def __init__(self, *, markup: bool = False, **options: Any) -> None:
        super().__init__(markup=markup, highlight=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Return standard error, with colour and width only on a terminal."""
    return _Console(stderr=True, soft_wrap=True)


def stdout_console(width: int, *, markup: bool = False) -> Console:
    """Return standard output; ``width`` columns wide unless it is a terminal."""
    out = _Console(markup=markup)
    return out if out.is_terminal else _Console(markup=markup, width=width)


def write_json(value: object, *, indent: int | None = 2) -> None:
    """Write one JSON document to stdout."""
    write_line(json.dumps(value, indent=indent))


def write_line(text: str) -> None:
    """Write one line to stdout; a missing reader raises BrokenPipeError here, not at the exit."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """Print one message to stderr; discard it if nothing reads stderr any more."""
    try:
        console().print("\n".join(map(harmless, message.split("\n"))))
    except BrokenPipeError:
        _discard(sys.stderr)


def discard_stdout() -> None:
    """Discard buffered and later output, once the reader of stdout has ended."""
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say_changes(changes: Sequence[Change], *, verbose: bool) -> None:
    """Print the changes, one a line, or their counts by kind if they are many."""
    if len(changes) <= _MANY or verbose:
        for change in changes:
            say(harmless(str(change)))
        return
    counts = Counter((change.action, change.kind) for change in changes)
    for (action, kind), count in counts.items():
        plural = "es" if kind.endswith("s") else "s"
        say(f"{action} {count} {kind}{plural if count > 1 else ''}")


@contextmanager
def progress() -> Iterator[OnProgress | None]:
    """Yield a function that draws a bar on a terminal once there is much to do, else None."""
    out = console()
    if not out.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("applying", total=None, visible=False)

        def draw(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total > _MUCH)

        yield draw
