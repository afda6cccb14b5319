"""How a command reports: JSON to stdout alone, all else to stderr."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..core.changes import Change
from ..core.status import Progress as Told

_MANY = 40  # changes beyond which a reader wants counts
_MUCH = 200  # changes beyond which a bar is worth drawing

Database = Annotated[
    str | None,
    typer.Option(
        help="OVSDB: unix:FILE, tcp:ADDRESS:PORT."
        "  [default: unix:/run/openvswitch/db.sock, or in $OVS_RUNDIR]"
    ),
]


def console() -> Console:
    """Standard error, with colour and width only where it is a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def write_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """One line for a person."""
    console().print(message)


def tell_changes(changes: Sequence[Change], *, verbose: bool) -> None:
    """The changes, one a line, or their counts by kind where they are many."""
    if len(changes) <= _MANY or verbose:
        for change in changes:
            say(str(change))
        return
    counts = Counter((change.action, change.kind) for change in changes)
    for (action, kind), count in counts.items():
        plural = "es" if kind.endswith("s") else "s"
        say(f"{action} {count} {kind}{plural if count > 1 else ''}")


@contextmanager
def progress() -> Iterator[Told | None]:
    """A bar on a terminal once there is much to do, else nothing."""
    out = console()
    if not out.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("applying", total=None, visible=False)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total > _MUCH)

        yield told
