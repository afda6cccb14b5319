"""Damage is seen, named and repaired; what cannot be repaired is reported.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch      (every test: VNI 100, VNI 101)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_mcast.core import ownership
from tests.functional.node import Node, difference, wrapper

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENTS = ("--segment", "100,group=239.0.0.1", "--segment", "101,group=239.0.0.2")
SUFFIX = ownership.suffix("default")
METRIC = ownership.metric("default")
PATCH_INT, PATCH_TUN, VXLAN = f"patch-int-{SUFFIX}", f"patch-tun-{SUFFIX}", f"vxlan-{SUFFIX}"

# What is done by hand, and the changes that repair it; @ is the VTEP.
DAMAGES = {
    "address deleted": (
        "ip address del 239.0.0.1/32 dev br-phy",
        ["add address 239.0.0.1/32 dev br-phy autojoin"],
    ),
    "address without autojoin": (
        "ip address del 239.0.0.1/32 dev br-phy; ip address add 239.0.0.1/32 dev br-phy"
        f" metric {METRIC} scope host",
        ["update address 239.0.0.1/32 dev br-phy autojoin"],
    ),
    "route deleted": (
        "ip route del 239.0.0.2/32 dev br-phy",
        ["add route 239.0.0.2 dev br-phy"],
    ),
    "route altered": (
        "ip address add 10.0.9.1/32 dev lo;"
        f"ip route replace 239.0.0.2/32 dev br-phy metric {METRIC} proto 109 src 10.0.9.1",
        ["update route 239.0.0.2 dev br-phy"],
    ),
    "flow deleted": (
        "ovs-ofctl del-flows br-mcast table=15,tun_id=100",
        ["add flow VNI 100 → vlan 100"],
    ),
    "flow altered": (
        "ovs-ofctl -OOpenFlow14 mod-flows br-mcast"
        " table=30,dl_vlan=101,actions=set_field:239.0.0.9-\\>tun_dst,output:2",
        ["* flow vlan 101 → 239.0.0.2"],
    ),
    "flow of the underlay deleted": (
        "ovs-ofctl del-flows br-phy arp,in_port=LOCAL,arp_tpa=239.0.0.2,arp_op=1",
        ["add flow ARP for 239.0.0.2 → 01:00:5e:00:00:02"],
    ),
    "port deleted": (f"ovs-vsctl del-port {VXLAN}", [f"add port {VXLAN} on br-mcast"]),
    "port altered": (
        f"ovs-vsctl set interface {VXLAN} options:dst_port=4799",
        [f"update port {VXLAN} on br-mcast"],
    ),
    "port given an option": (
        f"ovs-vsctl set interface {VXLAN} options:in_key=7",
        [f"update port {VXLAN} on br-mcast"],
    ),
    "OpenFlow port altered": (
        f"ovs-vsctl set interface {VXLAN} ofport_request=9",
        [f"update port {VXLAN} on br-mcast"],
    ),
    "patch port deleted": (
        f"ovs-vsctl del-port {PATCH_TUN}",
        [f"add port {PATCH_TUN} on br-int"],
    ),
    "patch port altered": (
        f"ovs-vsctl set interface {PATCH_INT} options:peer=nobody",
        [f"update port {PATCH_INT} on br-mcast"],
    ),
    "patch port tagged": (
        f"ovs-vsctl set port {PATCH_TUN} tag=5",
        [f"update port {PATCH_TUN} on br-int"],
    ),
    "patch port moved": (
        f"ovs-vsctl -- --id=@port get port {PATCH_TUN} -- remove bridge br-int ports @port"
        " -- add bridge br-phy ports @port",
        [f"update port {PATCH_TUN} on br-int"],
    ),
    "bridge altered": ("ovs-vsctl set bridge br-mcast fail_mode=standalone", None),
    "bridge deleted": ("ovs-vsctl del-br br-int", None),
    "tunnel bridge deleted": ("ovs-vsctl del-br br-mcast", None),
    "all flows deleted": ("ovs-ofctl del-flows br-mcast", None),
    "underlay down and up": ("ip link set br-phy down; ip link set br-phy up", None),
}


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Node]:
    """One host for all damages: each is repaired."""
    node: Node = request.getfixturevalue("hosts").take()
    node.built(*SEGMENTS)
    yield node
    node.torn_down()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_repaired(shared: Node, damage: str) -> None:
    """--dry-run exits 4 with the repair, setup makes exactly it, and all is as it was before."""
    script, repair = DAMAGES[damage]
    before = shared.state()
    shared.sh(script)
    told = shared.setup("--dry-run", *SEGMENTS)
    assert told.status == 4, told.stderr
    if repair is not None:
        wanted = [line.replace("@", shared.host.vtep) for line in repair]
        loose = [f"* {line.partition(' ')[2]}" for line in told.changes]
        assert wanted in (told.changes, loose)
    assert shared.built(*SEGMENTS).changes == told.changes
    shared.sh("ip address del 10.0.9.1/32 dev lo 2>/dev/null || true")
    after = shared.state()
    assert difference(_flows_and_kernel(before), _flows_and_kernel(after)) == []


def _flows_and_kernel(state: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return all that has no identity of its own: rows and links may be made anew."""
    kinds = ("flows", "addresses", "routes", "rules", "igmp")
    return {name: lines for name, lines in state.items() if name.startswith(kinds)}


@pytest.mark.either_datapath
def test_open_vswitch_is_killed_and_started_again(node: Node) -> None:
    """Kill -9 of ovs-vswitchd takes flows along, and br-phy and its groups: setup puts all back.

    h1, whose provisioning gives br-phy its own address again
    """
    node.built(*SEGMENTS)
    before = node.state()
    node.host.stop_vswitchd()
    node.host.start_vswitchd()
    assert node.setup("--dry-run", *SEGMENTS).status == 4
    done = node.built(*SEGMENTS)
    assert not any(" bridge " in line for line in done.changes)
    mine = [line for line in _flows_and_kernel(before)["flows br-mcast"] if "0x6d" in line]
    assert node.state()["flows br-mcast"] == mine
    assert node.built(*SEGMENTS).changes == []
    node.torn_down()


def test_ovsdb_server_is_killed_and_started_again(node: Node) -> None:
    """Kill -9 of ovsdb-server, started again: nothing is lost, and nothing to do."""
    node.built(*SEGMENTS)
    node.host.stop_ovsdb()
    node.host.start_ovsdb()
    assert node.built(*SEGMENTS).changes == []
    node.torn_down()


# What is applied, read back, and not as wanted: exit 3


def test_an_openflow_port_that_is_taken(dummy: Node) -> None:
    """Another port has the OpenFlow port of the VXLAN port, which gets a different one: exit 3.

    br-mcast ─ tap2 (a GRE port, OpenFlow port 2)
    """
    dummy.built(*SEGMENTS)
    dummy.sh(
        f"ovs-vsctl del-port {VXLAN}; ovs-vsctl add-port br-mcast tap2"
        " -- set interface tap2 type=gre options:remote_ip=10.0.0.77 ofport_request=2"
    )
    done = dummy.setup(*SEGMENTS)
    assert (done.status, done.report["verified"]) == (3, False)
    assert f"{VXLAN} on br-mcast has OpenFlow port" in done.problems
    assert f"add port {VXLAN} on br-mcast" in done.changes
    again = dummy.setup(*SEGMENTS)
    assert (again.status, again.changes) == (3, [])
    dummy.sh("ovs-vsctl del-port tap2")
    dummy.sh(f"ovs-vsctl del-port {VXLAN}")
    dummy.built(*SEGMENTS)
    dummy.torn_down()


def test_an_underlay_that_is_down(dummy: Node) -> None:
    """With the underlay down the rest is applied; exit 3 and the report name the link."""
    dummy.sh("ip link set eth0 down")
    done = dummy.setup(*SEGMENTS)
    assert (done.status, done.report["verified"]) == (3, False)
    assert "eth0 is down" in done.problems
    dummy.sh("ip link set eth0 up")
    dummy.built(*SEGMENTS)
    dummy.sh("ip link set eth0 down")
    done = dummy.setup(*SEGMENTS)
    assert (done.status, "eth0 is down" in done.problems) == (3, True)
    dummy.sh("ip link set eth0 up")
    dummy.built(*SEGMENTS)
    dummy.torn_down()


def test_a_change_that_fails(node: Node, tmp_path: Path) -> None:
    """ovs-ofctl refuses the bundle: exit 1 with what was made and what is left; then it completes.

    h1, with an ovs-ofctl in PATH that knows no bundles
    """
    before = node.state()
    path = wrapper(tmp_path, "ovs-ofctl", 'case "$*" in *--bundle*) echo no >&2; exit 1;; esac')
    done = node.setup(*SEGMENTS, env={"PATH": path})
    assert (done.status, done.report["verified"]) == (1, False)
    assert done.report["changed"] is True
    assert not any(" flow " in line for line in done.changes)
    assert "pending: run again" in done.problems
    assert all(" flow " in line for line in node.built(*SEGMENTS).changes)
    node.torn_down()
    assert difference(before, node.state()) == []
