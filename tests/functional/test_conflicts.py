"""A conflict is named before anything is touched: exit 2.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import pytest

from ovs_mcast.lab import Host, Lab
from tests.functional.agents import CONFIG, running
from tests.functional.node import Node, difference
from tests.functional.wire import eventually, frame, hears, wait_for_members

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENT = ("--segment", "100,group=239.0.0.1")
MEMBERSHIPS = "/proc/sys/net/ipv4/igmp_max_memberships"
ADD_BRIDGE = "ovs-vsctl add-br {0} -- set bridge {0} datapath_type=netdev"
FLOW_BASED = "type=vxlan options:remote_ip=flow options:key=flow"

# What is there, how it goes, the arguments, and the words that name it.
CONFLICTS = {
    "another controller's port": (
        f"{ADD_BRIDGE.format('br-tun')} -- add-port br-tun theirs -- set interface theirs"
        f" {FLOW_BASED}",
        "ovs-vsctl del-br br-tun",
        SEGMENT,
        ["theirs on br-tun", "UDP port 4789"],
    ),
    "another controller's port, not the usual one": (
        f"{ADD_BRIDGE.format('br-tun')} -- add-port br-tun theirs -- set interface theirs"
        f" {FLOW_BASED} options:dst_port=8472 options:local_ip=flow",
        "ovs-vsctl del-br br-tun",
        (*SEGMENT, "--udp-port", "8472"),
        ["theirs on br-tun", "UDP port 8472"],
    ),
    "a Linux vxlan device": (
        "ip link add vx7 type vxlan id 7 group 239.7.7.7 dev br-phy dstport 4789;"
        " ip link set vx7 up",
        "ip link del vx7",
        SEGMENT,
        ["vx7", "UDP port 4789"],
    ),
    "a bridge that has the tunnel bridge's name": (
        ADD_BRIDGE.format("br-mcast"),
        "ovs-vsctl del-br br-mcast",
        SEGMENT,
        ["tunnel_bridge", "br-mcast exists and is not ours"],
    ),
    "a br-int on the kernel's datapath": (
        "ovs-vsctl --no-wait add-br br-int",
        "ovs-vsctl --no-wait del-br br-int",
        SEGMENT,
        ["datapath", "br-int exists on the system datapath"],
    ),
    "no such device": ("true", "true", (*SEGMENT, "--underlay", "eth9"), ["eth9"]),
    "no such address": ("true", "true", (*SEGMENT, "--vtep", "10.9.9.9"), ["10.9.9.9", "br-phy"]),
    "the address of another device": (
        "ip link add nic type veth peer name cin; ip address add 10.9.9.9/24 dev nic",
        "ip link del nic",
        (*SEGMENT, "--vtep", "10.9.9.9"),
        ["10.9.9.9", "br-phy"],
    ),
    "the NIC, not its bridge": (
        "true",
        "true",
        (*SEGMENT, "--underlay", "eth0", "--datapath", "netdev"),
        ["eth0", "br-phy"],
    ),
    "the group as a plain address": (
        "ip address add 239.0.0.1/32 dev br-phy",
        "ip address del 239.0.0.1/32 dev br-phy",
        SEGMENT,
        ["239.0.0.1", "br-phy"],
    ),
    "a port that has the name of ours": (
        f"{ADD_BRIDGE.format('br-tun')} -- add-port br-tun vxlan-0eec1"
        " -- set interface vxlan-0eec1 type=internal",
        "ovs-vsctl del-br br-tun",
        SEGMENT,
        ["vxlan-0eec1 on br-tun"],
    ),
}


def _received(host: Host, port: str) -> int:
    """Return how many packets Open vSwitch has received on a port."""
    return int(host.vsctl("get", "interface", port, "statistics:rx_packets"))


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Node:
    """One host for all: nothing is ever changed on it."""
    node: Node = request.getfixturevalue("hosts").take()
    return node


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_is_named(shared: Node, conflict: str) -> None:
    """Setup and --dry-run exit 2 and name the conflict; the machine stays as it is.

    h1, with what is in the way
    """
    comes, goes, arguments, words = CONFLICTS[conflict]
    shared.sh(comes)
    try:
        before, number = shared.state(), shared.next_cfg()
        for more in ((), ("--dry-run",)):
            result = shared.setup(*arguments, *more)
            assert result.status == 2, result.stderr
            assert (result.report["changed"], result.report["verified"]) == (False, False)
            for word in words:
                assert word in result.problems
        assert (difference(before, shared.state()), shared.next_cfg()) == ([], number)
    finally:
        shared.sh(goes)


def test_another_udp_port_is_the_way_out(node: Node) -> None:
    """An overlay on UDP port 4790 works while another controller has a flow-based port on 4789.

    br-tun ─ theirs (UDP port 4789)      br-mcast ─ vxlan (UDP port 4790)
    """
    node.sh(
        f"{ADD_BRIDGE.format('br-tun')} -- add-port br-tun theirs -- set interface theirs"
        f" {FLOW_BASED}"
    )
    there = node.state()
    node.built(*SEGMENT, "--udp-port", "4790")
    node.torn_down()
    assert difference(there, node.state()) == []
    node.sh("ovs-vsctl del-br br-tun")


@pytest.mark.parametrize("local", ["", " options:local_ip=239.0.0.1"], ids=["any", "group"])
def test_a_port_to_one_peer_takes_what_the_peer_sends(lab: Lab, local: str) -> None:
    """Setup and status say that a peer does not reach us, exit 3, and name the cures.

    h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ switch ─ l1; br-tun ─ mesh (remote_ip l1)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group="239.0.0.1")
    assert host.setup(*SEGMENT).status == 0
    wait_for_members(lab, "239.0.0.1", {"h1", "l1"})
    mesh = f"type=vxlan options:key=flow options:remote_ip={peer.vtep}{local}"
    host.run(
        "sh", "-ec",
        f"{ADD_BRIDGE.format('br-tun')} -- add-port br-tun mesh -- set interface mesh {mesh}",
    )  # fmt: skip
    with hears(lab, here) as heard:
        there.send(frame(there.mac))
        assert eventually(lambda: _received(host, "mesh") > 0)
        assert heard.seen() == []
        done = host.setup(*SEGMENT)
        assert (done.status, done.report["verified"]) == (3, False)
        assert f"mesh on br-tun takes what {peer.vtep} sends" in done.stderr
        assert "udp_port" in done.stderr
        host.vsctl("set", "interface", "mesh", "options:local_ip=10.7.7.7")
        assert host.setup(*SEGMENT).status == 0
        arrives = frame(there.mac)
        there.send(arrives)
        assert heard.wait(1) == [arrives]


@pytest.mark.either_datapath
def test_a_device_that_comes_later_is_a_warning(node: Node) -> None:
    """Setup --dry-run names it and exits 0; the agent goes on with its repairs.

    h1 (agent): br-int ═ br-mcast ─ vxlan (UDP port 4789) ─ eth0; vx7 (UDP port 4789, made later)
    """
    with running(node) as agent:
        # The kernel's datapath has the port: there vx7 cannot come up.
        at = f"dev {node.host.underlay} dstport 4789 remote 10.9.9.9"
        node.sh(f"ip link add vx7 type vxlan id 7 {at}; ip link set vx7 up || true")
        agent.waits_for("the Linux vxlan device vx7 is on UDP port 4789 too")
        found = node.setup("--config", CONFIG, "--dry-run")
        assert found.status == 0
        node.sh("ovs-ofctl -O OpenFlow14 del-flows br-mcast")
        agent.puts_back()
        node.sh("ip link del vx7")
    node.torn_down()


def test_another_overlay_of_ours(node: Node) -> None:
    """A second overlay on the same UDP port, bridge or group is refused, and the first is named.

    h1: overlay blue, group 239.0.0.1
    """
    node.built(*SEGMENT, "--name", "blue")
    there = node.state()
    apart = ("--tunnel-bridge", "br-two", "--udp-port", "4790")
    other = ("--segment", "200,group=239.0.0.2")
    same_port = node.setup(*other, "--tunnel-bridge", "br-two")
    same_bridge = node.setup(*other, "--udp-port", "4790")
    same_group = node.setup("--segment", "200,group=239.0.0.1", *apart)
    assert [r.status for r in (same_port, same_bridge, same_group)] == [2, 2, 2]
    assert "UDP port 4789" in same_port.problems
    assert "blue" in same_port.problems
    assert "overlay blue's" in same_bridge.problems
    assert "239.0.0.1 on br-phy belongs to another overlay" in same_group.problems
    assert difference(there, node.state()) == []
    node.built(*other, *apart)
    node.torn_down()
    assert difference(there, node.state()) == []
    node.torn_down("blue")


def test_more_groups_than_the_kernel_holds(node: Node) -> None:
    """21 groups, or fewer with the user's own autojoin addresses: the sysctl, named, is the cure.

    h1 (239.9.0.1 to 239.9.0.3 joined by the user), net.ipv4.igmp_max_memberships=20
    """
    pool = ("--groups", "239.1.0.0/24")
    segments = [part for vni in range(1, 19) for part in ("--segment", str(vni))]
    node.sh("for n in 1 2 3; do ip address add 239.9.0.$n/32 dev br-phy autojoin; done")
    before = node.state()
    refused = node.setup(*pool, *segments)
    assert refused.status == 2
    assert "net.ipv4.igmp_max_memberships=21" in refused.problems
    assert difference(before, node.state()) == []
    node.built(*pool, *segments[:-2])
    more = node.setup(*pool, *segments)
    assert (more.status, "net.ipv4.igmp_max_memberships=21" in more.problems) == (2, True)
    node.sh(f"echo 21 >{MEMBERSHIPS}")
    node.built(*pool, *segments)
    node.torn_down()
    node.sh(f"echo 20 >{MEMBERSHIPS}")
    assert difference(before, node.state()) == []
    node.built("--groups", "239.1.0.0/30", *segments)
    node.torn_down()
    node.sh("for n in 1 2 3; do ip address del 239.9.0.$n/32 dev br-phy; done")
