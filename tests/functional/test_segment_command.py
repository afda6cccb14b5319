"""`ovs-mcast segment` as hooks run it: several at once, each for its own segments.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

import json
import sys
from subprocess import Popen

import pytest

from ovs_mcast.lab import Host, Lab
from tests.functional.agents import configuration, running
from tests.functional.lab_programs import CHECKOUT
from tests.functional.node import Node
from tests.functional.wire import GROUP_1, GROUP_2, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)


def hook(host: Host, *arguments: str) -> Popen[str]:
    """Start the command on a host."""
    command = (sys.executable, "-m", "ovs_mcast.segment", *arguments)
    return host.popen(*command, env={"PYTHONPATH": str(CHECKOUT)}, piped=True)


def test_hooks_that_run_at_once_take_nothing_from_each_other(lab: Lab) -> None:
    """Each ends with 0; all segments are there, and carry a broadcast; then all but one are gone.

    h1 (four hooks at once) ─ switch ─ l1 (VNI 200)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    assert host.setup(f"--segment=100,group={GROUP_1}", "--membership=socket").status == 0
    hooks = [hook(host, "add", f"{vni},group={GROUP_2}") for vni in range(200, 204)]
    for started in hooks:
        said, errors = started.communicate(timeout=120)
        assert (started.returncode, said) == (0, ""), errors
    listed, _ = hook(host, "list", "--json").communicate(timeout=60)
    assert sorted(map(int, json.loads(listed)["segments"])) == [100, *range(200, 204)]

    here, there = host.add_workload(vlan=200), peer.add_segment(vni=200, group=GROUP_2)
    wait_for_members(lab, GROUP_2, {"h1", "l1"})
    for sender, hearer in ((here, there), (there, here)):
        with hears(lab, hearer) as heard:
            sent = frame(sender.mac)
            sender.send(sent)
            assert sent in heard.wait(1)

    hooks = [hook(host, "remove", str(vni)) for vni in range(201, 204)]
    for started in hooks:
        _, errors = started.communicate(timeout=120)
        assert started.returncode == 0, errors
    listed, _ = hook(host, "list").communicate(timeout=60)
    assert listed.splitlines() == [
        f"100,vlan=100,group={GROUP_1}", f"200,vlan=200,group={GROUP_2}"
    ]  # fmt: skip


@pytest.mark.usefixtures("no_agent_is_left")
def test_a_hook_beside_an_agent_is_refused(node: Node) -> None:
    """Exit status 5 names the agent; a segment that is there already is no change.

    h1 (agent; hooks)
    """
    with running(node, configuration(node)) as agent:
        agent.settles()
        listed, _ = hook(node.host, "list").communicate(timeout=60)
        first = listed.splitlines()[0]
        for arguments, status in (
            (("add", "777,group=239.0.0.77"), 5), (("add", first), 0),
            (("remove", first.partition(",")[0]), 5), (("remove", "777"), 0),
        ):  # fmt: skip
            started = hook(node.host, *arguments)
            _, errors = started.communicate(timeout=60)
            assert started.returncode == status, errors
            assert ("keeps overlay default" in errors) == (status == 5)
    node.torn_down()
