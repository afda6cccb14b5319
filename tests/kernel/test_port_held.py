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
    """Setup names the process, and takes away the port that ovs-vswitchd tries to open without end.

    A run beside the program changes nothing; once it has ended, the next run puts the port back.

    h1: br-int ═ br-mcast ─ vxlan; ovs-vswitchd starts anew, and a program has the UDP port
    """
    node.built(*SEGMENT)
    node.host.stop_vswitchd()
    node.sh("ip link del vxlan_sys_4789")
    with holding(node) as process:
        node.host.start_vswitchd()
        for changes in ([f"remove port {VXLAN} on br-mcast"], []):
            found = node.setup(*SEGMENT)
            assert found.status == 3
            assert [change for change in found.changes if VXLAN in change] == changes
            assert (
                f"process {process} (python3) has UDP port 4789: the overlay has no VXLAN port "
                "until that is free"
            ) in found.problems
            assert VXLAN not in node.host.vsctl("list-ports", "br-mcast")
    assert node.built(*SEGMENT).changes == [f"add port {VXLAN} on br-mcast"]
    assert error_of(node) == "[]"
    node.torn_down()


def test_a_program_that_takes_the_port_while_it_changes(node: Node) -> None:
    """Open vSwitch drops the tunnel from the datapath without an error: exit 3, and who has it.

    h1: br-int ═ br-mcast ─ vxlan; its UDP port changes for a moment, and a program takes it
    """
    node.built(*SEGMENT)
    change = f"ovs-vsctl --timeout=20 set interface {VXLAN} options:dst_port="
    node.sh(f"{change}4799")
    with holding(node) as process:
        node.sh(f"{change}4789")
        assert error_of(node) == "[]"
        found = node.setup(*SEGMENT)
        assert (found.status, found.changes) == (3, [f"remove port {VXLAN} on br-mcast"])
        assert f"process {process} (python3) has UDP port 4789" in found.problems
    assert node.built(*SEGMENT).changes == [f"add port {VXLAN} on br-mcast"]
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
