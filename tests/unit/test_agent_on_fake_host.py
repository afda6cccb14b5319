"""The agent's own loop on a machine in memory: events, not the resync, bring each repair."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_mcast.agent.observer import Kind
from ovs_mcast.core.items import Address, Port
from ovs_mcast.testing import ArpSettings, FakeHost, Happening, Link
from tests.unit.fake_agent import ONE, THREE, TWO, Machine

# The agent uses SIGALRM itself, which is how pytest-timeout would end a test.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.fixture(params=["system", "netdev"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    before = set(threading.enumerate())
    yield Machine(FakeHost(datapath=request.param), tmp_path / "overlay.json", request.param)
    assert set(threading.enumerate()) <= before


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


@pytest.mark.parametrize("lost", ["group", "arp"])
def test_the_bridge_of_an_internal_port_is_watched(tmp_path: Path, lost: str) -> None:
    """The underlay is a port of br-phy: a flow that is removed there is put back."""
    host = FakeHost(datapath="netdev")
    host.arp_settings["eth0"] = ArpSettings(arp_ignore=1, rp_filter=0)
    host.put(
        Link("vtep0", 1600, "02:00:00:00:00:07", True),
        Port("br-phy", "vtep0", "internal"),
        Address("vtep0", "10.1.0.1", 24),
    )
    machine = Machine(host, tmp_path / "overlay.json", "netdev", "vtep0")

    def remove() -> None:
        flows = host.observe("default").flows
        match = f"nw_dst={ONE}" if lost == "group" else f"arp_tpa={ONE}"
        [flow] = [one for one in flows if one.bridge == "br-phy" and match in one.match.split(",")]
        host.take(flow)

    driver = machine.run(remove)
    assert driver.repairs[1:] == [("add flow",)]
    assert not host.plan(machine.wanted())


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
    eth0 = Link("eth0", 1500, "02:00:00:00:00:01", up=True)
    with closing(host.platform().kernel_events()) as events:
        host.happens("link-flap")
        links = [one.item for one in events.read()]
        assert links == [replace(eth0, up=False), eth0]
        assert list(events.read()) == []
    host.happens("link-flap")
    with closing(host.platform().kernel_events()) as events:
        assert list(events.read()) == []
