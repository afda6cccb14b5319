"""Teardown gives the machine back exactly, and never touches what is not ours.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import pytest

from ovs_mcast.core import ownership
from tests.functional.node import Node, difference, lost

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENTS = ("--segment", "100,group=239.0.0.1", "--segment", "101,group=239.0.0.2")
SUFFIX = ownership.suffix("default")

# What an operator may have there, as close to ours as can be, and how it is taken away again.
FOREIGN = """
    ovs-vsctl add-br br-int -- set bridge br-int datapath_type=netdev external_ids:owner=nova \
        -- br-set-external-id br-int bridge-id br-int \
        -- add-port br-int tap1 tag=7 -- set interface tap1 type=internal external_ids:iface-id=a \
        -- add-port br-int patch-mine -- set interface patch-mine type=patch options:peer=patch-my \
        -- add-br br-my -- set bridge br-my datapath_type=netdev fail_mode=secure \
        -- add-port br-my patch-my -- set interface patch-my type=patch options:peer=patch-mine \
        -- add-port br-my mesh1 -- set interface mesh1 type=vxlan options:remote_ip=10.0.0.77 \
           options:key=77 options:dst_port=4789
    ovs-ofctl add-flow br-int cookie=0x7,priority=7,dl_vlan=7,actions=drop
    ovs-ofctl add-flow br-phy cookie=0x6d6d,priority=64000,udp,nw_dst=239.0.0.1,actions=NORMAL
    ovs-ofctl add-flow br-phy priority=1,icmp,actions=NORMAL
    ip address add 10.0.77.1/24 dev br-phy label br-phy:x
    ip address add 239.0.0.2/32 dev br-phy autojoin
    ip address add 239.0.0.77/32 dev br-phy autojoin
    ip address add 239.0.0.78/32 dev lo
    ip route add 239.0.0.1/32 dev br-phy metric 50
    ip route add 239.0.0.0/24 dev br-phy
    ip route add 239.0.0.2/32 dev br-phy src 10.0.77.1 table 77
    ip rule add to 239.0.0.2/32 lookup 77 priority 77
    ip link add mine type veth peer name theirs
    ip link set mine up
"""
NOT_FOREIGN = """
    ovs-vsctl del-br br-my -- del-br br-int
    ovs-ofctl del-flows br-phy
    ovs-ofctl add-flow br-phy priority=0,actions=NORMAL
    ip rule del priority 77
    ip route flush table 77
    ip route del 239.0.0.0/24 dev br-phy
    ip route del 239.0.0.1/32 dev br-phy metric 50
    ip address del 239.0.0.78/32 dev lo
    ip address del 239.0.0.77/32 dev br-phy
    ip address del 239.0.0.2/32 dev br-phy
    ip address del 10.0.77.1/24 dev br-phy
    ip link del mine
"""


@pytest.mark.either_datapath
def test_a_machine_is_given_back(node: Node) -> None:
    """Setup and teardown: links, addresses, routes, rules, groups, rows and flows as before."""
    before = node.state()
    node.built(*SEGMENTS)
    assert lost(before, node.state()) == []
    assert node.torn_down().report["changed"] is True
    assert difference(before, node.state()) == []


def test_what_is_not_ours_stays(node: Node) -> None:
    """Foreign ports, tags, flows, ids, addresses, routes and rules stay, during and after.

    tap1 (tag 7) ─ br-int (the user's) ─ patch ─ br-my ─ mesh1, with 239.0.0.2 joined by the user
    """
    node.sh(FOREIGN)
    before = node.state()
    done = node.built(*SEGMENTS)
    assert "add bridge br-int" not in done.changes
    assert "add address 239.0.0.2/32 dev br-phy autojoin" not in done.changes
    assert done.report["segments"]["101"]["joined_by"] == "autojoin"
    assert lost(before, node.state()) == []
    assert node.built(*SEGMENTS).changes == []
    changed = node.built(*SEGMENTS, "--ttl", "9", "--udp-port", "4790", "--aging", "9")
    assert changed.changes
    assert lost(before, node.state()) == []
    node.torn_down()
    assert difference(before, node.state()) == []
    node.sh(NOT_FOREIGN)


@pytest.mark.either_datapath
def test_the_bridge_for_workloads_is_the_operators_too(node: Node) -> None:
    """A br-int made by setup keeps the fail_mode, controller and flows that an operator gave it.

    Open vSwitch deletes all flows of a bridge that becomes secure, the guard too.

    h1: br-int (secure, a controller, two flows of the operator) ═ br-mcast
    """
    node.built(*SEGMENTS)
    node.sh(
        "ovs-vsctl set-fail-mode br-int secure -- set-controller br-int tcp:127.0.0.1:1;"
        " ovs-ofctl add-flow br-int cookie=0x5,priority=5,dl_vlan=9,actions=drop;"
        " ovs-ofctl add-flow br-int cookie=0x5,priority=0,actions=NORMAL"
    )
    again = node.built(*SEGMENTS)
    assert again.changes == ["add flow VXLAN of workloads to this host → drop"]
    again = node.built(*SEGMENTS)
    assert (again.report["changed"], again.changes) == (False, [])
    flows = node.host.ofctl("--no-stats", "dump-flows", "br-int")
    before = node.state()
    assert flows.count("cookie=0x5, ") == 2
    node.built(*SEGMENTS, "--segment", "102,group=239.0.0.3")
    node.built(*SEGMENTS)
    assert node.host.ofctl("--no-stats", "dump-flows", "br-int") == flows
    assert difference(before, node.state()) == []
    node.torn_down()


def test_a_bridge_of_ours_is_kept_for_the_users_port(node: Node) -> None:
    """Teardown keeps and unmarks a br-int of ours that holds a port of the user, and reports it.

    tap1 ─ br-int (ours) ═ br-mcast
    """
    node.built(*SEGMENTS)
    node.sh("ovs-vsctl add-port br-int tap1 tag=7 -- set interface tap1 type=internal")
    gone = node.torn_down()
    kept = [change for change in gone.report["changes"] if change["target"] == "br-int"]
    assert [(change["action"], change["reason"]) for change in kept] == [
        ("update", "kept, it holds tap1")
    ]
    assert node.host.vsctl("list-ports", "br-int").split() == ["tap1"]
    assert node.host.vsctl("get", "bridge", "br-int", "external_ids").strip() == "{}"
    there = node.state()
    assert node.torn_down().changes == []
    assert difference(there, node.state()) == []
    assert node.built(*SEGMENTS).status == 0
    node.torn_down()
    assert difference(there, node.state()) == []


def test_nothing_to_tear_down(node: Node) -> None:
    """On a clean machine, without a configuration: exit 0, and nothing has changed."""
    before, number = node.state(), node.next_cfg()
    for name in ("default", "never-heard-of"):
        gone = node.torn_down(name)
        assert (gone.report["changed"], gone.report["overlay"]) == (False, name)
    assert (difference(before, node.state()), node.next_cfg()) == ([], number)


def test_another_overlay_is_named(node: Node) -> None:
    """--teardown of an unknown name changes nothing and names the overlay that exists.

    h1: overlay blue
    """
    node.built(*SEGMENTS, "--name", "blue")
    there = node.state()
    gone = node.torn_down()
    assert gone.changes == []
    assert "--name: blue" in gone.stderr
    assert difference(there, node.state()) == []
    node.torn_down("blue")


@pytest.mark.parametrize(
    "damage",
    [
        "ovs-vsctl del-br br-mcast",
        "ovs-vsctl del-br br-int",
        f"ovs-vsctl del-port patch-tun-{SUFFIX} -- del-port vxlan-{SUFFIX}",
        "ovs-ofctl del-flows br-mcast; ovs-ofctl del-flows br-phy cookie=0x6d/0",
        "ip address del 239.0.0.1/32 dev br-phy; ip route del 239.0.0.2/32 dev br-phy",
        "ip link set br-phy down; ip link set br-phy up",
    ],
)
def test_a_ruin_is_torn_down(node: Node, damage: str) -> None:
    """An overlay with parts missing is torn down wholly, without a complaint."""
    before = node.state()
    node.built(*SEGMENTS)
    node.sh(damage)
    node.torn_down()
    flows = {"flows br-phy"} if "del-flows br-phy" in damage else set()
    after = node.state()
    left = [line for line in difference(before, after) if "flows br-phy" not in line or not flows]
    assert left == []
    assert "cookie=0x6d" not in str(after)


def test_two_overlays_go_one_after_the_other(node: Node) -> None:
    """Two overlays on one br-int: the first takes only its own away, the second leaves nothing.

    br-int ═ br-mcast ─ vxlan 4789 ─ br-phy      overlay default
    br-int ═ br-blue ─ vxlan 4790 ─ br-phy       overlay blue
    """
    before = node.state()
    blue = ("--name", "blue", "--tunnel-bridge", "br-blue", "--udp-port", "4790")
    segment = ("--segment", "200,group=239.0.0.200")
    node.built(*SEGMENTS)
    node.built(*blue, *segment)
    node.torn_down()
    assert node.built(*blue, *segment).report["verified"] is True
    node.torn_down("blue")
    assert difference(before, node.state()) == []
