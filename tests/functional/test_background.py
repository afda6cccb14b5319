"""The tests of Ctrl-C in a suite that runs in the background, with SIGINT ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ended

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

_TOP = Path(__file__).parents[2]
_IN_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
_TESTS = (
    "test_lab_leaves_nothing.py::test_nothing_is_left_after_a_signal[kept-SIGINT]",
    "test_probe_respond.py::test_a_responder_ends_in_order[SIGINT]",
    "test_status.py::test_watch_redraws_in_place_with_rates_and_ends_with_ctrl_c",
    "test_agent_life.py::test_it_ends_in_order",
)


@pytest.mark.parametrize(("workers", "names"), [("0", _TESTS), ("1", _TESTS[1:2])])
def test_the_tests_of_ctrl_c_pass_in_the_background(workers: str, names: tuple[str, ...]) -> None:
    """SIGINT ends each command that they start; the suite is sent it, too, and goes on.

    Its group is not: a program that the suite is starting has the default handler a moment before
    its own session (CPython's child_exec), and SIGINT then ends it, 56 of 300 when sent in a loop.

    sh (SIGINT ignored) ─ pytest, in one process or with a worker ─ lab, probe, status, agent
    """
    tests = [f"tests/functional/{name}" for name in names]
    command = (*_IN_BACKGROUND, sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider",
               f"-n{workers}", "--timeout=60", *tests)  # fmt: skip
    suite = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=_TOP,
    )
    with ended(suite):
        assert suite.stdout is not None
        said, interrupted = "", False
        while line := suite.stdout.readline():
            said += line
            if "test_" in line and not interrupted:
                started = _children(suite.pid)[: int(workers)]
                assert len(started) == int(workers)
                for process in (suite.pid, *started):
                    os.kill(process, signal.SIGINT)
                interrupted = True
        assert suite.wait() == 0, said
    assert interrupted
    assert " passed" in said
    assert "skipped" not in said


def _children(process: int) -> list[int]:
    """Return the processes that the main thread has started, the oldest first: workers lead."""
    shown = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(one) for one in shown.split()]
