"""Who repairs: the agent, or a run of setup after each fault, as the agent would reconcile."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Protocol

import ovs_mcast
from ovs_mcast.lab.namespace import patient
from tests.functional.agents import PROGRAM
from tests.functional.campaign.site import Site
from tests.functional.warm import Run, Warm
from tests.functional.wire import eventually

_PATIENCE = patient(20)
_PACKAGE = Path(ovs_mcast.__file__).resolve().parents[1]


class Repairer(Protocol):
    """Keeps one site's overlay in place."""

    def start(self) -> None:
        """Begin; the overlay need not be there yet."""

    def repair(self, end: float) -> list[str]:
        """A fault has happened: what went wrong until ``end`` (time.monotonic) at the latest."""

    def kill(self, rng: Random) -> None:
        """Kill -9 at a moment when the repairer may be applying, then start it again."""

    def close(self) -> None:
        """End in order; the overlay stays."""


def _takes(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        caught = re.search(r"(?m)^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
        return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
    return False


def _meanwhile(rng: Random) -> None:
    """A part of the time that a repair takes, so that it is killed at any point of it."""
    time.sleep(patient(rng.uniform(0, 0.25)))


class Setup:
    """A run of setup after each fault. One must do; only a run that was refused is run again."""

    def __init__(self, site: Site, configuration: Path, warm: Warm) -> None:
        self._site, self._warm = site, warm
        self._arguments = ("--config", str(configuration))

    def __str__(self) -> str:
        return str(self._site)

    def is_built(self) -> bool:
        """Return whether setup finds nothing to change, and verifies."""
        return self._warm.setup(self._site.host, *self._arguments, "--dry-run").status == 0

    def start(self) -> None:
        """Build the overlay."""
        result = self._run().wait()
        assert result.status == 0, f"{self._site}: {result.stderr}"

    def repair(self, end: float) -> list[str]:
        """One run, which must succeed."""
        result = self._run().wait()
        return [] if result.status == 0 else [f"setup: status {result.status}: {result.stderr}"]

    def kill(self, rng: Random) -> None:
        """A run, killed; the next one is `repair`."""
        run = self._run()
        _meanwhile(rng)
        run.kill()
        run.wait()

    def close(self) -> None:
        """Nothing runs."""

    def _run(self) -> Run:
        return self._warm.start(self._site.host, *self._arguments)


class Started:
    """A process of `python -m ovs_mcast.agent`, as systemd would start it."""

    def __init__(self, site: Site, configuration: Path) -> None:
        self._log = configuration.with_suffix(".log")
        command = f"exec {sys.executable} -m ovs_mcast.agent --config {configuration}"
        self._process = site.host.popen(
            "sh", "-c", f"{command} >>{self._log} 2>&1", env={"PYTHONPATH": str(_PACKAGE)}
        )

    @property
    def pid(self) -> int:
        """The agent's process id, as seen from outside."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        assert eventually(lambda: children.read_text() != "", seconds=20), "nsenter has no child"
        return int(children.read_text().split()[0])

    def said(self) -> str:
        """Return the log of this agent and of those before it."""
        return self._log.read_text()

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill -9."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def status(self) -> int:
        """Wait for its end: the exit status, or minus the signal."""
        with self._process:
            return self._process.wait(_PATIENCE)


class Forked:
    """The same, forked from a process that has imported it, which in emulation takes a minute."""

    def __init__(self, site: Site, configuration: Path, warm: Warm) -> None:
        self._run = warm.start(site.host, "--config", str(configuration), program=PROGRAM)
        self.pid, self.said, self.kill = self._run.pid, self._run.said, self._run.kill
        self.has_ended = self._run.has_ended

    def status(self) -> int:
        """Wait for its end: the exit status, or minus the signal."""
        return self._run.wait().status


class Agent:
    """`python -m ovs_mcast.agent`, started again when it was killed."""

    def __init__(self, site: Site, configuration: Path, warm: Warm | None = None) -> None:
        self._site, self._configuration, self._warm = site, configuration, warm
        self._process: Started | Forked | None = None

    def start(self) -> None:
        """Start the process."""
        if self._warm is None:
            self._process = Started(self._site, self._configuration)
        else:
            self._process = Forked(self._site, self._configuration, self._warm)

    @property
    def process(self) -> Started | Forked:
        """The one that runs, or ran last."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The agent's process id, as seen from outside."""
        return self.process.pid

    def reload(self) -> None:
        """SIGHUP: read the configuration again."""
        self._send(signal.SIGHUP)

    def said(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.process.said().splitlines()[-lines:])

    def repair(self, end: float) -> list[str]:
        """It acts by itself; it must be alive."""
        return [f"the agent has ended:\n{self.said()}"] if self.process.has_ended() else []

    def kill(self, rng: Random) -> None:
        """Kill it, and start another."""
        _meanwhile(rng)
        self.process.kill()
        self.process.status()
        self.start()

    def close(self) -> None:
        """SIGTERM; it must end with 0 and leave the overlay."""
        self._send(signal.SIGTERM)
        said = self.said()
        status = self.process.status()
        assert status == 0, f"{self._site}: the agent ended with {status}:\n{said}"

    def _send(self, number: int) -> None:
        """Send a signal that it takes; one that was just started imports for a second before."""
        assert eventually(
            lambda: self.process.has_ended() or _takes(self.pid, number), seconds=20
        ), f"{self._site}: it never takes signal {number}:\n{self.said()}"
        if not self.process.has_ended():
            os.kill(self.pid, number)
