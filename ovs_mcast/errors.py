"""Errors, by who must act: the caller, the operator of the host, or a retry."""

from __future__ import annotations

from collections.abc import Sequence

from .core.changes import Change
from .core.errors import ConfigurationError, OvsMcastError, UnavailableError
from .core.status import Status

__all__ = [
    "ApplyError",
    "ClosedError",
    "ConfigurationError",
    "OvsMcastError",
    "UnavailableError",
    "VerifyError",
]


class ClosedError(OvsMcastError):
    """The Host was closed, or is that of the process that forked this one: connect anew.

    >>> from ovs_mcast.testing import FakeHost
    >>> host = FakeHost()
    >>> host.close()
    >>> host.overlays()
    Traceback (most recent call last):
        ...
    ovs_mcast.errors.ClosedError: this Host is closed: connect anew
    """


class ApplyError(OvsMcastError):
    """A change failed while applying.

    ``done``, ``failed`` and ``pending`` are the changes made, the batch that failed, and the
    changes not tried. There is no rollback: running again converges.

    >>> error = om.ApplyError("br-mcast: no space left")
    >>> error.done, error.failed, error.pending
    ((), (), ())
    """

    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        done: Sequence[Change] = (),
        failed: Sequence[Change] = (),
        pending: Sequence[Change] = (),
    ) -> None:
        super().__init__(message)
        self.done = tuple(done)
        self.failed = tuple(failed)
        self.pending = tuple(pending)


class VerifyError(OvsMcastError):
    """Every change was applied, but the host as read back is not as desired.

    ``problems`` are the findings as text, ``status`` is the whole status.

    >>> print(om.VerifyError(["eth0 is down: set it up"]))
    eth0 is down: set it up
    """

    exit_status = 3

    def __init__(self, problems: Sequence[str], status: Status | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.status = status
