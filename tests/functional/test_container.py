"""As process 1 of a container: the kernel ends all its processes with it, a keeper too.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 ─ switch      (setup and agent in a PID namespace of their own)
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.agents import CONFIG, configuration, write
from tests.functional.node import Node, difference
from tests.functional.wire import eventually

pytestmark = [
    pytest.mark.needs(
        "root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter", "unshare"
    ),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures",)

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def first_process(pid: int) -> int:
    """Return the descendant that is process 1 of the container: nsenter and unshare come before."""
    while not Path(f"/proc/{pid}/comm").read_text().startswith("python"):
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    status = Path(f"/proc/{pid}/status").read_text()
    assert any(line.split()[-1] == "1" for line in status.splitlines() if "NSpid" in line), status
    return pid


def test_setup_does_not_leave_a_keeper_that_ends_with_it(node: Node) -> None:
    """With `socket` it fails and says what to use there; with `repaired` it works and stays."""
    before = node.state()
    arguments = (
        "--datapath", node.host.datapath, "--underlay", node.host.underlay,
        "--segment", "100,group=239.0.0.1", "--json",
    )  # fmt: skip
    command = (*CONTAINER, sys.executable, "-m", "ovs_mcast.setup", *arguments)
    refused = node.host.run(*command, "--membership", "socket", check=False)
    assert refused.returncode == 1
    assert "the first of its PID namespace" in refused.stderr
    assert json.loads(refused.stdout)["verified"] is False
    node.host.run(*command, "--membership", "repaired")
    assert "239.0.0.1" in node.sh(f"ip maddress show dev {node.host.underlay}")
    node.torn_down()
    assert difference(before, node.state()) == []


def test_the_agent_says_that_the_groups_are_left(node: Node) -> None:
    """It works while it runs; its last words name the groups' end, and it does not exit 0."""
    write(node, configuration(node))
    agent = node.host.popen(*CONTAINER, sys.executable, "-m", "ovs_mcast.agent", "--config", CONFIG)
    with agent:
        joined = f"ip maddress show dev {node.host.underlay}"
        assert eventually(lambda: "239.0.0.1" in node.sh(joined), seconds=30)
        os.kill(first_process(agent.pid), signal.SIGTERM)
        _out, err = agent.communicate(timeout=30)
    assert agent.returncode == 5
    assert "no process holds the groups on" in err
    assert "runs on" not in err
    node.torn_down()
