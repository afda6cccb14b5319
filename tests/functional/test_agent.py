"""The agent keeps an overlay applied: events bring repairs long before the minute's resync.

h1 (agent; br-int ═ br-mcast ─ vxlan ─ eth0) ─ switch
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from ovs_mcast.core import ownership
from tests.functional.agents import CONFIG, assert_true, configuration, running, write
from tests.functional.membership_lab import Net, keepers, local_routes, members
from tests.functional.node import Node, State, difference
from tests.functional.wire import eventually

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


OFCTL = "ovs-ofctl -O OpenFlow14"
PORT = "$(ovs-vsctl list-ports br-mcast | grep vxlan)"
PATCH = "$(ovs-vsctl list-ports br-int | grep patch-tun)"
FAULTS = {
    "flows deleted": f"{OFCTL} del-flows br-mcast",
    "a flow deleted": f"{OFCTL} del-flows br-mcast table=20",
    "a flow changed": f"{OFCTL} mod-flows br-mcast table=30,dl_vlan=100,actions=drop",
    "a flow replaced": f"{OFCTL} add-flow br-mcast cookie=7,table=30,priority=1,dl_vlan=100,actions=drop",  # noqa: E501
    "VXLAN port deleted": f"ovs-vsctl del-port {PORT}",
    "VXLAN port changed": f"ovs-vsctl set interface {PORT} options:dst_port=4790",
    "VXLAN port renumbered": f"ovs-vsctl set interface {PORT} ofport_request=77",
    "patch port deleted": f"ovs-vsctl del-port {PATCH}",
    "patch port tagged": f"ovs-vsctl set port {PATCH} tag=7",
    "bridge deleted": "ovs-vsctl del-br br-mcast",
    "bridge changed": "ovs-vsctl set-fail-mode br-mcast standalone",
    "route deleted": "ip route del 239.0.0.1 dev $UNDERLAY",
    "link down and up": "ip link set $UNDERLAY down; ip link set $UNDERLAY up",
}  # fmt: skip


def kept(node: Node) -> State:
    """Return all but the fields that a recreated row has new: its UUID, a bridge's own address."""
    return {name: lines for name, lines in node.state().items() if name not in {"ovsdb", "links"}}


def harm(node: Node, script: str) -> None:
    node.sh(script.replace("$UNDERLAY", node.host.underlay))


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_put_back(either: Node, fault: str) -> None:
    """Each kind of fault is repaired: the host is as it was.

    h1 (something of ours goes)
    """
    with running(either) as agent:
        before = kept(either)
        harm(either, FAULTS[fault])
        agent.puts_back()
        assert difference(before, kept(either)) == []


@pytest.mark.parametrize("method", ["autojoin", "repaired", "peer"])
def test_an_address_is_put_back(system: Node, method: str) -> None:
    """The methods that the kernel holds: the address goes, the local route comes back, link down.

    h1 (ip address del; ip route add local; ip link set down, up)
    """
    with running(system, configuration(system, membership=method)) as agent:
        before = system.state()
        shown = system.sh("ip -o address show dev eth0 | grep -F 239.0.0.1 | grep -o 'inet .*/32'")
        local, _, rest = shown.removeprefix("inet ").strip().partition(" peer ")
        system.sh(f"ip address del {local} {f'peer {rest}' if rest else ''} dev eth0")
        agent.puts_back("put back")
        assert difference(before, system.state()) == []
        if method == "repaired":
            system.sh("ip route add local 239.0.0.1 dev eth0 table local")
            agent.puts_back("put back")
            assert local_routes(system) == ""
        system.sh("ip link set eth0 down; ip link set eth0 up")
        assert eventually(lambda: difference(before, system.state()) == [])
        assert_true(system)


def test_the_vtep_address_goes_and_comes(either: Node) -> None:
    """Without a source address it retries, reports that once, and recovers with the address.

    h1 (ip address del; later add)
    """
    underlay, vtep = either.host.underlay, either.host.vtep
    with running(either) as agent:
        before = either.state()
        either.sh(f"ip address del {vtep}/24 dev {underlay}")
        agent.waits_for(f"{underlay} has no IPv4 address")
        agent.waits_for("event: retry", times=3)
        either.sh(f"ip address add {vtep}/24 dev {underlay}")
        agent.puts_back("recovered")
        assert agent.count("has no IPv4 address") == 1
        assert difference(before, either.state()) == []


def test_the_local_route_of_ipv6(ipv6: Node) -> None:
    """The agent restores the route of an IPv6 group in table local.

    h1 (fd00::…, group ff05::7:1; the address goes and comes back)
    """
    text = configuration(ipv6, {"vni": 100, "group": "ff05::7:1"})
    with running(ipv6, text) as agent:
        before = ipv6.state()
        ipv6.sh("ip -6 route del multicast ff05::7:1 dev eth0 table local")
        agent.puts_back("put back")
        assert difference(before, ipv6.state()) == []


def test_what_is_not_ours_brings_no_reconcile(either: Node) -> None:
    """Hundreds of devices, routes, ports and learned flows of others: no reconcile for any.

    h1 (much happens that is not ours; then a route of ours goes)
    """
    cookie = hex(ownership.cookie("default", vlan=100, vni=100, learned=True))
    with running(either) as agent:
        reconciles = agent.reconciles()
        learned = "\n".join(
            f"cookie={cookie},table=20,priority=1,vlan_tci=0x64/0xfff,"
            f"dl_dst=02:00:00:00:{number >> 8:02x}:{number & 255:02x},actions=output:2"
            for number in range(500)
        )
        either.host.run(*f"{OFCTL} add-flows br-mcast -".split(), stdin=learned)
        either.sh(
            "ip link add dummy7 type veth peer name dummy8; ip address add 10.77.0.1/24 dev dummy7;"
            "ip link set dummy7 up; ip route add 10.78.0.0/24 dev dummy7;"
            "ip route add 239.77.0.1 dev dummy7; ip address add 239.77.0.2/32 dev dummy7 autojoin;"
            f"{OFCTL} add-flow br-int priority=7,dl_vlan=7,actions=drop;"
            f"{OFCTL} del-flows br-int priority=7,dl_vlan=7 --strict;"
            "ovs-vsctl add-port br-int dummy7; ovs-vsctl del-port dummy7; ip link del dummy7;"
            f"ovs-ofctl -O OpenFlow14 del-flows br-mcast 'table=20,cookie={cookie}/-1'"
        )
        harm(either, "ip route del 239.0.0.1 dev $UNDERLAY")
        agent.puts_back("put back")
        assert reconciles + 1 <= agent.reconciles() <= reconciles + 2


def test_the_groups_are_held_by_the_agent(net: Net, either: Node) -> None:
    """It takes over from a keeper, holds the groups, and leaves a keeper: no group is left.

    h1 (setup's keeper; agent; keeper) ─ port of the switch: no leave
    """
    with net.membership_wire(either) as wire:
        write(either, configuration(either))
        either.built("--config", CONFIG)
        assert len(keepers(either)) == 1
        wire.wait_joined("239.0.0.1")
        with running(either):
            assert keepers(either) == {}
            assert members(either) == {"239.0.0.1", "239.0.0.2"}
            assert wire.left() == []
        assert len(keepers(either)) == 1
        assert wire.left() == []
        assert_true(either)


def test_probes_are_answered(net: Net, system: Node) -> None:
    """With --respond a process of its own answers; killed, it is started again; it ends with it.

    l1 (probe send --expect h1) ─ switch ─ h1 (agent --respond)
    """

    def answered() -> bool:
        send = f"{sys.executable} -m ovs_mcast.probe send --device eth0 --group 239.0.0.1"
        done = net.l1.run(
            *send.split(), "--count=3", f"--expect={system.host.vtep}",
            env={"PYTHONPATH": str(Path(__file__).parents[2])}, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def responders() -> list[str]:
        shown = system.sh("ps -ewwo pid,args | grep '[o]vs_mcast.agent.responder' || true")
        return [line.split()[0] for line in shown.splitlines()]

    with running(system, "", "--respond") as agent:
        assert eventually(answered, seconds=30)
        [first] = responders()
        system.sh(f"kill -9 {first}")
        assert eventually(lambda: first not in responders())

        def again() -> bool:
            agent.send(signal.SIGHUP)
            return bool(responders())

        assert eventually(again, seconds=30)
        assert eventually(answered, seconds=30)
    assert eventually(lambda: responders() == [])
