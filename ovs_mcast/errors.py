"""Errors, by who must act: the caller, the operator of the host, or a retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.changes import Change
    from .core.status import Status


class OvsMcastError(Exception):
    """Base of every error that ovs_mcast raises on purpose; its text is one sentence for a user.

    ``exit_status`` is that of a command that ends with it.

    >>> issubclass(om.UnavailableError, om.OvsMcastError)
    True
    """

    exit_status = 1


class ConfigurationError(OvsMcastError, ValueError):
    """The caller must change something: raised before anything is touched.

    ``field`` names what to change, in the words of the configuration file (``segments.0.vlan``),
    ``reason`` says why. It is a ValueError too.

    >>> try:
    ...     om.Segment(vni=5050, vlan=4095)
    ... except om.ConfigurationError as error:
    ...     print(error.field)
    vlan
    """

    exit_status = 2

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.reason = message


class UnavailableError(OvsMcastError):
    """The host lacks something now (Open vSwitch, a privilege): provide it, then try again.

    >>> try:
    ...     om.connect(rundir="/nowhere")
    ... except om.UnavailableError as error:
    ...     print(error)
    ovs-vswitchd does not run (no answer in /nowhere): start openvswitch-switch
    """

    exit_status = 5


class ApplyError(OvsMcastError):
    """A change failed while applying.

    ``done``, ``failed`` and ``pending`` are the changes that were made, the batch that was not, and
    those that were not tried. There is no rollback: running again converges.

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
    """Every change was applied, and the host as read back is not as desired.

    ``problems`` are the findings as text, ``status`` is everything that was seen.

    >>> print(om.VerifyError(["eth0 is down: set it up"]))
    eth0 is down: set it up
    """

    exit_status = 3

    def __init__(self, problems: Sequence[str], status: Status | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.status = status
