"""The plugin of pytest in the virtual machine: reports of the tests, a line each."""

from __future__ import annotations

import json
import os
import sys
import time
from threading import Event, Lock, Thread
from typing import Any

import pytest

from tests.seen import seen_on

_EVENTS = 3  # the file descriptor that guest.sh gave
_BEAT_SECONDS = 10.0
_writing = Lock()
_ended = Event()


def tell(**event: Any) -> None:
    """One event, at once."""
    left = f"{json.dumps(event)}\n".encode()
    with _writing:
        while left:  # the port takes 32 KiB at a time
            left = left[os.write(_EVENTS, left) :]


def pytest_sessionstart() -> None:
    tell(machine=seen_on("system"))
    Thread(target=_beat, daemon=True).start()


def _beat() -> None:
    """Report that the machine lives, however long a test takes; the test has its own limit."""
    while not _ended.wait(_BEAT_SECONDS):
        tell(beat=time.monotonic())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.passed:  # on the console, in case that this is the last that is heard
        print(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext}", file=sys.stderr)
    tell(
        test=report.nodeid,
        when=report.when,
        outcome=report.outcome,
        text=report.longreprtext,
        sections=report.sections,
        properties=report.user_properties,
        seconds=report.duration,
    )


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        tell(test="", when="collect", outcome="failed", text=report.longreprtext)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    _ended.set()
    tell(exit=int(exitstatus))
