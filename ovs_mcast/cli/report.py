"""The report of a command that changes an overlay: a document, or changes and sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..core.changes import Change
from ..core.status import Status
from ..core.text import harmless
from ..errors import ApplyError, VerifyError
from . import output
from .run import Failure, complain

_INTERRUPTED = "interrupted: run it again, it continues from what is in place"


def summary(status: Status) -> str:
    """Return the sentence of a run that ended well."""
    ending = "applied and verified" if status.changed else "nothing to change"
    return f"overlay {status.overlay}: {ending}"


@dataclass(slots=True)
class Report:
    """What one command prints: JSON to stdout, or text to stderr. ``reported`` once it has."""

    command: str
    as_json: bool
    verbose: bool
    reported: bool = False

    def status(self, status: Status, summary: str = "", *, error: str = "") -> None:
        """Report a run; ``summary`` is its sentence for people, ``error`` what ended it."""
        self.reported = True
        if self.as_json:
            output.write_json(status.to_json())
        else:
            output.say_changes(status.changes, verbose=self.verbose)
            if summary:
                output.say(summary)
        if error:
            complain(self.command, error)
        else:
            for problem in status.problems:
                output.say(harmless(problem))

    def failed(self, overlay: str, failure: Failure, done: tuple[Change, ...] = ()) -> None:
        """Report a failure after these changes, in the document unless that is printed already."""
        error = failure.error
        message = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else failure.message
        if isinstance(error, VerifyError) and isinstance(error.status, Status):
            self.status(replace(error.status, changes=(*done, *error.status.changes)))
        elif not self.reported:
            made = error.done if isinstance(error, ApplyError) else ()
            changes = done + tuple(change for change in made if isinstance(change, Change))
            self.status(Status(overlay, changes, problems=(message,)), error=message)
        elif message:
            complain(self.command, message)
