"""How a command runs: its application, its log, the privilege it needs."""

from __future__ import annotations

import logging
import os
from typing import TextIO

import typer

from ..errors import UnavailableError

_CAP_NET_ADMIN = 12


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


def require_net_admin() -> None:
    """UnavailableError without CAP_NET_ADMIN, which addresses and routes need."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1:
        who = "root" if os.geteuid() else "CAP_NET_ADMIN"
        raise UnavailableError(f"this changes addresses and routes: run it as {who}")
