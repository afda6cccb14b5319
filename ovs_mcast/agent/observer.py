"""What the loop tells of what it does: for logs, metrics, service managers. No I/O here.

Every method is called from the loop's own thread, and shall return at once: what takes time, such
as answering a scrape, belongs in a thread of the observer's own, which ``ended`` ends. An observer
that raises is a defect; it is said once, and the overlay is kept all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ConfigurationError, OvsMcastError
from ..probe.verdict import SendPath

# What has happened, as far as it may concern the overlay; "minute" is the full look that comes
# without an event, "retry" the one after a failure.
Kind = Literal[
    "start", "ovsdb", "vswitchd", "flow", "link", "address", "route", "rule", "membership",
    "configuration", "signal", "overflow", "minute", "retry",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failing:
    """A spell of failures: ``tries`` so far, over ``seconds``; the next comes in ``pause`` s."""

    tries: int
    seconds: float
    pause: float


class Observer(Protocol):
    """What the loop calls. Times are seconds of time.monotonic(), lengths are seconds."""

    def configured(self, overlay: Overlay) -> None:
        """What is wanted from now on: told at the start, and when the file has changed."""

    def refused(self, error: ConfigurationError) -> None:
        """The file has changed, and is refused: what was wanted before is still wanted."""

    def event(self, kind: Kind) -> None:
        """Something that concerns the overlay has happened: a look will follow."""

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """A look has ended well, after so long; ``changes`` are none where nothing differed."""

    def failed(self, error: OvsMcastError, seconds: float, spell: Failing) -> None:
        """A look has ended badly, after so long; called for each, so say a message once."""

    def waiting(self, until: float) -> None:
        """Nothing is to be done until then, unless an event comes."""

    def path(self, result: SendPath) -> None:
        """Where one datagram to a group of the overlay was seen to go, after the link came up."""

    def ended(self) -> None:
        """The agent ends, in order; the overlay runs on."""


class Quiet:
    """An observer of nothing, to derive from."""

    def configured(self, overlay: Overlay) -> None:
        """See Observer."""

    def refused(self, error: ConfigurationError) -> None:
        """See Observer."""

    def event(self, kind: Kind) -> None:
        """See Observer."""

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """See Observer."""

    def failed(self, error: OvsMcastError, seconds: float, spell: Failing) -> None:
        """See Observer."""

    def waiting(self, until: float) -> None:
        """See Observer."""

    def path(self, result: SendPath) -> None:
        """See Observer."""

    def ended(self) -> None:
        """See Observer."""
