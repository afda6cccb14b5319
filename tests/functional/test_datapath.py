"""A datapath that Open vSwitch does not have here, and what a run on it left behind.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional import embedding
from tests.functional.node import Node, difference
from tests.functional.wire import GROUP_1

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENT = (f"--segment=100,group={GROUP_1}", "--membership=socket")
WRONG = ("set", "bridge", "br-int", "datapath_type=system", "--",
         "set", "bridge", "br-mcast", "datapath_type=system")  # fmt: skip


def has_module(node: Node) -> bool:
    """Whether ovs-vswitchd finds the kernel's datapath."""
    said = node.host.run("ovs-appctl", "dpctl/show", "system@none", check=False).stderr
    return "No such file or directory" not in said


def test_a_datapath_that_is_not_there_is_refused(node: Node) -> None:
    """Before anything is touched, with the cure; on a machine that has it, it is not.

    h1 (ovs-vswitchd; the kernel has no module openvswitch)
    """
    before = node.state()
    for more in (("--dry-run",), ()):
        if has_module(node) and not more:
            continue
        refused = node.setup(*SEGMENT, "--datapath=system", *more)
        assert refused.status == (4 if has_module(node) else 5)
        if not has_module(node):
            assert "the kernel's datapath is not there" in refused.problems
            assert "`modprobe openvswitch` and restart ovs-vswitchd" in refused.problems
    assert difference(before, node.state()) == []


def broken(node: Node) -> None:
    """The overlay as a run on the wrong datapath leaves it: rows alone, or on another datapath."""
    node.built(*SEGMENT)
    node.host.run("ovs-vsctl", "--timeout=20", "--no-wait", *WRONG)


def test_the_next_run_gets_over_the_wrong_datapath(node: Node) -> None:
    """So do plan and teardown; the overlay is as before.

    h1 (an overlay on br-mcast, whose datapath is then another)
    """
    node.built(*SEGMENT)
    before = node.state()
    broken(node)
    assert node.setup(*SEGMENT, "--dry-run").status == 4
    assert node.setup("--teardown", "--dry-run").status == 4
    again = node.built(*SEGMENT)
    assert {"update bridge br-int", "update bridge br-mcast"} <= set(again.changes)
    assert node.built(*SEGMENT).changes == []
    lost = [line for line in difference(before, node.state()) if "flows" in line]
    assert lost == []
    broken(node)
    node.torn_down()
    assert "br-mcast" not in node.host.vsctl("list-br").split()


def test_one_segment_more_gets_over_the_wrong_datapath(node: Node, tmp_path: Path) -> None:
    """A program's add puts all of it back.

    h1 (an overlay on br-mcast, whose datapath is then another; a program)
    """
    with embedding.run(node, "adder", {}, tmp_path) as program:
        broken(node)
        there, changes, _seconds = program.tell("add 200")
        assert there == [100, 200]
        assert changes > 4
        program.end()
    assert node.host.ofctl("dump-flows", "br-mcast", "table=30").count("dl_vlan") == 2
    node.torn_down()
