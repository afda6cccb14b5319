"""A test whose machine lacks something says so and is skipped; in CI that is a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator

import pytest

IN_CI = bool(os.environ.get("CI"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose `needs` marker names something that this machine lacks."""
    needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in dict.fromkeys(needed) if not _present(name)]
    if missing:
        pytest.skip("missing here: " + ", ".join(missing))


def _present(name: str) -> bool:
    return os.geteuid() == 0 if name == "root" else shutil.which(name) is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test has failed: it would have tested nothing, unseen."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module."""
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


def _fail_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.skipped:
        place = report.longrepr  # (path, line, reason)
        reason = place[2] if isinstance(place, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"In CI nothing may be skipped. {reason}"
