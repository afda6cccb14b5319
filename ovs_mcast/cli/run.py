"""How a command ends: one exit status and one form of message for every error.

| the end | exit status | message |
|---|---|---|
| OvsMcastError | the error's own: 1, 2, 3 or 5 | the error's |
| OSError: the machine lacks a file, a privilege, memory, … | 5 | the error's |
| Ctrl-C | 130; 0 for a command that stays until Ctrl-C; 1 for `setup` | none, or the command's |
| stdout has no reader any more | 1; 0 for a command that stays until Ctrl-C | none |
| any other exception | 1 | a defect of ovs_mcast, please report it with -v |
"""

from __future__ import annotations

import errno
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import typer

from ..errors import OvsMcastError, UnavailableError
from .output import discard_stdout, say

LOG = logging.getLogger(__name__)

INTERRUPTED = 128 + signal.SIGINT
_DEFECT = 1
_UNREAD = 1

# Errors that the machine causes, not the program: it lacks a file or device, a privilege, a
# resource, or a feature of the kernel.
_LACKING = frozenset({
    errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EROFS, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EPERM, errno.EACCES,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT,
    errno.EAGAIN, errno.EADDRINUSE,
    errno.ENOSYS, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command failed; ``message`` is empty where nothing is to be printed."""

    error: BaseException
    message: str
    exit_status: int


def run(
    command: str,
    act: Callable[[], int],
    *,
    interrupted: int = INTERRUPTED,
    interruptible: bool = False,
    report: Callable[[Failure], None] | None = None,
) -> NoReturn:
    """Exit with the status that ``act`` returns, or with that of its error; never a traceback.

    ``interrupted`` is the exit status for Ctrl-C: 0 for a command whose normal end it is.
    ``interruptible`` restores the default handler of SIGINT: a shell without job control starts
    commands in the background with SIGINT ignored. ``report`` replaces the message.
    """
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = act()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError):
            discard_stdout()
        failure = judge(error, interrupted=interrupted)
        if report is not None:
            report(failure)
        elif failure.message:
            complain(command, failure.message)
        status = failure.exit_status
    raise typer.Exit(status)


def judge(error: BaseException, *, interrupted: int = INTERRUPTED) -> Failure:
    """Return the message and the exit status of an error."""
    if isinstance(error, OvsMcastError):
        return Failure(error, str(error), error.exit_status)
    if isinstance(error, KeyboardInterrupt):
        return Failure(error, "", interrupted)
    if isinstance(error, BrokenPipeError):
        return Failure(error, "", 0 if interrupted == 0 else _UNREAD)
    if isinstance(error, OSError) and error.errno in _LACKING:
        return Failure(error, str(error), UnavailableError.exit_status)
    LOG.debug("unexpected", exc_info=error)
    message = f"a defect of ovs_mcast, please report it with -v: {error!r}"
    return Failure(error, message, _DEFECT)


def complain(command: str, message: str) -> None:
    """Print an error to stderr, in the one form of all commands."""
    say(f"ovs-mcast {command}: {message}")
