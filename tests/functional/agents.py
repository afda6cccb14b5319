"""An agent on a host of the lab, its log, and whether the overlay is applied."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.functional.node import Node
from tests.functional.warm import Result, Run
from tests.functional.wire import eventually

CONFIG = "/run/overlay.yml"
PROGRAM = "tests.functional.agent_program:run"
DEFECTIVE = f"{PROGRAM}_with_a_defect"
TWO = ({"vni": 100, "group": "239.0.0.1"}, {"vni": 101, "group": "239.0.0.2"})


def configuration(node: Node, *segments: Mapping[str, object], **others: object) -> str:
    """A configuration for a host: two segments in socket memberships, unless others are named."""
    wanted: dict[str, Any] = {
        "datapath": node.host.datapath,
        "membership": "socket",
        "underlay": {"device": node.host.underlay},
        "segments": list(segments or TWO),
        **others,
    }
    return json.dumps(wanted)


class Agent:
    """One that runs; ``pid`` is seen from outside of its host."""

    def __init__(self, node: Node, run: Run) -> None:
        self._node, self._run, self._read = node, run, 0
        self._before, self._ended = "", False
        self.pid = run.pid

    def said(self) -> str:
        """Return its stderr."""
        return self._run.said()

    def count(self, pattern: str) -> int:
        """Return how often a pattern is in its stderr."""
        return len(re.findall(pattern, self.said()))

    def reconciles(self) -> int:
        """Return how many times it reconciled."""
        return self.count(r"(?m)^reconcile: ")

    def waits_for(self, pattern: str, times: int = 1) -> None:
        """Wait until a pattern is there so many times."""
        assert eventually(lambda: self.count(pattern) >= times, seconds=30), self.said()

    def settles(self) -> None:
        """Wait until it reports that all is applied and verified, and is idle."""
        self.waits_for("applied and verified")
        assert eventually(self._is_idle, seconds=30), self.said()
        self._read = len(self.said())

    def _is_idle(self) -> bool:
        """True if it is idle, and nothing happened since the last reconcile or call.

        Until it logs `idle` it may measure the send path, and not read events. Reports that follow
        a change of the underlay's link come in idle time.
        """
        before, self._before = self._before, self.said()
        lines = [line for line in self._before.splitlines() if "reported again" not in line]
        heard = [line for line in lines if line.startswith(("reconcile:", "event:"))]
        reconciled = bool(heard) and heard[-1].startswith("reconcile:")
        return before == self._before and reconciled and lines[-1] == "idle"

    def puts_back(self, pattern: str = "put back|recovered", times: int = 1) -> set[str]:
        """Wait until it has repaired something since the last call, and all is verified.

        Returns the kinds of the events until then.
        """
        assert eventually(
            lambda: len(re.findall(pattern, self.said()[self._read :])) >= times, seconds=40
        ), self.said()
        assert eventually(self._is_idle, seconds=30), self.said()
        kinds = set(re.findall(r"(?m)^event: (\w+)", self.said()[self._read :]))
        self._read = len(self.said())
        assert_true(self._node)
        return kinds

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def ends(self, number: int = signal.SIGTERM) -> Result:
        """Send it a signal that ends it, and wait until it has ended."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End it by kill -9, unless it has ended."""
        if not self._ended:
            self._run.kill()
            self.wait()

    def wait(self) -> Result:
        """Wait until it has ended by itself."""
        self._ended = True
        return self._run.wait()


_STARTED: list[Agent] = []


def assert_true(node: Node) -> None:
    """Assert that setup finds nothing to change."""
    found = node.setup("--config", CONFIG, "--dry-run")
    assert (found.status, found.stdout and found.changes) == (0, []), found


def write(node: Node, text: str) -> None:
    """Write the configuration as an editor does: another file, renamed."""
    path = node.host.path(CONFIG)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.rename(path)


def start(
    node: Node, *options: str, env: Mapping[str, str] | None = None, program: str = PROGRAM
) -> Agent:
    """Start a verbose agent with the present configuration."""
    arguments = ("--config", CONFIG, "-v", *options)
    agent = Agent(node, node.start(*arguments, env=env, program=program))
    _STARTED.append(agent)
    return agent


def kill_all() -> None:
    """End the agents that a test has left."""
    while _STARTED:
        _STARTED.pop().kill()


@contextmanager
def running(
    node: Node, text: str = "", *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Agent]:
    """Start an agent, wait until it has built its overlay, and end it by SIGTERM with status 0."""
    write(node, text or configuration(node))
    agent = start(node, *options, env=env)
    agent.settles()
    yield agent
    ended = agent.ends()
    assert ended.status == 0, ended.stderr
