"""Where Open vSwitch runs with --enable-dummy=system, all works but the frames.

h1: br-int ═ br-mcast ─ vxlan      eth0 ─ switch
"""

from __future__ import annotations

import pytest

from tests.functional.node import Node, difference, lost

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENTS = ("--segment", "100,group=239.0.0.1", "--segment", "5050,vlan=7,group=239.0.0.2")


def test_the_life_of_an_overlay(dummy: Node) -> None:
    """Dry run, setup, again, changed, dry run, teardown, again: statuses, report, and the machine.

    h1: VNI 100 (VLAN 100, 239.0.0.1), VNI 5050 (VLAN 7, 239.0.0.2, then 239.0.0.3)
    """
    before = dummy.state()
    assert dummy.setup("--dry-run", *SEGMENTS).status == 4
    built = dummy.built(*SEGMENTS)
    assert built.report["segments"] == {
        "100": {
            "vlan": 100, "group": "239.0.0.1", "joined_by": "autojoin", "send_path": "loopback"
        },
        "5050": {
            "vlan": 7, "group": "239.0.0.2", "joined_by": "autojoin", "send_path": "loopback"
        },
    }  # fmt: skip
    assert lost(before, dummy.state()) == []
    assert dummy.host.vsctl("get", "bridge", "br-mcast", "datapath_type").strip() == "system"
    assert dummy.built(*SEGMENTS).changes == []
    changed = dummy.built(*SEGMENTS[:2], "--segment", "5050,vlan=7,group=239.0.0.3")
    assert sorted(changed.changes) == [
        "add address 239.0.0.3/32 dev eth0 autojoin",
        "add flow VNI 5050 from 239.0.0.3",
        f"add route 239.0.0.3 dev eth0 src {dummy.host.vtep}",
        "remove address 239.0.0.2/32 dev eth0 autojoin",
        "remove flow br-mcast table 10 tun_id=0x13ba,tun_dst=239.0.0.2",
        f"remove route 239.0.0.2 dev eth0 src {dummy.host.vtep}",
        "update bridge br-mcast",
        "update flow vlan 7 → 239.0.0.3",
    ]
    assert dummy.setup("--dry-run", *SEGMENTS).status == 4
    assert dummy.setup("--dry-run", "--teardown").status == 4
    assert dummy.torn_down().report["changed"] is True
    assert dummy.torn_down().report["changed"] is False
    assert difference(before, dummy.state()) == []


def test_the_groups_are_joined_and_taken_to_lo(dummy: Node) -> None:
    """The kernel agrees with the report: the groups are joined, and ordinary sends go to lo."""
    report = dummy.built(*SEGMENTS).report
    for segment in report["segments"].values():
        group = segment["group"]
        assert f"inet  {group}" in dummy.sh("ip maddress show dev eth0")
        assert "dev lo" in dummy.sh(f"ip route get {group}")
        assert "dev eth0" in dummy.sh(f"ip route get {group} from {dummy.host.vtep}")
    dummy.torn_down()


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        ("ip address del 239.0.0.1/32 dev eth0", "add address 239.0.0.1/32 dev eth0 autojoin"),
        ("ip route del 239.0.0.1/32 dev eth0", "add route 239.0.0.1 dev eth0 src @"),
        ("ovs-ofctl del-flows br-mcast table=30,dl_vlan=7", "add flow vlan 7 → 239.0.0.2"),
    ],
)
def test_damage_is_repaired(dummy: Node, damage: str, repair: str) -> None:
    """An address, a route and a flow that were deleted come back, and nothing else changes."""
    dummy.built(*SEGMENTS)
    dummy.sh(damage)
    assert dummy.built(*SEGMENTS).changes == [repair.replace("@", dummy.host.vtep)]
    dummy.torn_down()


def test_open_vswitch_comes_back(dummy: Node) -> None:
    """After ovs-vswitchd was killed and started, setup restores the flows and nothing else."""
    dummy.built(*SEGMENTS)
    dummy.host.stop_vswitchd()
    assert dummy.setup(*SEGMENTS).status == 5
    dummy.host.start_vswitchd()
    done = dummy.built(*SEGMENTS)
    assert {line.split()[1] for line in done.changes} == {"flow"}
    dummy.torn_down()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--segment", "100"), "no pool"),
        (("--segment", "0,group=239.0.0.1"), "segments.0.vni"),
        (("--segment", "5050,group=239.0.0.1"), "name the VLAN"),
        (("--segment", "1,group=224.0.0.5"), "224.0.0.0/24"),
        (("--segment", "1,group=10.0.0.9"), "not a multicast address"),
        ((*SEGMENTS, "--segment", "100,group=239.0.0.9"), "segments.2.vni"),
        ((*SEGMENTS, "--bridge", "br-mcast"), "tunnel_bridge"),
        ((*SEGMENTS, "--ttl", "0"), "underlay.ttl"),
        ((*SEGMENTS, "--udp-port", "65536"), "underlay.udp_port"),
        ((*SEGMENTS, "--datapath", "paper", "--underlay", "eth0"), "datapath"),
    ],
)
def test_nonsense_is_refused(dummy: Node, arguments: tuple[str, ...], words: str) -> None:
    """An impossible overlay is refused: exit 2, the field is named, nothing is touched."""
    result = dummy.setup(*arguments)
    assert (result.status, result.report["changed"]) == (2, False)
    assert words in result.problems
