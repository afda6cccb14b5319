"""The errors that decisions raise; all others are in ovs_mcast.errors, which has these too."""

from __future__ import annotations


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


def _shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: what it quotes may be of any length."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"
