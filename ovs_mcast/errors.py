"""Errors, sorted by who must act: the caller, the operator of the machine, or a retry."""

from __future__ import annotations

from collections.abc import Sequence


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
    """The machine lacks something now (Open vSwitch, a privilege): mend it, then try again.

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
        done: Sequence[object] = (),
        failed: Sequence[object] = (),
        pending: Sequence[object] = (),
    ) -> None:
        super().__init__(message)
        self.done = tuple(done)
        self.failed = tuple(failed)
        self.pending = tuple(pending)


class VerifyError(OvsMcastError):
    """Everything was applied, and what was read back is not what was wanted.

    ``problems`` say how, ``status`` is the whole of what was seen, a Status.

    >>> print(om.VerifyError(["eth0 is down: set it up"]))
    eth0 is down: set it up
    """

    exit_status = 3

    def __init__(self, problems: Sequence[str], status: object = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.status = status
