"""The agent's log: one record per event, each failure once in a streak; text, keys and JSON."""

from __future__ import annotations

import io
import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.agent.log import FailureMessages, Log, Record
from ovs_mcast.agent.log_format import Format, for_people, for_programs, is_journal, line
from ovs_mcast.agent.observer import FailureStreak
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Bridge
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.status import Status
from ovs_mcast.errors import ConfigurationError, UnavailableError

WANTED = Overlay(name="tenants", underlay={"device": "eth0"})
STATUS = Status("tenants", verified=True)
CHANGES = (
    Change("add", Bridge("br-a", "system"), "missing"),
    Change("add", Bridge("br-b", "system"), "missing"),
    Change("remove", Bridge("br-c", "system"), "not wanted"),
)


class Written:
    """A log for programs, its records, and the STATUS of systemd."""

    def __init__(self, *, form: Format = "json", verbose: bool = False) -> None:
        self._stream = io.StringIO()
        self.status: list[str] = []
        write = for_programs(self._stream, lambda: 1e9, form)
        self.log = Log(write, self.status.append, verbose=verbose)
        self.log.configured(WANTED)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]

    @property
    def events(self) -> list[str]:
        return [f"{one['level']} {one['event']}" for one in self.records]


def test_a_record_has_a_time_and_what_was_done() -> None:
    written = Written()
    written.log.reconciled(STATUS, 0.12345, CHANGES)
    assert written.records[1] == {
        "time": "2001-09-09T01:46:40.000Z", "level": "info", "event": "reconciled",
        "overlay": "tenants", "result": "changed", "segments": 0, "seconds": 0.123,
        "changes": 3, "added": 2, "updated": 0, "removed": 1,
    }  # fmt: skip
    assert written.status == ["tenants: 0 segments applied and verified"]


def test_the_same_as_keys_and_values() -> None:
    written = Written(form="keys")
    written.log.refused(ConfigurationError('"x" is no VLAN', field="segments.0.vlan"))
    assert written.lines[1] == (
        "time=2001-09-09T01:46:40.000Z level=error event=refused overlay=tenants "
        r'field=segments.0.vlan message="\"x\" is no VLAN"'
    )


def test_a_failure_is_written_once_in_a_streak() -> None:
    written = Written()
    written.log.reconciled(STATUS, 0.1, CHANGES)
    for tries in range(1, 1001):
        written.log.failed(
            UnavailableError(f"no answer in {tries} s"), 0.5, FailureStreak(tries, 0.5 * tries, 0.1)
        )
    written.log.failed(UnavailableError("no ovs-ofctl"), 0.5, FailureStreak(1001, 500.0, 0.1))
    written.log.reconciled(STATUS, 0.1, ())
    written.log.failed(UnavailableError("no answer in 1 s"), 0.5, FailureStreak(1, 0.5, 0.1))
    assert written.events[2:] == ["error failed", "error failed", "info reconciled", "error failed"]
    assert written.records[2]["error"] == "UnavailableError"
    over = written.records[4]
    assert (over["tries"], over["failing"], over["result"]) == (1001, 500.0, "unchanged")


def test_what_is_no_news_is_for_those_who_ask() -> None:
    for verbose, expected in (
        (False, ["info configured", "info reconciled", "info ended"]),
        (True, ["info configured", "debug happened", "debug changed", "debug changed",
                "debug changed", "info reconciled", "debug happened", "debug reconciled",
                "info ended"]),
    ):  # fmt: skip
        written = Written(verbose=verbose)
        written.log.event("start")
        written.log.reconciled(STATUS, 0.1, CHANGES)
        written.log.event("minute")
        written.log.reconciled(STATUS, 0.1, ())
        written.log.ended()
        assert written.events == expected


def test_warnings_and_refusals_are_written_when_they_are_new() -> None:
    written = Written()
    warned = Status("tenants", verified=True, problems=("the MTU is 1500",))
    for _ in range(3):
        written.log.reconciled(warned, 0.1, ())
        written.log.refused(ConfigurationError("no"))
    assert written.events == [
        "info configured",
        "info reconciled",
        "warning problem",
        "error refused",
    ]


def test_in_the_journal_a_line_has_a_priority_and_no_time(tmp_path: Path) -> None:
    record = Record("warning", {"level": "warning", "event": "problem"}, None)
    assert line(record, form="keys", journal=True) == "<4>level=warning event=problem"
    assert line(record, form="json", journal=True) == '<4>{"level": "warning", "event": "problem"}'
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream, named)
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{found.st_dev}:0"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), named)


@pytest.mark.parametrize("form", ["keys", "json"])
@given(message=st.text())
def test_whatever_is_said_is_one_line_that_can_be_read_back(form: Format, message: str) -> None:
    fields = {"level": "error", "event": "failed", "message": message}
    text = line(Record("error", fields, None), form=form)
    assert text.isprintable()
    if form == "json":
        assert json.loads(text)["message"] == message
    else:
        value = text.partition("message=")[2]
        assert (json.loads(value) if value.startswith('"') else value) == message


def test_keys_are_read_by_the_shells_words() -> None:
    fields = {"level": "info", "event": "path", "cause": "it goes to lo"}
    text = line(Record("info", fields, None), form="keys")
    assert shlex.split(text)[-1] == "cause=it goes to lo"


# Text


def text_log(*, verbose: bool = False) -> tuple[Log, list[str]]:
    lines: list[str] = []
    log = Log(for_people(lines.append), verbose=verbose)
    log.configured(WANTED)
    return log, lines


def test_the_text_has_what_was_done_and_each_failure_once() -> None:
    """Each message is logged once a streak, ignoring digits, and again in the next streak."""
    log, lines = text_log()
    log.reconciled(STATUS, 0.1, ())
    for tries in range(1, 5):
        error = UnavailableError(f"process {tries} does not answer")
        log.failed(error, 0.1, FailureStreak(tries, 12.3, 0.1))
    log.failed(UnavailableError("there is no device eth0"), 0.1, FailureStreak(5, 12.3, 12.0))
    log.waiting(1.0)
    log.reconciled(STATUS, 0.1, CHANGES[:1])
    log.failed(UnavailableError("process 7 does not answer"), 0.1, FailureStreak(1, 0.1, 0.1))
    log.reconciled(STATUS, 0.1, ())
    log.ended()
    first = "does not answer (trying again in 0.1 s, then more slowly)"
    assert "\n".join(lines).splitlines() == [
        "overlay tenants: 0 segments wanted",
        "overlay tenants: applied and verified",
        f"overlay tenants: process 1 {first}",
        "overlay tenants: there is no device eth0 (trying again in 12 s, then more slowly)",
        f"overlay tenants: put back {CHANGES[0]}",
        "overlay tenants: recovered after 5 attempts in 12 s",
        f"overlay tenants: process 7 {first}",
        "overlay tenants: recovered after 1 attempt in 0.1 s",
        "overlay tenants: the agent ends, the overlay runs on",
    ]


def test_the_verbose_text_has_events_reconciles_and_idle_times() -> None:
    """One line per event and reconcile, failed ones included; idle once for each deadline."""
    log, lines = text_log(verbose=True)
    log.event("start")
    log.reconciled(STATUS, 0.1, CHANGES * 4)
    log.waiting(1.0)
    log.waiting(1.0)
    log.failed(UnavailableError("no"), 0.25, FailureStreak(1, 0.25, 0.1))
    listed = "; ".join(map(str, CHANGES * 4))
    assert "\n".join(lines[1:]).splitlines() == [
        "event: start",
        "reconcile: 12 changes in 0.100 s",
        f"overlay tenants: changed {listed}",
        "overlay tenants: applied and verified",
        "idle",
        "reconcile: failed in 0.250 s, next try in 0.1 s",
        "overlay tenants: no (trying again in 0.1 s, then more slowly)",
    ]


def test_many_changes_are_a_number_in_the_text() -> None:
    log, lines = text_log()
    log.reconciled(STATUS, 0.1, CHANGES * 4)
    assert lines[1].startswith("overlay tenants: changed 12 things\n")


def test_messages_without_end_are_cut() -> None:
    """The number of different messages in a streak is bounded."""
    messages = FailureMessages()
    new = [messages.is_new("x" * length) for length in range(1, 1000)]
    assert 1 < sum(new) <= 100
    messages.clear()
    assert messages.is_new("x" * 1000)
