"""Processes that end with the test that has started them, whatever ends the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen
from typing import AnyStr


@contextmanager
def ended(process: Popen[AnyStr]) -> Iterator[Popen[AnyStr]]:
    """Kill the process, started in a session of its own, and its group unless it has ended.

    The context of Popen itself waits: a test that timed out would wait again, for ever.
    """
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
