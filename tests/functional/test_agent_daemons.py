"""The agent while daemons, other runs and itself are killed and come back.

h1 (agent; br-int ═ br-mcast ─ vxlan ─ eth0) ─ switch
"""

from __future__ import annotations

import hashlib
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from ovs_mcast.lab.namespace import RUNDIR
from ovs_mcast.lab.ovs_host import Kind
from tests.functional import embedding
from tests.functional.agents import (
    CONFIG,
    DEFECTIVE,
    assert_true,
    configuration,
    running,
    start,
    write,
)
from tests.functional.membership_lab import Net, keepers, members
from tests.functional.node import Node, difference
from tests.functional.wire import eventually
from tests.processes import ended

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


ONE = {"vni": 100, "group": "239.0.0.1"}
CHECKOUT = Path(__file__).resolve().parents[2]
KILLS = 12
SEED = 20260101


@pytest.fixture(params=["system", "netdev"])
def fresh(request: pytest.FixtureRequest, net: Net) -> Node:
    """A host of each kind for this test alone: with its daemons, its devices are recreated."""
    kinds: dict[str, Kind] = {"system": "dummy", "netdev": "netdev"}
    return net.node(kinds[request.param])


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


def test_a_setup_meanwhile(either: Node, tmp_path: Path) -> None:
    """Setup finds nothing to change for the agent's own overlay; to change it is exit 5.

    So for a program's add and remove, which the agent would take back.

    h1 (agent; setup with the same; setup with other segments; a program)
    """
    with running(either), embedding.run(either, "refused", {}, tmp_path) as program:
        said = program.tell("add remove again")
        assert [re.search(r"an agent \(process \d+\) keeps overlay default", one) is not None
                for one in said] == [True, True, False]  # fmt: skip
        program.end()
        assert either.built("--config", CONFIG).report["changed"] is False
        before = either.state()
        others = ("--segment=100,group=239.0.0.7", "--segment=300,group=239.0.0.8")
        refused = either.setup(*others, "--membership=socket")
        assert (refused.status, refused.report["changed"]) == (5, False)
        assert re.search(r"an agent \(process \d+\) keeps overlay default", refused.problems)
        assert either.setup(*others, "--membership=socket", "--dry-run").status == 4
        assert difference(before, either.state()) == []
        assert_true(either)


def test_a_teardown_meanwhile(system: Node) -> None:
    """A teardown of the agent's overlay is exit 5 and names process and file; another's is not.

    h1 (agent; setup --teardown), before and after the agent's end
    """
    write(system, configuration(system))
    command = (sys.executable, "-m", "ovs_mcast.agent", "--config", CONFIG)
    with ended(system.host.popen(*command, env={"PYTHONPATH": str(CHECKOUT)})) as process:
        assert eventually(lambda: system.setup("--config", CONFIG, "--dry-run").status == 0)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        seen = Path(f"/proc/{children[0]}/status").read_text()
        number = next(line.split()[-1] for line in seen.splitlines() if line.startswith("NSpid"))
        refused = system.setup("--teardown")
        assert (refused.status, refused.report["changed"]) == (5, False)
        expected = f"an agent (process {number}) keeps overlay default from {CONFIG}: "
        assert expected in refused.problems
        system.torn_down("other")
        assert members(system) == {"239.0.0.1", "239.0.0.2"}
    system.torn_down()


_STRAY = """
import os, socket
os.setresuid(1000, 1000, 1000)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("\\0{name}")
    listener.listen()
    print("there", flush=True)
    listener.accept()
"""


def test_a_stray_user_is_no_agent(system: Node) -> None:
    """Another user's process with the agent's name keeps neither setup nor an agent away.

    h1 (a listener of user 1000 at the name of the agent; setup, then an agent)
    """
    digest = hashlib.sha256(f"{RUNDIR} default".encode()).hexdigest()[:32]
    script = _STRAY.format(name=f"ovs-mcast-agent-{digest}")
    with ended(system.host.popen(sys.executable, "-c", script)) as stray:
        assert stray.stdout is not None
        assert stray.stdout.readline() == "there\n"
        system.built("--underlay=eth0", "--segment=100,group=239.0.0.1", "--membership=socket")
        system.torn_down()
        with running(system, configuration(system)) as agent:
            agent.settles()
    system.torn_down()


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
