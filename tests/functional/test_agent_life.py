"""The agent as a process: start and end, its file, bursts of events.

h1 (agent; br-int ═ br-mcast ─ vxlan ─ eth0) ─ switch
"""

from __future__ import annotations

import signal

import pytest

from tests.functional.agents import (
    CONFIG,
    PROGRAM,
    assert_true,
    configuration,
    running,
    start,
    write,
)
from tests.functional.membership_lab import Net, keepers, members
from tests.functional.node import Node, difference

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


ONE = {"vni": 100, "group": "239.0.0.1"}


# Begun and ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(net: Net, either: Node, number: int) -> None:
    """A signal ends it with status 0; nothing of the overlay changes, and no group is left.

    h1 (agent; SIGTERM or SIGINT) ─ port of the switch: no leave
    """
    with net.membership_wire(either) as wire:
        write(either, configuration(either))
        agent = start(either)
        agent.settles()
        wire.wait_joined("239.0.0.1")
        before = either.state()
        assert agent.ends(number).status == 0
        assert len(keepers(either)) == 1
        assert wire.left() == []
        assert difference(before, either.state()) == []
        assert_true(either)


def test_it_ends_while_it_waits_for_open_vswitch(system: Node) -> None:
    """Between tries it ends as promptly: status 0.

    h1 (ovs-vswitchd killed; agent tries on; SIGTERM)
    """
    write(system, configuration(system))
    system.host.stop_vswitchd()
    agent = start(system)
    agent.waits_for("ovs-vswitchd does not run")
    agent.waits_for("event: retry", times=2)
    assert agent.ends().status == 0
    system.host.start_vswitchd()


@pytest.mark.parametrize("daemon", ["ovs-vswitchd", "ovsdb-server"])
def test_it_ends_while_a_reconcile_hangs(system: Node, daemon: str) -> None:
    """A stopped daemon does not answer: the reconcile is cut short; status 0.

    h1 (kill -STOP; agent reconciles; SIGTERM)
    """
    write(system, configuration(system))
    agent = start(system)
    agent.settles()
    process = system.host.path(f"/run/openvswitch/{daemon}.pid").read_text().strip()
    system.sh(f"kill -STOP {process}; ip route del 239.0.0.1 dev eth0")
    try:
        agent.waits_for("event: route")
        assert agent.ends().status == 0
    finally:
        system.sh(f"kill -CONT {process}")
    write(system, configuration(system))
    system.built("--config", CONFIG)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("segments: [", "--config"),
        ('{"underlay": {"device": "eth0"}, "segmets": []}', "segmets: there is no such key"),
    ],
)
def test_a_bad_file_at_the_start(system: Node, text: str, complaint: str) -> None:
    """Exit status 2, and nothing is touched.

    h1 (agent)
    """
    before = system.state()
    write(system, text)
    ended = start(system).wait()
    assert (ended.status, complaint in ended.stderr) == (2, True), ended.stderr
    assert difference(before, system.state()) == []


def test_without_the_privilege(system: Node) -> None:
    """Exit status 5 at once: no trying on.

    h1 (agent of user nobody)
    """
    write(system, configuration(system))
    run = system.start("--config", CONFIG, program=PROGRAM, nobody=True)
    ended = run.wait()
    assert (ended.status, "run it as root" in ended.stderr) == (5, True), ended.stderr


def test_it_is_alone(system: Node) -> None:
    """A second agent for the same overlay names the first one and ends with status 5.

    h1 (two agents; then one for another overlay)
    """
    with running(system) as agent:
        second = start(system).wait()
        assert second.status == 5
        assert "another agent keeps overlay default: process " in second.stderr
        named = int(second.stderr.split("process ")[1].split()[0])
        inside = system.host.path(f"/proc/{named}/cmdline").read_bytes()
        assert b"warm.py" in inside  # the process that agents are forked from
        assert agent.count("reconcile: failed") == 0


# Its file


def test_its_file_changes(either: Node) -> None:
    """A changed file is reconciled, and the agent then follows the events of the new overlay.

    h1 (segments 100 and 101; 100 and 102; a flow of 102 goes)
    """
    with running(either) as agent:
        other = {"vni": 102, "group": "239.0.0.3"}
        write(either, configuration(either, ONE, other))
        agent.puts_back("changed")
        assert members(either) == {"239.0.0.1", "239.0.0.3"}
        either.sh("ovs-ofctl -O OpenFlow14 del-flows br-mcast dl_vlan=102,table=30")
        agent.puts_back("put back")


def test_a_bad_file_is_refused(system: Node) -> None:
    """The old one stays applied; each fault is reported once; a valid file is taken.

    h1 (bad file; SIGHUP twice; a route goes; good file)
    """
    with running(system) as agent:
        write(system, '{"segments": 7}')
        agent.waits_for("the new configuration is refused, the old one is kept: ")
        for times in (1, 2):
            agent.send(signal.SIGHUP)
            agent.waits_for("event: signal", times)
        system.sh("ip route del 239.0.0.1 dev eth0")
        agent.waits_for("put back")
        assert agent.count("is refused") == 1
        system.sh(f"rm {CONFIG}; ip route del 239.0.0.1 dev eth0")
        agent.waits_for("put back", times=2)
        write(system, configuration(system, ONE))
        agent.waits_for("1 segments wanted")
        agent.puts_back("changed")
        assert members(system) == {"239.0.0.1"}


def test_another_name_is_refused(system: Node) -> None:
    """An overlay of another name is another agent's: the one that is there is not abandoned.

    h1 (name changes)
    """
    with running(system) as agent:
        write(system, configuration(system, name="other"))
        agent.waits_for("name: this agent keeps default")
    write(system, configuration(system))
    assert_true(system)


# Bursts


def test_a_burst_is_one_reconcile(either: Node) -> None:
    """A hundred events while it is stopped bring one reconcile, and its own events one more.

    h1 (kill -STOP; routes, flows and addresses go and come; kill -CONT)
    """
    with running(either) as agent:
        reconciles = agent.reconciles()
        agent.send(signal.SIGSTOP)
        underlay = either.host.underlay
        for number in range(20):
            either.sh(f"ip address add 10.9.9.{number}/32 dev {underlay}")
        for number in range(20):
            either.sh(f"ip address del 10.9.9.{number}/32 dev {underlay}")
        either.sh(
            f"ip route del 239.0.0.1 dev {underlay}; ip route del 239.0.0.2 dev {underlay};"
            "ovs-ofctl -O OpenFlow14 del-flows br-mcast"
        )
        agent.send(signal.SIGCONT)
        agent.puts_back("put back")
        assert agent.reconciles() <= reconciles + 2


def test_more_than_the_kernel_keeps(system: Node) -> None:
    """Lost events are not missed: everything is reconciled.

    h1 (kill -STOP; 20,000 addresses and a route of ours; kill -CONT)
    """
    batch = "".join(
        f"address {verb} 10.{number >> 8}.{number & 255}.7/32 dev lo\n"
        for number in range(8000)
        for verb in ("add", "del")
    )
    with running(system) as agent:
        agent.send(signal.SIGSTOP)
        system.host.run("ip", "-batch", "-", stdin=batch)
        system.sh("ip route del 239.0.0.1 dev eth0")
        agent.send(signal.SIGCONT)
        agent.waits_for("event: overflow")
        agent.puts_back("put back")
