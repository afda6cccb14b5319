"""When the agent reports groups again, and which; the loop on a machine in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ovs_mcast.agent.announcer import Announcement, Announcer
from ovs_mcast.core.items import Port
from ovs_mcast.core.reports import Report
from ovs_mcast.errors import UnavailableError
from ovs_mcast.host.backend import Ovsdb
from ovs_mcast.testing import FakeHost, Link
from tests.unit.fake_agent import ONE, TWO, Machine

pytestmark = pytest.mark.timeout(60, method="thread")


class Wire:
    """An Announcer's sends, on the platform of a machine in memory with two groups joined."""

    def __init__(self, tmp_path: Path) -> None:
        self.machine = Machine(FakeHost(), tmp_path / "overlay.json", "system")
        self.overlay = self.machine.wanted()
        self.machine.host.reconcile(self.overlay)
        self.platform = self.machine.host.platform()
        self.backend = self.platform.connect()
        self.sent: list[str] = []
        self.announcer = Announcer(self.send, self.platform.joined, lambda _device: 2)

    def send(self, device: str, reports: Iterable[Report]) -> None:
        self.sent += [f"{device} {report.destination}" for report in reports]

    def run(self, now: float) -> Announcement | None:
        return self.announcer.run(self.overlay, self.backend, now)


def test_it_reports_at_once_and_once_more(tmp_path: Path) -> None:
    """The second report follows a second later; a look between two events waits as long."""
    wire = Wire(tmp_path)
    assert wire.announcer.due() == float("inf")
    wire.announcer.moved("eth0", 10.0)
    assert wire.announcer.due() == pytest.approx(10.1)
    assert wire.run(10.1) == Announcement("eth0", ("eth0",), 2)
    assert wire.announcer.due() == pytest.approx(11.1)
    wire.announcer.moved("eth9", 10.2)
    assert wire.announcer.due() == pytest.approx(11.1)
    assert wire.run(11.1) is None
    assert wire.announcer.due() == float("inf")
    assert wire.sent == [f"eth0 {ONE}", f"eth0 {TWO}"] * 2


def test_another_device_is_no_concern(tmp_path: Path) -> None:
    """A carrier elsewhere brings one look and no report."""
    wire = Wire(tmp_path)
    wire.announcer.moved("eth9", 10.0)
    assert wire.run(10.1) is None
    assert wire.announcer.due() == float("inf")
    assert wire.sent == []


def test_a_look_that_fails_is_made_again(tmp_path: Path) -> None:
    """OVSDB is away for a moment: a second later the groups are reported, for the same failover."""
    wire = Wire(tmp_path)
    there = wire.backend

    class Away:
        def ports(self, on: str | None = None) -> dict[str, Port]:
            raise UnavailableError("ovsdb-server went away")

    wire.announcer.moved("eth0", 10.0)
    wire.backend = replace(there, ovsdb=cast("Ovsdb", Away()))
    with pytest.raises(UnavailableError):
        wire.run(10.1)
    assert wire.announcer.due() == pytest.approx(11.1)
    assert wire.sent == []
    wire.backend = there
    assert wire.run(11.1) == Announcement("eth0", ("eth0",), 2)
    assert wire.sent == [f"eth0 {ONE}", f"eth0 {TWO}"]


def test_only_groups_that_are_joined_are_reported(tmp_path: Path) -> None:
    """A group that the device has left is not claimed; without any nothing is sent."""
    wire = Wire(tmp_path)
    joined = {TWO, "239.9.9.9"}
    wire.announcer = Announcer(wire.send, lambda _: frozenset(joined), lambda _: 2)
    for _ in range(2):
        wire.announcer.moved("eth0", 10.0)
        wire.run(10.1)
        joined.clear()
    assert wire.sent == [f"eth0 {TWO}"]


def test_a_refusal_is_reported(tmp_path: Path) -> None:
    """The kernel refuses the packets: the announcement has the reason."""
    wire = Wire(tmp_path)

    def refuse(device: str, reports: Iterable[Report]) -> None:
        raise UnavailableError(f"cannot report groups on {device}: Network is unreachable")

    wire.announcer = Announcer(refuse, wire.platform.joined, lambda _: 3)
    wire.announcer.moved("eth0", 10.0)
    result = wire.run(10.1)
    assert result is not None
    assert result.error == "cannot report groups on eth0: Network is unreachable"


def test_the_loop_reports_without_a_reconcile(tmp_path: Path) -> None:
    """A link of the underlay's bond loses its carrier: groups are reported, nothing is repaired."""
    host = FakeHost()
    slave = Link("eth1", 1600, "02:00:00:00:00:08", True, master="eth0")
    host.put(slave)
    machine = Machine(host, tmp_path / "overlay.json", "system")

    def fail_over() -> None:
        host.put(replace(slave, carrier=False))

    driver = machine.run(fail_over)
    assert [one.moved for one in driver.announcements] == [("eth1",)]
    assert len(driver.repairs) == 1
