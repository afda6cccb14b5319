"""Answers probes while the agent runs, in a process of its own, which ends with the agent.

So a reconcile delays no answer, and a responder that fails stops nothing. The program reads device
and groups from standard input, as JSON; the shared key is $OVS_MCAST_PROBE_KEY, if set.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..cli import output
from ..core.closeable import Closeable
from ..core.model import Overlay
from ..errors import OvsMcastError
from ..probe import respond

# In isolated mode Python takes no module from the current directory, where others may write.
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r}); "
    "from ovs_mcast.agent.responder import main; main()"
)
KEY_VARIABLE = "OVS_MCAST_PROBE_KEY"
_PR_SET_PDEATHSIG = 1
_START_INTERVAL = 5.0  # seconds between two starts
_TIMEOUT = 5.0  # seconds for the process to end after SIGTERM


class Responder(Closeable):
    """The process, which ``keep`` starts, and starts again where it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = b""
        self._not_before = 0.0

    def keep(self, overlay: Overlay) -> None:
        """Have a process run for this overlay; restart one that ended, but not at once."""
        groups = [str(group) for group in overlay.flood_groups]
        wanted = json.dumps({"device": overlay.underlay.device, "groups": groups}).encode()
        if wanted != self._wanted:
            self.close()
        running = self._process is not None and self._process.poll() is None
        if running or not groups or time.monotonic() < self._not_before:
            return
        self._wanted = wanted
        self._not_before = time.monotonic() + _START_INTERVAL
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # it reports why it ended
            stdin.write(wanted)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._not_before = 0.0
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Answer until SIGTERM, which the kernel sends, too, when the agent's thread ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        return
    wanted = json.load(sys.stdin)
    key = os.environ.get(KEY_VARIABLE)
    try:
        respond(wanted["device"], wanted["groups"], key=key.encode() if key else None)
    except OvsMcastError as error:
        output.say(f"cannot answer probes: {error}")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
