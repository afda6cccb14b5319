"""Answers probes for as long as the agent runs: a process of its own, which ends with it.

So a reconcile delays no answer, and a responder that fails stops nothing. As a program it is told
by standard input: device and groups as JSON; the shared key is $OVS_MCAST_PROBE_KEY, if set.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..cli import output
from ..core.closeable import Closeable
from ..core.model import Overlay
from ..errors import OvsMcastError
from ..probe import respond

KEY_VARIABLE = "OVS_MCAST_PROBE_KEY"
_PR_SET_PDEATHSIG = 1
_APART = 5.0  # seconds between two starts
_PATIENCE = 5.0


class Responder(Closeable):
    """The process, started by ``keep``, and once more where it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._told = b""
        self._not_before = 0.0

    def keep(self, overlay: Overlay) -> None:
        """Let one run for this overlay; one that ended is started again, not at once."""
        groups = [str(group) for group in overlay.flood_groups]
        told = json.dumps({"device": overlay.underlay.device, "groups": groups}).encode()
        if told != self._told:
            self.close()
        running = self._process is not None and self._process.poll() is None
        if running or not groups or time.monotonic() < self._not_before:
            return
        self._told = told
        self._not_before = time.monotonic() + _APART
        package = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ovs_mcast.agent.responder", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": package},
        )
        assert self._process.stdin is not None
        with self._process.stdin as given:
            try:
                given.write(told)
            except BrokenPipeError:  # it says itself why it ended
                return

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        self._not_before = 0.0
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Answer until SIGTERM, which comes too when the agent's own thread ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        return
    wanted = json.load(sys.stdin)
    key = os.environ.get(KEY_VARIABLE)
    try:
        respond(wanted["device"], wanted["groups"], key=key.encode() if key else None)
    except OvsMcastError as error:
        output.say(f"probes are not answered: {error}")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
