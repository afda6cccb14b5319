"""The kernel's datapath opens a socket for the tunnels: who has the UDP port already is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ovs_mcast.core import ownership
from tests.functional.node import Node, difference
from tests.functional.wire import eventually

pytestmark = [pytest.mark.either_datapath, pytest.mark.needs("root", "ovs-vswitchd", "ip")]
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENT = ("--segment", "100,group=239.0.0.1")
VXLAN = f"vxlan-{ownership.suffix('default')}"
HOLD = """
import os, socket, sys
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind((sys.argv[1], 4789))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(node: Node, address: str = "") -> Iterator[str]:
    """A program that has UDP port 4789 of an address, or of all; yield its process id there."""
    with node.host.popen("python3", "-c", HOLD, address, piped=True) as program:
        assert program.stdout is not None
        yield program.stdout.readline().strip()
        program.communicate(timeout=20)


def error_of(node: Node) -> str:
    """Return the error of the overlay's VXLAN port."""
    return node.host.vsctl("get", "interface", VXLAN, "error").strip()


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_program_that_has_the_udp_port(node: Node, address: str) -> None:
    """Setup names the process, exits 2 and touches nothing; once the program ended it works.

    h1: br-int ═ br-mcast ─ vxlan (UDP port 4789); a program on UDP port 4789
    """
    before = node.state()
    with holding(node, address) as process:
        refused = node.setup(*SEGMENT)
        assert refused.status == 2
        assert f"process {process} (python3) holds UDP port 4789" in refused.problems
        assert difference(before, node.state()) == []
    node.built(*SEGMENT)
    node.torn_down()


def test_a_program_that_was_faster_after_a_restart(node: Node) -> None:
    """The port's error is a fault that names the process; the port is back when the program ends.

    h1: br-int ═ br-mcast ─ vxlan; ovs-vswitchd starts anew, and a program has the UDP port
    """
    node.built(*SEGMENT)
    node.host.stop_vswitchd()
    node.sh("ip link del vxlan_sys_4789")
    with holding(node) as process:
        node.host.start_vswitchd()
        found = node.setup(*SEGMENT)
        assert found.status == 3
        assert f"port {VXLAN} on br-mcast: could not add network device {VXLAN}" in found.problems
        assert f"process {process} (python3) has UDP port 4789" in found.problems
    assert eventually(lambda: error_of(node) == "[]")
    assert node.built(*SEGMENT).changes == []
    node.torn_down()


def test_a_program_that_takes_the_port_while_it_changes(node: Node) -> None:
    """Open vSwitch drops the tunnel from the datapath without an error: exit 3, and who has it.

    So when the program has ended: Open vSwitch does not try again. The cure that is named works.

    h1: br-int ═ br-mcast ─ vxlan; its UDP port changes for a moment, and a program takes it
    """
    node.built(*SEGMENT)
    change = f"ovs-vsctl --timeout=20 set interface {VXLAN} options:dst_port="
    node.sh(f"{change}4799")
    with holding(node) as process:
        node.sh(f"{change}4789")
        found = node.setup(*SEGMENT)
        assert (found.status, found.changes) == (3, [])
        assert f"process {process} (python3) has UDP port 4789" in found.problems
    lost = node.setup(*SEGMENT)
    assert (lost.status, lost.changes) == (3, [])
    cure = f"ovs-vsctl del-port {VXLAN}"
    assert cure in lost.problems
    node.sh(cure)
    node.built(*SEGMENT)
    node.torn_down()


def test_a_device_in_another_namespace(node: Node) -> None:
    """A VXLAN device keeps its socket where it was made: setup says that no process has it.

    h1: a socket on UDP port 4789; vx7, of which that is, in another network namespace
    """
    node.sh(
        "ip netns add other; ip link add vx7 type vxlan id 7 group 239.7.7.7 dev eth0 dstport 4789;"
        "ip link set vx7 netns other; ip -n other link set vx7 up"
    )
    before = node.state()
    refused = node.setup(*SEGMENT)
    assert (refused.status, "no process that is seen here" in refused.problems) == (2, True)
    assert difference(before, node.state()) == []
    node.sh("ip netns del other")
    assert eventually(lambda: not node.sh("ss -Huln sport = :4789"))
    node.built(*SEGMENT)
    node.torn_down()
