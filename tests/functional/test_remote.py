"""OVSDB by TCP, as where several programs share one; ovs-vswitchd is asked by its own sockets.

h1: ovsdb-server ─ lo ─ setup, agent
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.agents import CONFIG, kill_all, running
from tests.functional.membership_lab import BASE, SOCKET
from tests.functional.node import Node, difference

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

_REMOTE = "ovs-appctl -t ovsdb-server ovsdb-server/{verb}-remote {remote}"


@pytest.fixture(params=["tcp:127.0.0.1:6640", "tcp:[::1]:6641"])
def remote(request: pytest.FixtureRequest, system: Node) -> Iterator[str]:
    """Where ovsdb-server listens besides."""
    method, _, place = request.param.partition(":")
    address, _, port = place.rpartition(":")
    passive = f"p{method}:{port}:{address}"
    system.sh(_REMOTE.format(verb="add", remote=passive))
    yield str(request.param)
    kill_all()
    system.sh(_REMOTE.format(verb="remove", remote=passive))


def test_setup_by_tcp(system: Node, remote: str) -> None:
    """An overlay made by tcp: is found and removed again; by unix: it is the same.

    h1 (setup --db tcp:…)
    """
    before = system.state()
    assert system.built(*BASE, SOCKET, "--db", remote).report["changed"] is True
    assert system.built(*BASE, SOCKET, "--db", remote).report["changed"] is False
    assert system.built(*BASE, SOCKET).report["changed"] is False
    assert system.setup("--teardown", "--db", remote).status == 0
    assert difference(before, system.state()) == []


def test_the_agent_by_tcp(system: Node, remote: str) -> None:
    """The agent repairs a port, reported by OVSDB, and a flow, reported by its flow monitor.

    h1 (agent --db tcp:…; a port and flows deleted)
    """
    with running(system, "", "--db", remote) as agent:
        system.sh("ovs-vsctl del-port $(ovs-vsctl list-ports br-mcast | grep vxlan)")
        agent.puts_back()
        system.host.ofctl("del-flows", "br-mcast")
        agent.puts_back()
    assert system.setup("--teardown", "--db", remote).status == 0
    assert not system.setup("--config", CONFIG, "--dry-run").report["verified"]
