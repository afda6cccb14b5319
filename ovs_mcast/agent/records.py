"""What the agent does, one line for each event, for programs that read logs.

    time=2026-11-22T21:30:00.123Z level=info event=reconciled overlay=tenants result=changed …
    {"time": "2026-11-22T21:30:00.123Z", "level": "info", "event": "reconciled", …}

| event | level | what else |
|---|---|---|
| configured | info | segments |
| refused | error | message, field: a new configuration; the old one is kept |
| happened | debug | kind |
| reconciled | info, debug where nothing was done or over | result, segments, seconds, changes, added, updated, removed; after failures tries, failing |
| changed | debug | action, kind, target, reason |
| problem | warning | message |
| failed | error | error, message, tries, seconds, pause; once in a spell for each message |
| path | info, warning where not wire | group, verdict, cause |
| ended | info | |

Lengths are in seconds. In the journal (systemd.exec(5): $JOURNAL_STREAM) a line has its priority in
front (sd-daemon(3)) and no time, which the journal knows.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Literal

from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ConfigurationError, OvsMcastError
from ..probe.verdict import SendPath
from .observer import Failing, Kind, Quiet
from .saying import Saying

Format = Literal["keys", "json"]
FORMATS: Mapping[str, Format] = {"keys": "keys", "json": "json"}
Level = Literal["error", "warning", "info", "debug"]

_PRIORITY: dict[Level, int] = {"error": 3, "warning": 4, "info": 6, "debug": 7}
_PLAIN = re.compile(r"[^\s\"=\\]+")
_DONE = {"add": "added", "update": "updated", "remove": "removed"}


def is_journal(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written there goes to the journal, which $JOURNAL_STREAM names."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it has no descriptor
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def line(
    fields: Mapping[str, object], *, form: Format, journal: bool = False, now: float = 0.0
) -> str:
    """One record as one line. ``now`` is seconds since the epoch."""
    level: Level = fields["level"]  # type: ignore[assignment]
    if not journal:
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        fields = {"time": time.replace("+00:00", "Z"), **fields}
    rounded = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in fields.items()
    }
    if form == "json":
        text = json.dumps(rounded, ensure_ascii=False)
    else:
        text = " ".join(f"{name}={_quoted(value)}" for name, value in rounded.items())
    return f"<{_PRIORITY[level]}>{text}" if journal else text


def _quoted(value: object) -> str:
    """As it is where it is one word, else as a string of JSON."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class Records(Quiet):
    """An observer that writes lines to a stream; ``clock`` gives seconds since the epoch.

    ``status`` is told a sentence for `systemctl status`. ``verbose`` writes debug too.
    """

    def __init__(
        self,
        stream: IO[str],
        clock: Callable[[], float],
        status: Callable[[str], None] = lambda _sentence: None,
        *,
        form: Format = "keys",
        verbose: bool = False,
    ) -> None:
        self._stream, self._clock, self._status = stream, clock, status
        self._form: Format = form
        self._verbose = verbose
        self._journal = is_journal(stream)
        self._overlay = ""
        self._saying = Saying()
        self._spell: Failing | None = None
        self._fresh = True
        self._said_of_file = ""
        self._problems: frozenset[str] = frozenset()
        self._path: tuple[str, str] | None = None

    def _write(self, level: Level, event: str, **fields: object) -> None:
        if level == "debug" and not self._verbose:
            return
        record = {"level": level, "event": event, "overlay": self._overlay, **fields}
        text = line(record, form=self._form, journal=self._journal, now=self._clock())
        self._stream.write(text + "\n")
        self._stream.flush()

    def configured(self, overlay: Overlay) -> None:
        """Write how much is wanted."""
        self._overlay, self._said_of_file, self._fresh = overlay.name, "", True
        self._write("info", "configured", segments=len(overlay.segments))

    def refused(self, error: ConfigurationError) -> None:
        """Write why, once for each reason."""
        if str(error) != self._said_of_file:
            self._said_of_file = str(error)
            self._write("error", "refused", field=error.field, message=error.reason)

    def event(self, kind: Kind) -> None:
        """Write what was heard, if all is to be written."""
        self._write("debug", "happened", kind=kind)

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """Write what was done, and that a spell of failures is over."""
        for change in changes:
            self._write("debug", "changed", **change.to_json())
        over, self._spell = self._spell, None
        self._saying.fine(over)
        done = Counter(_DONE[change.action] for change in changes)
        counts = {name: done[name] for name in _DONE.values()} if changes else {}
        failures = {"tries": over.tries, "failing": over.seconds} if over else {}
        news = bool(changes or over or self._fresh)
        self._write(
            "info" if news else "debug",
            "reconciled",
            result="changed" if changes else "unchanged",
            segments=len(status.segments),
            seconds=seconds,
            changes=len(changes),
            **counts,
            **failures,
        )
        self._fresh = False
        for problem in status.problems:
            if problem not in self._problems:
                self._write("warning", "problem", message=problem)
        self._problems = frozenset(status.problems)
        self._status(f"{status.overlay}: {len(status.segments)} segments as wanted")

    def failed(self, error: OvsMcastError, seconds: float, spell: Failing) -> None:
        """Write it, each message once in a spell of failures."""
        self._spell = spell
        if self._saying.failed(str(error), spell) is None:
            return
        self._write(
            "error",
            "failed",
            error=type(error).__name__,
            message=str(error),
            tries=spell.tries,
            seconds=seconds,
            pause=spell.pause,
        )
        self._status(f"{self._overlay}: {error}")

    def path(self, result: SendPath) -> None:
        """Write where a datagram goes, when that changes."""
        group = str(result.evidence.group)
        if (group, result.verdict) == self._path:
            return
        self._path = (group, result.verdict)
        level: Level = "info" if result.verdict == "wire" else "warning"
        self._write(level, "path", group=group, verdict=result.verdict, cause=result.cause)

    def ended(self) -> None:
        """Write that it ends."""
        self._write("info", "ended")
