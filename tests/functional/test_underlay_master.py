"""An underlay device that is a port of a bridge or bond, which takes its frames.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 ─ (br0 | bond0 | br-ex)
"""

from __future__ import annotations

import pytest

from tests.functional.agents import running
from tests.functional.node import Node, difference

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

GIVEN = ("--underlay", "eth0", "--segment", "100,group=239.0.0.1", "--membership", "autojoin")
BRIDGE = ("ip link add br0 type bridge; ip link set eth0 master br0", "ip link del br0", "br0")
BOND = (
    "modprobe -q bonding max_bonds=0 || true;"
    " ip link add bond0 mtu $(cat /sys/class/net/eth0/mtu) type bond;"
    " ip link set eth0 down; ip link set eth0 master bond0; ip link set eth0 up",
    "ip link del bond0; ip link set eth0 up",
    "bond0",
)
OPEN_VSWITCH = ("ovs-vsctl add-br br-ex -- add-port br-ex eth0", "ovs-vsctl del-br br-ex", "br-ex")
MOVED = "; ip address del {0} dev eth0; ip address add {0} dev {1}"
MOVED_BACK = "ip address replace {0} dev eth0; "


@pytest.mark.either_datapath
@pytest.mark.parametrize("moved", [False, True], ids=["address-on-eth0", "address-on-master"])
def test_a_port_of_a_bridge_is_refused(system: Node, moved: bool) -> None:
    """Setup exits 2, names the bridge or bond, and touches nothing, wherever the address is.

    h1, whose eth0 is a port of a Linux bridge, of a bond or of an Open vSwitch bridge
    """
    address = system.host.addresses[0]
    # A bond, and what takes frames in Open vSwitch, are the kernel's own: no dummy has them.
    masters = [BRIDGE, BOND, OPEN_VSWITCH] if system.host.kind == "kernel" else [BRIDGE]
    for comes, goes, name in masters:
        system.sh(comes + (MOVED.format(address, name) if moved else ""))
        try:
            before = system.state()
            refused = system.setup(*GIVEN)
            assert refused.status == 2, refused.stderr
            assert f"underlay.device: eth0 is a port of {name}" in refused.problems
            assert f"name {name}" in refused.problems
            assert difference(before, system.state()) == []
        finally:
            system.sh(goes)
            system.sh(MOVED_BACK.format(address))


# What makes the device, on the kernel under test; its name, and what setup says of it.
LOOPBACK = ("ip link set lo up", "true", "lo", "lo carries no multicast to other hosts")
OF_THE_KERNEL = (
    ("ip link add dum0 type dummy", "ip link del dum0", "dum0", "dum0 is a device of kind dummy"),
    (
        "ip link add ipv0 link eth0 type ipvlan mode l3s",
        "ip link del ipv0",
        "ipv0",
        "ipv0 is a device of kind ipvlan l3s",
    ),
    (
        "ip link add red type vrf table 10; ip link set red up; ip link add dum0 type dummy;"
        " ip link add mac0 link eth0 type macvlan; ip link set mac0 master red",
        "ip link del mac0; ip link del dum0; ip link del red;"
        " for family in -4 -6; do ip $family rule del pref 1000; done",
        "mac0",
        "mac0 is in VRF red",
    ),
)


@pytest.mark.either_datapath
def test_a_device_that_cannot_carry_groups_is_refused(system: Node) -> None:
    """Setup exits 2, names the device and the reason, and touches nothing.

    h1: lo, a dummy device, an ipvlan device in mode l3s, a device in a VRF
    """
    devices = [LOOPBACK, *(OF_THE_KERNEL if system.host.kind == "kernel" else ())]
    for comes, goes, device, reason in devices:
        system.sh(comes)
        system.sh(f"ip address add 10.77.0.1/24 dev {device}; ip link set {device} up")
        try:
            before = system.state()
            refused = system.setup("--underlay", device, *GIVEN[2:])
            assert refused.status == 2, refused.stderr
            assert f"underlay.device: {reason}" in refused.problems
            assert difference(before, system.state()) == []
        finally:
            system.sh(f"ip address del 10.77.0.1/24 dev {device}; {goes}")


@pytest.mark.either_datapath
def test_a_vtep_of_another_device_is_refused(system: Node) -> None:
    """Setup exits 2 and names the device that has the address.

    h1: eth0, and the VTEP on lo
    """
    system.sh("ip address add 10.77.0.1/32 dev lo")
    try:
        refused = system.setup(*GIVEN, "--vtep", "10.77.0.1")
        assert refused.status == 2
        assert "underlay.vtep: eth0 does not have 10.77.0.1: lo has it" in refused.problems
    finally:
        system.sh("ip address del 10.77.0.1/32 dev lo")


@pytest.mark.either_datapath
def test_a_device_that_becomes_a_port_later_is_a_problem(system: Node) -> None:
    """A NIC enslaved under an overlay is reported by status and agent; released, all is well.

    h1 (agent), whose eth0 becomes a port of br0 and is released again
    """
    comes, goes, name = BRIDGE
    with running(system) as agent:
        system.sh(comes)
        agent.waits_for(f"eth0 is a port of {name}")
        assert f"eth0 is a port of {name}" in system.setup(*GIVEN).problems
        system.sh(goes)
        agent.puts_back("recovered")
