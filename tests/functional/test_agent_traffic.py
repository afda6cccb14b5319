"""Traffic recovers after each fault with an agent on either host, and stops at no other time.

workload ─ h1 (agent) ─ switch ─ h2 (agent) ─ workload
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ovs_mcast.lab import Lab
from tests.functional.agents import CONFIG, configuration, start, write
from tests.functional.node import Node
from tests.functional.warm import Warm
from tests.functional.wire import eventually, frame, hears

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures",)


def test_traffic_is_back(lab: Lab, warm: Warm) -> None:
    """Broadcast from each side, after each of: flows gone, a port gone, ovs-vswitchd, agents ended.

    workload ─ h1 (faults) ─ switch ─ h2 ─ workload
    """
    h1, h2 = lab.add_hosts(2)
    workloads = [host.add_workload(vlan=100) for host in (h1, h2)]
    nodes = [Node(host, warm) for host in (h1, h2)]
    for node in nodes:
        write(node, configuration(node, {"vni": 100, "group": "239.0.0.1"}))
    agents = [start(node) for node in nodes]
    for agent in agents:
        agent.settles()

    def passes(source: int) -> Callable[[], bool]:
        def sent_and_heard() -> bool:
            with hears(lab, workloads[1 - source]) as capture:
                said = frame(workloads[source].mac)
                workloads[source].send(said)
                return bool(capture.wait(where=lambda seen: seen == said, timeout=1))

        return sent_and_heard

    def passes_both_ways() -> None:
        assert eventually(passes(0), seconds=40), agents[0].said()
        assert eventually(passes(1), seconds=40), agents[0].said()

    passes_both_ways()
    nodes[0].sh("ovs-ofctl -O OpenFlow14 del-flows br-mcast")
    agents[0].puts_back("put back")
    passes_both_ways()
    nodes[0].sh("ovs-vsctl del-port $(ovs-vsctl list-ports br-mcast | grep vxlan)")
    agents[0].puts_back("put back")
    passes_both_ways()
    h1.stop_vswitchd()
    agents[0].waits_for("event: retry")
    h1.start_vswitchd()
    agents[0].puts_back("recovered")
    passes_both_ways()
    for agent in agents:
        assert agent.ends().status == 0
    passes_both_ways()
    for node in nodes:
        assert node.setup("--config", CONFIG, "--dry-run").status == 0
        node.torn_down()
