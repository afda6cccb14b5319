"""The suite may run in the background, and ends every process that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from select import select
from subprocess import Popen

import pytest

from tests.processes import ended

_TOP = Path(__file__).parents[2]
_IGNORED = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
_CHILD = ("sh", "-c", "kill -INT $$; echo survived")
_SUITE = """
import os, signal, subprocess, sys
from tests import interrupts
assert interrupts.are_ignored()
interrupts.survive()
assert interrupts.are_ignored()
os.kill(os.getpid(), signal.SIGINT)
sys.exit(-subprocess.run(sys.argv[1:]).returncode)
"""


def test_sigint_ends_a_program_of_a_suite_that_survives_it() -> None:
    """Both are sent SIGINT, which is ignored when the suite starts: the program alone ends."""
    command = (*_IGNORED, sys.executable, "-c", _SUITE, *_CHILD)
    done = subprocess.run(command, capture_output=True, text=True, cwd=_TOP, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (signal.SIGINT, "", "")


def test_in_the_foreground_nothing_is_ignored() -> None:
    """A suite that is started as usual can be interrupted."""
    check = "from tests import interrupts; assert not interrupts.are_ignored()"
    command = ("env", "--default-signal=INT", sys.executable, "-c", check)
    assert subprocess.run(command, cwd=_TOP, check=False).returncode == 0


def fail_in(process: Popen[bytes]) -> None:
    with ended(process):
        raise TimeoutError


def test_a_test_that_fails_ends_its_process() -> None:
    """By kill -9, with the children that it has, and at once."""
    command = ("sh", "-c", "sleep 600 & echo $!; wait")
    process = Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    with os.fdopen(os.pidfd_open(child)) as end:
        with pytest.raises(TimeoutError):
            fail_in(process)
        assert process.returncode == -signal.SIGKILL
        # A descriptor of a process can be read from once it has ended (pidfd_open(2)).
        assert select([end], [], [], 5)[0]
