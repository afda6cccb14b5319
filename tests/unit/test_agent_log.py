"""What the agent's log has for programs: one line an event, each failure once in a spell."""

from __future__ import annotations

import io
import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.agent.observer import Failing
from ovs_mcast.agent.records import Format, Records, is_journal, line
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Bridge
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.status import Status
from ovs_mcast.errors import ConfigurationError, UnavailableError

STATUS = Status("tenants", verified=True)
CHANGES = (
    Change("add", Bridge("br-a", "system"), "missing"),
    Change("add", Bridge("br-b", "system"), "missing"),
    Change("remove", Bridge("br-c", "system"), "not wanted"),
)


class Log:
    def __init__(self, *, form: Format = "json", verbose: bool = False) -> None:
        self._stream = io.StringIO()
        self.told: list[str] = []
        self.records = Records(
            self._stream, lambda: 1e9, self.told.append, form=form, verbose=verbose
        )
        self.records.configured(Overlay(name="tenants", underlay={"device": "eth0"}))

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()

    @property
    def written(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]

    @property
    def events(self) -> list[str]:
        return [f"{one['level']} {one['event']}" for one in self.written]


def test_a_record_has_a_time_and_what_was_done() -> None:
    log = Log()
    log.records.reconciled(STATUS, 0.12345, CHANGES)
    assert log.written[1] == {
        "time": "2001-09-09T01:46:40.000Z", "level": "info", "event": "reconciled",
        "overlay": "tenants", "result": "changed", "segments": 0, "seconds": 0.123,
        "changes": 3, "added": 2, "updated": 0, "removed": 1,
    }  # fmt: skip
    assert log.told == ["tenants: 0 segments as wanted"]


def test_the_same_as_keys_and_values() -> None:
    log = Log(form="keys")
    log.records.refused(ConfigurationError('"x" is no VLAN', field="segments.0.vlan"))
    assert log.lines[1] == (
        "time=2001-09-09T01:46:40.000Z level=error event=refused overlay=tenants "
        r'field=segments.0.vlan message="\"x\" is no VLAN"'
    )


def test_a_failure_is_written_once_in_a_spell() -> None:
    log = Log()
    log.records.reconciled(STATUS, 0.1, CHANGES)
    for tries in range(1, 1001):
        log.records.failed(
            UnavailableError(f"no answer in {tries} s"), 0.5, Failing(tries, 0.5 * tries, 0.1)
        )
    log.records.failed(UnavailableError("no ovs-ofctl"), 0.5, Failing(1001, 500.0, 0.1))
    log.records.reconciled(STATUS, 0.1, ())
    log.records.failed(UnavailableError("no answer in 1 s"), 0.5, Failing(1, 0.5, 0.1))
    assert log.events[2:] == ["error failed", "error failed", "info reconciled", "error failed"]
    assert log.written[2]["error"] == "UnavailableError"
    over = log.written[4]
    assert (over["tries"], over["failing"], over["result"]) == (1001, 500.0, "unchanged")


def test_what_is_no_news_is_for_those_who_ask() -> None:
    for verbose, expected in (
        (False, ["info configured", "info reconciled", "info ended"]),
        (True, ["info configured", "debug happened", "debug changed", "debug changed",
                "debug changed", "info reconciled", "debug happened", "debug reconciled",
                "info ended"]),
    ):  # fmt: skip
        log = Log(verbose=verbose)
        log.records.event("start")
        log.records.reconciled(STATUS, 0.1, CHANGES)
        log.records.event("minute")
        log.records.reconciled(STATUS, 0.1, ())
        log.records.ended()
        assert log.events == expected


def test_warnings_and_refusals_are_written_when_they_are_new() -> None:
    log = Log()
    warned = Status("tenants", verified=True, problems=("the MTU is 1500",))
    for _ in range(3):
        log.records.reconciled(warned, 0.1, ())
        log.records.refused(ConfigurationError("no"))
    assert log.events == ["info configured", "info reconciled", "warning problem", "error refused"]


def test_in_the_journal_a_line_has_a_priority_and_no_time(tmp_path: Path) -> None:
    fields = {"level": "warning", "event": "problem"}
    assert line(fields, form="keys", journal=True) == "<4>level=warning event=problem"
    assert line(fields, form="json", journal=True) == '<4>{"level": "warning", "event": "problem"}'
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
    text = line({"level": "error", "event": "failed", "message": message}, form=form)
    assert len(text.split("\n")) == 1
    if form == "json":
        assert json.loads(text)["message"] == message
    else:
        value = text.partition("message=")[2]
        assert (json.loads(value) if value.startswith('"') else value) == message


def test_keys_are_read_by_the_shells_words() -> None:
    text = line({"level": "info", "event": "path", "cause": "it goes to lo"}, form="keys")
    assert shlex.split(text)[-1] == "cause=it goes to lo"
