"""Select the datapath under test, and skip or fail tests by what the machine lacks.

A test whose machine lacks something says so and is skipped; in CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import interrupts
from tests.functional.warm import Warm
from tests.scopes import scope
from tests.seen import seen_on

if TYPE_CHECKING:
    from ovs_mcast.lab import Kind

IN_CI = bool(os.environ.get("CI"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--datapath",
        choices=("netdev", "system"),
        default="netdev",
        help="Open vSwitch's datapath under test: in userspace, or the kernel's (needs its module)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """End a run whose worker crashed, and let SIGINT end the programs that tests start.

    pytest-timeout ends a worker that is stuck (method thread). xdist's LoadScopeScheduling then
    gives the same test to the next one, or waits without end (seen with xdist 3.8).
    """
    if getattr(config.option, "maxworkerrestart", "") is None:
        config.option.maxworkerrestart = "0"
    if interrupts.are_ignored() or getattr(config, "workerinput", {}).get("survives_sigint"):
        interrupts.survive()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With pytest -n: a worker, which is such a program, ignores SIGINT as the suite does."""
    node.workerinput["survives_sigint"] = interrupts.are_ignored()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the kernel's datapath keep the tests that are for both, less what names the other one."""
    if config.getoption("--datapath") == "system":
        kept = [item for item in items if _runs_on_either(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With pytest -n: what shares labs, or a machine of tests/kernel, runs in one process."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not where there is one alone

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Together(config, log)


def _runs_on_either(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    named = callspec.params.values() if callspec else ()
    return item.get_closest_marker("either_datapath") is not None and "netdev" not in named


@pytest.fixture(scope="session")
def kind(pytestconfig: pytest.Config) -> Kind:
    """Return the kind of host under test, by --datapath."""
    return "kernel" if pytestconfig.getoption("--datapath") == "system" else "netdev"


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """The process that runs of setup are forked from."""
    server = Warm()
    yield server
    server.close()


def pytest_report_header(config: pytest.Config) -> str:
    """Report the machine and the versions under test."""
    return f"seen on: {seen_on(config.getoption('--datapath'))}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose `needs` marker names something that this machine lacks."""
    needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in dict.fromkeys(needed) if not _present(name)]
    if missing:
        pytest.skip("missing here: " + ", ".join(missing))


def _present(name: str) -> bool:
    # What pip installed is beside this Python, in PATH or not.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return os.geteuid() == 0 if name == "root" else shutil.which(name, path=path) is not None


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
