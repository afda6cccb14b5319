"""A plugin of pytest: what the campaign and the soak have to report, in the terminal summary."""

from __future__ import annotations

import pytest

from tests.functional.campaign.results import REPORTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the tests reported."""
    if REPORTS:
        terminalreporter.section("faults and repairs")
        for line in REPORTS:
            terminalreporter.line(line)
