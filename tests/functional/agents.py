"""An agent on a host of the lab, what it said, and whether the overlay is as it is to be."""

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
        """All that it said on stderr."""
        return self._run.said()

    def count(self, pattern: str) -> int:
        """How often it said something."""
        return len(re.findall(pattern, self.said()))

    def looks(self) -> int:
        """How many times it looked."""
        return self.count(r"(?m)^look: ")

    def waits_for(self, pattern: str, times: int = 1) -> None:
        """Wait until it has said something so many times."""
        assert eventually(lambda: self.count(pattern) >= times, seconds=30), self.said()

    def settles(self) -> None:
        """Wait until all is as wanted, by what it says itself, and nothing more is done."""
        self.waits_for("as wanted, and seen to be")
        assert eventually(self._is_idle, seconds=30), self.said()
        self._read = len(self.said())

    def _is_idle(self) -> bool:
        """Whether it waits, and nothing has happened since the last look, nor since this was asked.

        Until it says that it waits it may look at the send path, and not hear what has happened.
        """
        before, self._before = self._before, self.said()
        lines = self._before.splitlines()
        heard = [line for line in lines if line[:5] in {"look:", "event"}]
        looked = bool(heard) and heard[-1].startswith("look:")
        return before == self._before and looked and lines[-1].startswith("waits")

    def puts_back(self, pattern: str = "put back|fine again", times: int = 1) -> None:
        """Wait until it has repaired something since the last call, and all is as wanted."""
        assert eventually(
            lambda: len(re.findall(pattern, self.said()[self._read :])) >= times, seconds=40
        ), self.said()
        assert eventually(self._is_idle, seconds=30), self.said()
        self._read = len(self.said())
        assert_true(self._node)

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
    """Setup finds nothing to change: everything is in place, and read back."""
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
    """Start an agent that says everything, with the configuration that is there."""
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
    """An agent that has built what it is to keep, and is ended by SIGTERM, with status 0."""
    write(node, text or configuration(node))
    agent = start(node, *options, env=env)
    agent.settles()
    yield agent
    ended = agent.ends()
    assert ended.status == 0, ended.stderr
