"""A plugin of pytest: the tables that tests of tests/functional recorded, in the terminal summary.

A test records one by `record_property("table", text)`; tests/kernel shows those of its machine.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show them."""
    reports = [
        report
        for one_outcome in terminalreporter.stats.values()
        for report in one_outcome
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    tables = [
        str(value)
        for report in reports
        if report.nodeid.startswith("tests/functional/")
        for name, value in report.user_properties
        if name == "table"
    ]
    if tables:
        terminalreporter.section("faults and repairs")
        terminalreporter.line("\n\n".join(tables))
