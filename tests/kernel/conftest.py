"""The tests of this directory run in a virtual machine, each a test here with its own outcome.

They are the tests for either datapath of tests/functional (test_functional.py stands for them), and
those that are only here. One machine is booted for all that are selected, or with pytest -n two. In
there, and wherever the kernel has openvswitch.ko, `pytest --datapath system` runs them as they are.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.kernel.virtual_machine import (
    NEEDS,
    TOP,
    Event,
    MachineError,
    VirtualMachine,
    compiled_code,
    seconds_since,
)
from tests.scopes import scope

_STAND_IN = "test_functional.py"
_MACHINE = pytest.StashKey["Guest"]()
_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """On the host a module of this directory has the tests that the machine has of it."""
    if parent.config.getoption("--datapath") == "system":
        return None
    made: GuestModule = GuestModule.from_parent(parent, path=module_path)
    return made


class GuestModule(pytest.File):
    """A module whose tests run in the virtual machine."""

    def collect(self) -> Iterator[GuestTest]:
        own = self.path.relative_to(TOP).as_posix()
        for name in _collected():
            module, _, rest = name.partition("::")
            if module == own:
                yield GuestTest.of(self, rest, name)
            elif self.path.name == _STAND_IN and module.startswith("tests/functional/"):
                yield GuestTest.of(self, f"{Path(module).stem}::{rest}", name)


class GuestTest(pytest.Item):
    """A test of the virtual machine, which reports its outcome."""

    guest_name: str

    @classmethod
    def of(cls, parent: GuestModule, name: str, guest_name: str) -> Self:
        test: Self = cls.from_parent(parent, name=name)
        test.guest_name = guest_name
        test.add_marker(pytest.mark.needs(*NEEDS))
        # The machine has limits of its own, and the first test waits for it to boot.
        test.add_marker(pytest.mark.timeout(0))
        return test

    def runtest(self) -> None:
        guest = guest_of(self)
        reports = guest.reports(self.guest_name)
        machine = ("machine", f"{guest.seen_on}; up after {guest.booted_in}")
        for report in reports:
            for title, text in report["sections"]:
                self.add_report_section(report["when"], title.removeprefix("Captured "), text)
            # Each report has those of the reports before it, too.
            told = [(name, value) for name, value in report["properties"]]
            self.user_properties[:] = [machine, *told]
            if report["outcome"] != "passed":
                raise GuestFailedError(f"in the machine, {report['when']}:\n{report['text']}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> str:
        if isinstance(excinfo.value, GuestFailedError | MachineError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class GuestFailedError(Exception):
    """A test failed in the virtual machine; the message is its report."""


class Guest:
    """The virtual machine, from the first test on, and its reports."""

    def __init__(self, tests: list[str], here: str) -> None:
        self.here = here
        self._tests = tests
        self._events: Iterator[Event] | None = None
        self._machine: VirtualMachine | None = None
        self._told: dict[str, list[Event]] = {}
        self._failure = ""
        self._begun = time.monotonic()
        self.seen_on = ""
        self.booted_in = ""

    def reports(self, test: str) -> list[Event]:
        """The reports of a test's setup, call and teardown, or of those that there were."""
        while not self._complete(test):
            self._hear(test)
        return self._told[test]

    def close(self) -> None:
        """End the machine."""
        if self._machine is not None:
            self._machine.close()

    def _complete(self, test: str) -> bool:
        return any(report["when"] == "teardown" for report in self._told.get(test, ()))

    def _hear(self, test: str) -> None:
        if self._failure:
            raise MachineError(f"it did not run: {self._failure}")
        try:
            event = self._next_event()
        except MachineError as error:
            self._failure = str(error).partition("\n")[0]
            raise
        if "up" in event:
            self.booted_in = seconds_since(self._begun)
        elif "machine" in event:
            self.seen_on = event["machine"]
        elif event.get("when") == "collect":
            self._failure = f"the machine cannot collect it: {event['text']}"
        elif "exit" in event and not self._complete(test):
            self._failure = "the machine's pytest ended without a word on it"
            assert self._machine is not None
            raise MachineError(self._machine.with_console(self._failure))
        elif "test" in event:
            self._told.setdefault(event["test"], []).append(event)

    def _next_event(self) -> Event:
        if self._events is None:
            self._machine = VirtualMachine(self._tests)
            self._events = self._machine.events()
        return next(self._events)


def guest_of(test: GuestTest) -> Guest:
    """The machine of a test, and of all others: with pytest -n of those of its scope."""
    session = test.session
    here = scope(test.nodeid) if _ONE_OF_SEVERAL else ""
    guest = session.stash.get(_MACHINE, None)
    if guest is not None and guest.here == here:
        return guest
    if guest is not None:
        guest.close()
    all_of_them = [other for other in session.items if isinstance(other, GuestTest)]
    tests = [other.guest_name for other in all_of_them if here in {"", scope(other.nodeid)}]
    guest = session.stash[_MACHINE] = Guest(tests, here)
    return guest


@functools.cache
def _collected() -> list[str]:
    """Return the tests for the kernel's datapath, by name; compile all that they import."""
    command = [
        sys.executable, "-m", "pytest", "--collect-only", "-q", "--datapath=system",
        "-p", "no:cacheprovider", "tests/functional", "tests/kernel",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=TOP, env=os.environ | compiled_code(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode not in {0, 5}:
        raise pytest.Collector.CollectError(done.stdout + done.stderr)
    return [line for line in done.stdout.splitlines() if "::" in line]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if guest := session.stash.get(_MACHINE, None):
        guest.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the machine's description, and the tables that its tests recorded."""
    told = [
        told
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        if report.nodeid.startswith("tests/kernel/")
        for told in report.user_properties
    ]
    if machines := dict.fromkeys(str(value) for name, value in told if name == "machine"):
        terminalreporter.section("the virtual machine")
        for machine in machines:
            terminalreporter.line(machine)
        for name, value in told:
            if name == "table":
                terminalreporter.line(f"\n{value}")
