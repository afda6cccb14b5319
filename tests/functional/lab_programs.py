"""`python -m ovs_mcast.lab` run by tests, as a process and in this one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

from typer.testing import CliRunner

from ovs_mcast.cli.app import add_command, application
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_EXPERIMENTAL, ethernet
from ovs_mcast.lab import command as lab_command

LAB_COMMAND = (sys.executable, "-m", "ovs_mcast.lab")
CHECKOUT = Path(__file__).resolve().parents[2]


def hello(source: str, destination: str = BROADCAST) -> bytes:
    return ethernet(destination, source, ETHERTYPE_EXPERIMENTAL, b"hello")


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold in time."""
    end = time.monotonic() + seconds
    while not (answer := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def run_lab(*arguments: str) -> CompletedProcess[str]:
    return subprocess.run(
        [*LAB_COMMAND, *arguments], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )


def invoke(*arguments: str) -> CompletedProcess[str]:
    """The command in this process, so that a test can take something away from it."""
    app = application()
    add_command(app, lab_command.lab)
    with signals_restored():
        result = CliRunner().invoke(app, list(arguments))
    return CompletedProcess(list(arguments), result.exit_code, result.stdout, result.stderr)


@contextmanager
def signals_restored() -> Iterator[None]:
    """Restore the handlers that the command sets in this process."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
