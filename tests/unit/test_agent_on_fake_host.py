"""The agent's own loop on a machine in memory: events, not the resync, bring each repair."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_mcast.agent.config_file import ConfigFile
from ovs_mcast.agent.loop import Agent
from ovs_mcast.agent.observer import FailureStreak, Kind, Observer
from ovs_mcast.agent.scheduler import Timings
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.status import Status
from ovs_mcast.errors import ConfigurationError, OvsMcastError
from ovs_mcast.probe import SendPath
from ovs_mcast.testing import FakeHost, Happening, Link

ONE, TWO, THREE = (f"239.0.0.{number}" for number in (1, 2, 3))
RESYNC = 20.0  # seconds; a test that waits for it has failed
Step = Callable[[], None]


class Driver(Observer):
    """Takes the next step each time the agent is idle and its last step was reconciled.

    After the last step it ends the agent by SIGTERM; ``refused`` configurations count, too.
    """

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self._settled = False
        self.kinds: list[Kind] = []
        self.repairs: list[tuple[str, ...]] = []
        self.errors: list[str] = []
        self.paths: list[str] = []
        self.refusals: list[str] = []
        self.has_ended = False

    def event(self, kind: Kind) -> None:
        self.kinds.append(kind)
        if kind == "minute":  # no event came: end, and fail in run()
            signal.raise_signal(signal.SIGTERM)

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        if changes:
            self.repairs.append(tuple(f"{one.action} {one.kind}" for one in changes))
            self._settled = True

    def failed(self, error: OvsMcastError, seconds: float, streak: FailureStreak) -> None:
        self.errors.append(str(error))
        self._settled = False

    def refused(self, error: ConfigurationError) -> None:
        self.refusals.append(str(error))
        self._settled = True

    def path(self, result: SendPath) -> None:
        self.paths.append(result.verdict)

    def waiting(self, until: float) -> None:
        if not self._settled or until - time.monotonic() < RESYNC / 2:
            return
        self._settled = False
        if self._steps:
            self._steps.pop(0)()
        else:
            signal.raise_signal(signal.SIGTERM)

    def ended(self) -> None:
        self.has_ended = True


class Machine:
    """A host in memory, and the configuration of its agent."""

    def __init__(self, host: FakeHost, path: Path, datapath: str) -> None:
        self.host, self._path, self._datapath = host, path, datapath
        self.configure(ONE, TWO)

    def configure(self, *groups: str) -> None:
        """Write the configuration as an editor does: another file, renamed."""
        segments = [{"vni": 100 + n, "group": group} for n, group in enumerate(groups)]
        wanted = {
            "underlay": {"device": self.host.device},
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

    def run(self, *steps: Step) -> Driver:
        """Run an agent through steps, to its end; after that nothing is left to repair."""
        driver = Driver(*steps)
        with ConfigFile(self._path) as config:
            overlay = config.read()
            platform = self.host.platform()
            timings = Timings(resync=RESYNC)
            with Agent(config, overlay, [driver], platform, timings=timings) as agent:
                agent.run()
        assert "minute" not in driver.kinds, str(vars(driver))
        assert driver.has_ended
        return driver


@pytest.fixture(params=["system", "netdev"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    before = threading.enumerate()
    yield Machine(FakeHost(datapath=request.param), tmp_path / "overlay.json", request.param)
    assert threading.enumerate() == before


def test_it_builds_ends_and_hands_over(machine: Machine) -> None:
    """The first reconcile is immediate; after SIGTERM a process holds the groups."""
    driver = machine.run()
    assert driver.kinds[0] != "minute"
    assert len(driver.repairs) == 1
    assert machine.host.members == {ONE, TWO}
    assert driver.paths == ["wire"]
    assert not machine.host.plan(machine.wanted())
    assert machine.host.reconcile(machine.wanted()).changed is False


@pytest.mark.parametrize(
    ("happening", "kind"),
    [
        ("link-flap", "link"),
        ("route-deleted", "route"),
        ("flow-deleted", "flow"),
        ("flow-changed", "flow"),
        ("flows-deleted", "flow"),
        ("port-deleted", "ovsdb"),
        ("patch-deleted", "ovsdb"),
        ("bridge-deleted", "ovsdb"),
        ("vswitchd-restarts", "vswitchd"),
        ("underlay-replaced", "link"),
        ("keeper-killed", "membership"),
    ],
)
def test_an_event_brings_the_repair(machine: Machine, happening: Happening, kind: Kind) -> None:
    """The event is repaired long before the resync, twice in a row."""
    driver = machine.run(*(lambda: machine.host.happens(happening),) * 2)
    assert kind in driver.kinds
    assert len(driver.repairs) >= 3
    assert not machine.host.plan(machine.wanted())
    assert machine.host.members == {ONE, TWO}


def test_a_link_that_comes_up_is_measured(machine: Machine) -> None:
    """A flap brings one more datagram to see its path."""
    assert machine.run(lambda: machine.host.happens("link-flap")).paths == ["wire", "wire"]


def test_the_configuration_is_followed(machine: Machine) -> None:
    """A new file is applied, an invalid one refused; later events are those of the new overlay."""
    host = machine.host
    driver = machine.run(
        lambda: machine.configure(ONE, TWO, THREE),
        lambda: machine.write("{"),
        lambda: host.happens("flows-deleted"),
        lambda: machine.configure(THREE),
    )
    assert len(driver.refusals) == 1
    assert host.members == {THREE}
    assert {group for _, group in host.segments.values()} == {THREE}
    assert len(driver.repairs) == 4


def test_a_hangup_reads_the_configuration_again(machine: Machine) -> None:
    """SIGHUP makes the agent read the file at once."""

    def quietly() -> None:
        machine.configure(THREE)
        signal.raise_signal(signal.SIGHUP)

    driver = machine.run(quietly)
    assert "signal" in driver.kinds
    assert machine.host.members == {THREE}


def test_failures_end_with_their_cause(machine: Machine) -> None:
    """Without ovs-vswitchd it retries; once ovs-vswitchd answers, the overlay is repaired."""
    host = machine.host

    def away() -> None:
        host.fault("vswitchd-away", times=3)
        host.happens("flows-deleted")

    driver = machine.run(away)
    assert driver.errors
    assert "retry" in driver.kinds
    assert not host.plan(machine.wanted())


@pytest.mark.parametrize("machine", ["system"], indirect=True)
def test_what_is_not_ours_brings_nothing(machine: Machine) -> None:
    """Another device's addresses bring no event; ours do."""
    host = machine.host
    other = Address("lo", "10.9.9.9", 32)

    def others() -> None:
        host.put(other)
        host.take(other)
        host.happens("route-deleted")

    driver = machine.run(others)
    assert "address" not in driver.kinds
    assert len(driver.repairs) == 2


def test_a_setup_meanwhile_is_undone(machine: Machine) -> None:
    """Another run with other segments, which takes over the groups: the agent takes them back."""
    host = machine.host
    wanted = machine.wanted()

    def setup() -> None:
        host.reconcile(wanted.replace(segments=wanted.segments[:1]))

    driver = machine.run(setup)
    assert len(driver.repairs) >= 2
    assert host.members == {ONE, TWO}
    assert not host.plan(wanted)


def test_a_source_starts_from_the_present() -> None:
    """A flap is two events; a source that is opened later starts from the present."""
    host = FakeHost()
    eth0 = Link("eth0", 1600, "02:00:00:00:00:01", up=True)
    with closing(host.platform().kernel_events()) as events:
        host.happens("link-flap")
        links = [one.item for one in events.read()]
        assert links == [replace(eth0, up=False), eth0]
        assert list(events.read()) == []
    host.happens("link-flap")
    with closing(host.platform().kernel_events()) as events:
        assert list(events.read()) == []
