"""An agent's own loop on a machine in memory, driven through steps."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ovs_mcast.agent.announcer import Announcement
from ovs_mcast.agent.config_file import ConfigFile
from ovs_mcast.agent.loop import Agent
from ovs_mcast.agent.observer import FailureStreak, Kind, Observer
from ovs_mcast.agent.scheduler import Timings
from ovs_mcast.core.changes import Change
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.status import Status
from ovs_mcast.errors import ConfigurationError, OvsMcastError
from ovs_mcast.probe import SendPath
from ovs_mcast.testing import FakeHost

ONE, TWO, THREE = (f"239.0.0.{number}" for number in (1, 2, 3))
RESYNC = 20.0  # seconds; a test that waits for it has failed
Step = Callable[[], None]


class Driver(Observer):
    """Takes the next step each time the agent is idle and its last step was reconciled.

    ``own_events`` waits, too, for the reconcile that the events of the agent's own changes bring.
    After the last step it ends the agent by SIGTERM; ``refused`` configurations count, too.
    ``step_kinds`` has the kinds of the events that followed each step.
    """

    def __init__(self, *steps: Step, own_events: bool = False) -> None:
        self._steps, self._own_events = list(steps), own_events
        self._changed = self._settled = False
        self.kinds: list[Kind] = []
        self.step_kinds: list[set[Kind]] = []
        self.repairs: list[tuple[str, ...]] = []
        self.errors: list[str] = []
        self.paths: list[str] = []
        self.announcements: list[Announcement] = []
        self.refusals: list[str] = []
        self.has_ended = False

    def event(self, kind: Kind) -> None:
        self.kinds.append(kind)
        if self.step_kinds:
            self.step_kinds[-1].add(kind)
        if kind == "minute":  # no event came: end, and fail in run()
            signal.raise_signal(signal.SIGTERM)

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        if changes:
            self.repairs.append(tuple(f"{one.action} {one.kind}" for one in changes))
        if self._own_events:
            self._settled |= self._changed and not changes
        else:
            self._settled |= bool(changes)
        self._changed = bool(changes)

    def failed(self, error: OvsMcastError, seconds: float, streak: FailureStreak) -> None:
        self.errors.append(str(error))
        self._settled = False

    def refused(self, error: ConfigurationError) -> None:
        self.refusals.append(str(error))
        self._settled = True

    def announced(self, announcement: Announcement) -> None:
        self.announcements.append(announcement)
        self._settled = True

    def path(self, result: SendPath) -> None:
        self.paths.append(result.verdict)

    def waiting(self, until: float) -> None:
        if not self._settled or until - time.monotonic() < RESYNC / 2:
            return
        self._settled = False
        if self._steps:
            self.step_kinds.append(set())
            self._steps.pop(0)()
        else:
            signal.raise_signal(signal.SIGTERM)

    def ended(self) -> None:
        self.has_ended = True


class Machine:
    """A host in memory, and the configuration of its agent."""

    def __init__(self, host: FakeHost, path: Path, datapath: str, device: str = "") -> None:
        self.host, self._path, self._datapath = host, path, datapath
        self._device = device or host.device
        self.configure(ONE, TWO)

    def configure(self, *groups: str) -> None:
        """Write the configuration as an editor does: another file, renamed."""
        segments = [{"vni": 100 + n, "group": group} for n, group in enumerate(groups)]
        wanted = {
            "underlay": {"device": self._device},
            "datapath": self._datapath,
            "membership": "socket",
            "segments": segments,
        }
        self.write(json.dumps(wanted))

    def write(self, text: str) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(text)
        fresh.rename(self._path)

    def wanted(self) -> Overlay:
        with ConfigFile(self._path) as config:
            return config.read()

    def run(self, *steps: Step, own_events: bool = False) -> Driver:
        """Run an agent through steps, to its end; after that nothing is left to repair."""
        driver = Driver(*steps, own_events=own_events)
        with ConfigFile(self._path) as config:
            overlay = config.read()
            platform = self.host.platform()
            timings = Timings(resync=RESYNC)
            with Agent(config, overlay, [driver], platform, timings=timings) as agent:
                agent.run()
        assert "minute" not in driver.kinds, str(vars(driver))
        assert driver.has_ended
        return driver
