"""The agent as a process: start and end, its file, daemons that come and go.

h1 (agent; br-int ═ br-mcast ─ vxlan ─ eth0) ─ switch
"""

from __future__ import annotations

import json
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ovs_mcast.lab.ovs_host import Kind
from tests.functional.agents import (
    CONFIG,
    DEFECTIVE,
    PROGRAM,
    assert_true,
    configuration,
    kill_all,
    running,
    start,
    write,
)
from tests.functional.membership_lab import Net, keepers, members
from tests.functional.node import Node, difference
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


@pytest.fixture(autouse=True)
def _no_agent_is_left() -> Iterator[None]:
    yield
    kill_all()


ONE = {"vni": 100, "group": "239.0.0.1"}
KILLS = 12
SEED = 20260101


@pytest.fixture(params=["system", "netdev"])
def fresh(request: pytest.FixtureRequest, net: Net) -> Node:
    """A host of each kind for this test alone: with its daemons, its devices are recreated."""
    kinds: dict[str, Kind] = {"system": "dummy", "netdev": "netdev"}
    return net.node(kinds[request.param])


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
    """Another file is what is wanted from then on; its events are those of the new overlay.

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


# Daemons


def test_it_waits_for_open_vswitch(fresh: Node) -> None:
    """Started before Open vSwitch, as at boot: it reports that once, and builds when it runs.

    h1 (no daemons; agent; daemons)
    """
    write(fresh, configuration(fresh))
    fresh.host.stop_vswitchd()
    fresh.host.stop_ovsdb()
    agent = start(fresh)
    agent.waits_for("ovs-vswitchd does not run")
    agent.waits_for("event: retry", times=4)
    assert agent.count("start openvswitch-switch") == 1
    fresh.host.start_ovsdb()
    fresh.host.start_vswitchd()
    agent.settles()
    assert_true(fresh)
    assert agent.ends().status == 0


@pytest.mark.parametrize("gone", ["ovs-vswitchd", "ovsdb-server", "both"])
def test_daemons_are_killed_and_come_back(net: Net, fresh: Node, gone: str) -> None:
    """Failures are reported once; the groups stay held; all is repaired once they are back.

    h1 (kill -9; tries; started again) ─ port of the switch: no leave
    """
    with running(fresh) as agent, net.membership_wire(fresh) as wire:
        if gone != "ovsdb-server":
            fresh.host.stop_vswitchd()
        if gone != "ovs-vswitchd":
            fresh.host.stop_ovsdb()
        agent.waits_for("event: retry", times=4)
        assert agent.count("is refused|defect") == 0
        said = agent.count("trying again")
        assert said <= 3, agent.said()
        if gone != "ovs-vswitchd":
            fresh.host.start_ovsdb()
        if gone != "ovsdb-server":
            fresh.host.start_vswitchd()
        agent.puts_back("recovered")
        if fresh.host.datapath == "system":
            assert wire.left() == []


def test_a_setup_meanwhile(either: Node) -> None:
    """Setup may run with the same segments or others: the agent restores its own.

    h1 (agent; setup with the same; setup with other segments)
    """
    with running(either) as agent:
        assert either.built("--config", CONFIG).report["changed"] is False
        either.setup(
            "--segment=100,group=239.0.0.7", "--segment=300,group=239.0.0.8",
            "--membership=socket",
        )  # fmt: skip
        agent.puts_back("put back")
        assert eventually(lambda: members(either) == {"239.0.0.1", "239.0.0.2"})
        assert eventually(lambda: keepers(either) == {})
        assert_true(either)


def test_a_teardown_meanwhile(system: Node) -> None:
    """A teardown beside an agent is undone: end the agent first.

    h1 (agent; setup --teardown)
    """
    with running(system) as agent:
        system.setup("--teardown")
        agent.puts_back("put back")
        assert members(system) == {"239.0.0.1", "239.0.0.2"}


# Killed


@pytest.mark.timeout(240)
def test_killed_at_any_moment(net: Net, system: Node) -> None:
    """Kill -9 while it builds, changes or waits: the next one converges.

    h1 (agent killed at moments of a seed, with one configuration or another)
    """
    dice = random.Random(SEED)
    texts = [
        configuration(system),
        configuration(system, ONE, {"vni": 300, "group": "239.0.0.5"}),
        configuration(system, membership="repaired"),
    ]
    for number in range(KILLS):
        write(system, texts[number % len(texts)])
        agent = start(system)
        end = time.monotonic() + dice.random() * 0.8
        while time.monotonic() < end:
            time.sleep(0.005)
        assert agent.ends(signal.SIGKILL).status == -9
    with running(system):
        assert_true(system)
        assert keepers(system) == {}


def test_killed_and_begun_again(system: Node) -> None:
    """The next agent holds the killed one's groups again, and takes its name.

    h1 (kill -9; agent)
    """
    with running(system) as agent:
        pass
    write(system, configuration(system))
    agent = start(system)
    agent.settles()
    agent.ends(signal.SIGKILL)
    assert eventually(lambda: members(system) == set())
    with running(system):
        assert members(system) == {"239.0.0.1", "239.0.0.2"}


def test_a_defect_in_the_follow_up_does_not_end_it(system: Node) -> None:
    """An unexpected exception is a reported defect; the overlay is kept, the path measured later.

    h1 (agent whose first measurement of the send path raises; a route goes; eth0 down and up)
    """
    write(system, configuration(system))
    agent = start(system, program=DEFECTIVE)
    agent.waits_for("a defect of ovs_mcast, please report it: OSError")
    agent.settles()
    system.sh("ip route del 239.0.0.1 dev eth0")
    agent.puts_back()
    assert agent.count("an ordinary datagram reaches") == 0
    system.sh("ip link set eth0 down; ip link set eth0 up")
    agent.waits_for("an ordinary datagram reaches wire")
    assert agent.count("defect") == 1
    assert agent.ends().status == 0


# Idle, and what systemd is notified of


def spent(process: int) -> int:
    """Ticks of processor time, of all threads."""
    with open(f"/proc/{process}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_idle_it_does_nothing(either: Node) -> None:
    """No reconcile, no event, and next to no processor time.

    h1 (agent; nothing happens)
    """
    with running(either) as agent:
        for _ in range(3):  # on a busy machine the last of what it did itself may come late
            reconciles, ticks = agent.reconciles(), spent(agent.pid)
            time.sleep(4)  # the time that is measured
            if agent.reconciles() == reconciles:
                break
        assert agent.reconciles() == reconciles, agent.said()
        assert spent(agent.pid) - ticks <= 2


@contextmanager
def systemd(node: Node) -> Iterator[socket.socket]:
    """A datagram socket of the host, at /run/notify, in place of systemd's."""
    path = node.host.path("/run/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(30)
        try:
            yield told
        finally:
            path.unlink()


def until(told: socket.socket, word: str) -> list[str]:
    """Return what systemd is notified of, up to this word."""
    heard: list[str] = []
    while not any(line.startswith(word) for line in heard[-1:]):
        heard += told.recv(4096).decode().splitlines()[:1]
    return heard


def test_what_systemd_is_notified_of(system: Node) -> None:
    """READY=1 once all is applied, RELOADING=1 and READY=1 again, WATCHDOG=1 in time, STOPPING=1.

    h1 (agent with NOTIFY_SOCKET and WATCHDOG_USEC; SIGHUP; SIGTERM)
    """
    write(system, configuration(system))
    with systemd(system) as told:
        environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "400000"}
        agent = start(system, env=environment)
        first = until(told, "READY=1")
        assert "STATUS=default: 2 segments applied and verified" in first
        assert "WATCHDOG=1" in first
        assert_true(system)
        until(told, "WATCHDOG=1")
        agent.send(signal.SIGHUP)
        until(told, "RELOADING=1")
        until(told, "READY=1")
        agent.send(signal.SIGSTOP)
        told.settimeout(1)
        with suppress(TimeoutError):
            while True:  # earlier notifications
                told.recv(4096)
        told.settimeout(30)
        agent.send(signal.SIGCONT)
        until(told, "WATCHDOG=1")
        agent.send(signal.SIGTERM)
        until(told, "STOPPING=1")
        assert agent.wait().status == 0


def test_metrics_and_records(system: Node) -> None:
    """--metrics is served while it runs, and --log json writes lines for programs.

    h1 (agent --metrics 127.0.0.1:9417 --log json; a bad address; a bad name of a log)
    """
    write(system, configuration(system))
    agent = start(system, "--metrics=127.0.0.1:9417", "--log=json")
    read = (
        "import urllib.request;"
        "print(urllib.request.urlopen('http://127.0.0.1:9417/metrics').read().decode())"
    )

    def healthy() -> bool:
        done = system.host.run("python3", "-c", read, check=False)
        return 'ovs_mcast_healthy{overlay="default"} 1.0' in done.stdout

    assert eventually(healthy, seconds=30), agent.said()
    records = [json.loads(line) for line in agent.said().splitlines() if line.startswith("{")]
    assert {"configured", "reconciled"} <= {record["event"] for record in records}
    for option in ("--metrics=nowhere", "--log=verse"):
        assert start(system, option).wait().status == 2
    assert agent.ends().status == 0
