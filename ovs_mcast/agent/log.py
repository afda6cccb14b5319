"""The agent's log: one observer that yields records. log_format.py has the renderers.

| event | level | fields |
|---|---|---|
| configured | info | segments |
| refused | error | message, field: of a new configuration; the old one is kept |
| happened | debug | kind |
| reconciled | info; debug if nothing changed or recovered | result, segments, seconds, changes, added, updated, removed; after failures tries, failing |
| changed | debug | action, kind, target, reason |
| problem | warning | message |
| failed | error | error, message, tries, seconds, pause; each message once in a failure streak |
| failover | info; warning if it failed | devices, groups, message: the groups were reported again |
| path | info; warning if not wire | group, verdict, cause |
| ended | info | |

Durations are in seconds.
"""  # noqa: E501

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..core.text import harmless
from ..errors import ConfigurationError, OvsMcastError
from ..probe.verdict import SendPath
from .announcer import Announcement
from .observer import FailureStreak, Kind, Observer

Level = Literal["error", "warning", "info", "debug"]

_DONE = {"add": "added", "update": "updated", "remove": "removed"}
_NUMBER = re.compile(r"\d+")
_MESSAGES_MAX = 100  # remembered in one failure streak
_CHANGES_MAX = 10  # beyond which the text has their number


@dataclass(frozen=True, slots=True)
class Record:
    """One event of the log: ``fields`` for programs, ``text`` for people; either may be None."""

    level: Level
    fields: Mapping[str, object] | None
    text: str | None


class FailureMessages:
    """Deduplicate messages during a failure streak, ignoring digits."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def is_new(self, message: str) -> bool:
        """Record a message; return True if it is new in this streak, and not one of too many."""
        gist = _NUMBER.sub("#", message)
        if gist in self._seen or len(self._seen) >= _MESSAGES_MAX:
            return False
        self._seen.add(gist)
        return True

    def clear(self) -> None:
        """End the streak."""
        self._seen.clear()


class Log(Observer):
    """Writes records, each fact once, and keeps systemd's STATUS; ``verbose`` writes debug too."""

    def __init__(
        self,
        write: Callable[[Record], None],
        status: Callable[[str], None] = lambda _sentence: None,
        *,
        verbose: bool = False,
    ) -> None:
        self._write, self._status, self._verbose = write, status, verbose
        self._overlay = ""
        self._messages = FailureMessages()
        self._streak: FailureStreak | None = None
        self._applied = False  # since this configuration was read
        self._refused = ""
        self._problems: frozenset[str] = frozenset()
        self._path: tuple[str, str] | None = None
        self._until = 0.0

    def configured(self, overlay: Overlay) -> None:
        """Log the number of wanted segments."""
        self._overlay, self._refused, self._applied = overlay.name, "", False
        number = len(overlay.segments)
        self._log("info", "configured", self._named(f"{number} segments wanted"), segments=number)

    def refused(self, error: ConfigurationError) -> None:
        """Log the reason, once."""
        if str(error) != self._refused:
            self._refused = str(error)
            text = f"the new configuration is refused, the old one is kept: {harmless(str(error))}"
            self._log("error", "refused", text, field=error.field, message=error.reason)

    def event(self, kind: Kind) -> None:
        """Log the kind of the event."""
        self._log("debug", "happened", f"event: {kind}", kind=kind)

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """Log the changes, the recovery after failures, and new problems."""
        self._text("debug", f"reconcile: {len(changes)} changes in {seconds:.3f} s")
        for change in changes:
            self._log("debug", "changed", None, **change.to_json())
        over, self._streak = self._streak, None
        self._messages.clear()
        news = self._news(changes, over)
        self._log(
            "info" if news else "debug",
            "reconciled",
            "\n".join(news) or None,
            result="changed" if changes else "unchanged",
            segments=len(status.segments),
            seconds=seconds,
            changes=len(changes),
            **_counts(changes),
            **({"tries": over.tries, "failing": over.seconds} if over else {}),
        )
        self._applied = True
        for problem in status.problems:
            if problem not in self._problems:
                self._log("warning", "problem", harmless(problem), message=problem)
        self._problems = frozenset(status.problems)
        self._status(f"{status.overlay}: {len(status.segments)} segments applied and verified")

    def failed(self, error: OvsMcastError, seconds: float, streak: FailureStreak) -> None:
        """Log each message once in a failure streak."""
        self._streak, message = streak, str(error)
        self._text(
            "debug", f"reconcile: failed in {seconds:.3f} s, next try in {streak.pause:.1f} s"
        )
        if not self._messages.is_new(message):
            return
        again = f"(trying again in {_duration(streak.pause)}, then more slowly)"
        self._log(
            "error",
            "failed",
            self._named(f"{message} {again}"),
            error=type(error).__name__,
            message=message,
            tries=streak.tries,
            seconds=seconds,
            pause=streak.pause,
        )
        self._status(f"{self._overlay}: {message}")

    def waiting(self, until: float) -> None:
        """Log that the loop is idle, once for each deadline."""
        if until != self._until:
            self._text("debug", "idle")
        self._until = until

    def path(self, result: SendPath) -> None:
        """Log the path of a datagram when it changed."""
        group, verdict = str(result.evidence.group), result.verdict
        if (group, verdict) == self._path:
            return
        self._path = (group, verdict)
        cause = "" if verdict == "wire" else f": {result.cause}"
        self._log(
            "info" if verdict == "wire" else "warning",
            "path",
            f"{group}: an ordinary datagram reaches {verdict}{cause}",
            group=group,
            verdict=verdict,
            cause=result.cause,
        )

    def announced(self, announcement: Announcement) -> None:
        """Log the devices that failed over, and that the groups were reported again."""
        devices, number = ", ".join(announcement.moved), announcement.groups
        done = announcement.error or f"{number} group{'s' * (number > 1)} reported again"
        self._log(
            "warning" if announcement.error else "info",
            "failover",
            self._named(f"{announcement.device}: link change of {devices}: {done}"),
            devices=devices,
            groups=number,
            message=announcement.error,
        )

    def ended(self) -> None:
        """Log the end."""
        self._log("info", "ended", self._named("the agent ends, the overlay runs on"))

    def _news(self, changes: Sequence[Change], over: FailureStreak | None) -> list[str]:
        """Return the lines on what this reconcile did, finished or ended."""
        news = []
        if changes:
            verb = "put back" if self._applied else "changed"
            news.append(f"{verb} {self._listed(changes)}")
        if over:
            attempts = f"{over.tries} attempt{'s' if over.tries > 1 else ''}"
            news.append(f"recovered after {attempts} in {_duration(over.seconds)}")
        if not self._applied:
            news.append("applied and verified")
        return [self._named(line) for line in news]

    def _listed(self, changes: Sequence[Change]) -> str:
        if len(changes) > _CHANGES_MAX and not self._verbose:
            return f"{len(changes)} things"
        return "; ".join(map(str, changes))

    def _named(self, text: str) -> str:
        return f"overlay {self._overlay}: {harmless(text)}"

    def _text(self, level: Level, text: str) -> None:
        if level != "debug" or self._verbose:
            self._write(Record(level, None, text))

    def _log(self, level: Level, event: str, text: str | None, **fields: object) -> None:
        if level != "debug" or self._verbose:
            named = {"level": level, "event": event, "overlay": self._overlay, **fields}
            self._write(Record(level, named, text))


def _counts(changes: Sequence[Change]) -> dict[str, int]:
    done = Counter(_DONE[change.action] for change in changes)
    return {name: done[name] for name in _DONE.values()} if changes else {}


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
