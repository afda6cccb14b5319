"""The errors that decisions raise; all others are in ovs_mcast.errors, which has these too."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "ovsdb", "vswitchd", "datapath", "locked", "agent", "device", "privilege", "system"
]


class OvsMcastError(Exception):
    """Base of every error that ovs_mcast raises on purpose; its text is one sentence for a user.

    ``exit_status`` is the exit status of a command that fails with it.

    >>> issubclass(om.UnavailableError, om.OvsMcastError)
    True
    """

    exit_status = 1


class ConfigurationError(OvsMcastError, ValueError):
    """The caller must change something: raised before anything is touched.

    ``field`` names what to change, in the words of the configuration file (``segments.0.vlan``),
    ``reason`` is the cause. Also a ValueError.

    >>> try:
    ...     om.Segment(vni=5050, vlan=4095)
    ... except om.ConfigurationError as error:
    ...     print(error.field)
    vlan
    """

    exit_status = 2

    def __init__(self, message: str, *, field: str = "") -> None:
        field, message = _shortened(field, 80), _shortened(message, 400)
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.reason = message


class UnavailableError(OvsMcastError):
    """The host lacks something now (Open vSwitch, a privilege): provide it, then try again.

    ``reason`` is what a program can branch on:

    | reason | lacks |
    |---|---|
    | ovsdb | an answer of ovsdb-server |
    | vswitchd | an answer of ovs-vswitchd, or its work on a change |
    | datapath | the datapath of the overlay in Open vSwitch |
    | locked | its turn: another run holds this Open vSwitch |
    | agent | leave: an agent keeps the overlay |
    | device | a device's address or carrier; ``device`` names it |
    | privilege | a privilege of this process |
    | system | anything else of this system: a program, a limit, a socket |

    >>> try:
    ...     om.connect(rundir="/nowhere")
    ... except om.UnavailableError as error:
    ...     print(error.reason, error)
    vswitchd ovs-vswitchd does not run (no answer in /nowhere): start openvswitch-switch
    """

    exit_status = 5

    def __init__(self, message: str, *, reason: Reason = "system", device: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.device = device


def _shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: what it quotes may be of any length."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"
