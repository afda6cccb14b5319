"""What a person reads of the agent: lines on stderr, each thing said once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..adapters.systemd import Notify
from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ConfigurationError, OvsMcastError
from ..probe.verdict import SendPath
from .observer import Failing, Quiet
from .saying import Saying

_MANY = 10  # changes beyond which their number is enough


class Spoken(Quiet):
    """Says what the agent does; ``verbose`` also what it hears, and every change."""

    def __init__(self, say: Callable[[str], None], notify: Notify, *, verbose: bool) -> None:
        self._say, self._notify, self._verbose = say, notify, verbose
        self._saying = Saying()
        self._spell: Failing | None = None
        self._overlay = ""
        self._built = False
        self._refused = ""
        self._warned: tuple[str, ...] = ()
        self._path = ""
        self._until = 0.0

    def configured(self, overlay: Overlay) -> None:
        """Say how much is wanted."""
        self._refused = ""
        self._overlay = overlay.name
        self._built = False
        self._say(f"overlay {overlay.name}: {len(overlay.segments)} segments wanted")

    def refused(self, error: ConfigurationError) -> None:
        """Say why, once for each reason."""
        if str(error) != self._refused:
            self._refused = str(error)
            self._say(f"the new configuration is refused, the old one is kept: {error}")

    def event(self, kind: str) -> None:
        """Say what was heard, if all is to be said."""
        if self._verbose:
            self._say(f"event: {kind}")

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """Say what was changed, and what is over."""
        if self._verbose:
            self._say(f"look: {len(changes)} changes in {seconds:.3f} s")
        over = self._saying.fine(self._spell)
        self._spell = None
        if changes:
            what = "put back" if self._built else "changed"
            self._say(f"overlay {status.overlay}: {what} {_listed(changes, self._verbose)}")
        if over:
            self._say(f"overlay {status.overlay}: {over}")
        if not self._built:
            self._say(f"overlay {status.overlay}: as wanted, and seen to be")
        self._built = True
        for problem in status.problems:
            if problem not in self._warned:
                self._say(problem)
        self._warned = status.problems
        self._notify.status(f"{status.overlay}: {len(status.segments)} segments as wanted")

    def failed(self, error: OvsMcastError, seconds: float, spell: Failing) -> None:
        """Say it once in a spell of failures."""
        self._spell = spell
        if self._verbose:
            self._say(f"look: failed in {seconds:.3f} s, again in {spell.pause:.1f} s")
        message = self._saying.failed(str(error), spell)
        if message:
            self._say(f"overlay {self._overlay}: {message}")
            self._notify.status(f"{self._overlay}: {error}")

    def waiting(self, until: float) -> None:
        """Say, if all is to be said, that nothing is left to do; once for each time."""
        if self._verbose and until != self._until:
            self._say("waits for an event, or for its time")
        self._until = until

    def path(self, result: SendPath) -> None:
        """Say where a datagram goes, when that changes."""
        shown = f"{result.evidence.group}: an ordinary datagram reaches {result.verdict}"
        if shown != self._path:
            cause = "" if result.verdict == "wire" else f": {result.cause}"
            self._say(shown + cause)
        self._path = shown

    def ended(self) -> None:
        """Say that the overlay runs on."""
        self._say(f"overlay {self._overlay}: the agent ends, the overlay runs on")


def _listed(changes: Sequence[Change], verbose: bool) -> str:
    if len(changes) > _MANY and not verbose:
        return f"{len(changes)} things"
    return "; ".join(map(str, changes))
