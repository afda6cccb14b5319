"""The forms of the agent's log: text for people, keys (logfmt) and JSON for programs.

    overlay tenants: put back + route 239.0.0.1 dev eth0 src 10.0.0.1: missing
    time=2026-11-22T21:30:00.123Z level=info event=reconciled overlay=tenants result=changed …
    {"time": "2026-11-22T21:30:00.123Z", "level": "info", "event": "reconciled", …}

In the journal (systemd.exec(5): $JOURNAL_STREAM) a line for programs starts with its priority
(sd-daemon(3)) and has no time: the journal adds its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Literal

from .log import Level, Record

Format = Literal["keys", "json"]
FORMATS: Mapping[str, Format] = {"keys": "keys", "json": "json"}

_PRIORITY: dict[Level, int] = {"error": 3, "warning": 4, "info": 6, "debug": 7}
_PLAIN = re.compile(r"[^\s\"=\\]+")


def for_people(say: Callable[[str], None]) -> Callable[[Record], None]:
    """Return a writer of text; ``say`` prints one message."""

    def write(record: Record) -> None:
        if record.text is not None:
            say(record.text)

    return write


def for_programs(
    stream: IO[str], clock: Callable[[], float], form: Format
) -> Callable[[Record], None]:
    """Return a writer of lines to a stream; ``clock`` gives seconds since the epoch."""
    journal = is_journal(stream)

    def write(record: Record) -> None:
        if record.fields is not None:
            text = line(record, form=form, journal=journal, now=clock())
            stream.write(text + "\n")
            stream.flush()

    return write


def is_journal(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if the stream is the one that $JOURNAL_STREAM names."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # the stream has no descriptor
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def line(record: Record, *, form: Format, journal: bool = False, now: float = 0.0) -> str:
    """Return the fields of a record as one line. ``now`` is seconds since the epoch."""
    fields = dict(record.fields or {})
    if not journal:
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        fields = {"time": time.replace("+00:00", "Z"), **fields}
    rounded = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in fields.items()
    }
    if form == "json":
        text = _printable(json.dumps(rounded, ensure_ascii=False))
    else:
        text = " ".join(f"{name}={_quoted(value)}" for name, value in rounded.items())
    return f"<{_PRIORITY[record.level]}>{text}" if journal else text


def _quoted(value: object) -> str:
    """Return one word unchanged, all else as a JSON string."""
    text = str(value)
    if text.isprintable() and _PLAIN.fullmatch(text):
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """Escape, too, what json leaves and a terminal acts on: C1 controls, marks of direction."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
