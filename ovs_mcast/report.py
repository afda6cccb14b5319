"""What a command tells: JSON to stdout alone, all else to stderr, and how it exits."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .changes import Change
from .errors import UnavailableError
from .status import Progress as Told

_MANY = 40  # changes beyond which a reader wants counts
_MUCH = 200  # changes beyond which a bar is worth drawing
_CAP_NET_ADMIN = 12

Database = Annotated[
    str | None,
    typer.Option(
        help="OVSDB: unix:FILE, tcp:ADDRESS:PORT."
        "  [default: unix:/run/openvswitch/db.sock, or in $OVS_RUNDIR]"
    ),
]


def application(text: str | None = None) -> typer.Typer:
    """An application for commands; one with a text of its own shows its help where none is given.

    Help and complaints are plain text: rich would take brackets for markup, and lines as they are.
    """
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=text is not None,
        help=text,
    )


def console() -> Console:
    """Standard error, with colour and width only where it is a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class _ToStderr(logging.StreamHandler[TextIO]):
    """The handler of the commands, to be told from others."""


def log_to_stderr(verbose: bool) -> None:
    """Our own log to stderr; the libraries' chatter nowhere, what they mean comes as our errors."""
    ours, root = logging.getLogger("ovs_mcast"), logging.getLogger()
    for handler in [handler for handler in ours.handlers if isinstance(handler, _ToStderr)]:
        ours.removeHandler(handler)  # of a call before, whose stderr may have been another
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours.addHandler(handler)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    ours.setLevel(logging.DEBUG if verbose else logging.WARNING)
    ours.propagate = False


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


def require_net_admin() -> None:
    """UnavailableError without CAP_NET_ADMIN, which addresses and routes need."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1:
        who = "root" if os.geteuid() else "CAP_NET_ADMIN"
        raise UnavailableError(f"this changes addresses and routes: run it as {who}")


def notify_ready() -> None:
    """Tell systemd, if it asked to be told, that the service is ready (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))
