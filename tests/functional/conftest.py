"""Shared by the functional tests: an empty lab, and an overlay that several tests use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import count

import pytest

from ovs_mcast.lab import Kind, Lab

from .daemon_logs import last_words
from .warm import Warm
from .wire import Overlay, lab_scope


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test the last log lines of the daemons of its hosts."""
    report = yield
    if report.failed and report.when == "call":
        report.sections += last_words(item.funcargs.values())
    return report


@pytest.fixture
def lab(kind: Kind) -> Iterator[Lab]:
    """A lab of one test, with nothing but the switch."""
    with Lab(kind=kind) as lab:
        yield lab


@pytest.fixture(scope=lab_scope)
def overlay(kind: Kind, warm: Warm) -> Iterator[Overlay]:
    """An overlay that tests share; each leaves its state unchanged."""
    with Lab(kind=kind) as lab:
        yield Overlay(lab, warm)


_NUMBERS = count(1)


@pytest.fixture
def mac() -> str:
    """An Ethernet address that no other test uses."""
    number = next(_NUMBERS)
    return f"02:cc:00:00:{number >> 8:02x}:{number & 0xFF:02x}"
