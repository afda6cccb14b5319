"""The plugin of pytest in the virtual machine: what runs, and what is told of it, a line each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.seen import seen_on

_EVENTS = 3  # the file descriptor that guest.sh gave


def tell(**event: Any) -> None:
    """One event, at once."""
    os.write(_EVENTS, f"{json.dumps(event)}\n".encode())


def pytest_sessionstart() -> None:
    tell(machine=seen_on("system"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Exactly the tests that the host wants, in its order."""
    wanted = json.loads(Path(os.environ["OVS_MCAST_TESTS"]).read_text(encoding="utf-8"))
    found = {item.nodeid: item for item in items}
    items[:] = [found[name] for name in wanted if name in found]


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
    tell(exit=int(exitstatus))
