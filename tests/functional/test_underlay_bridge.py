"""The bridge that holds the NIC, with the VLANs and bonds that people have (userspace datapath).

workload ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ (trunk | two links) ─ … ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import eq

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_VLAN, decode_vxlan, tagged
from ovs_mcast.lab import Host, Lab, Workload
from ovs_mcast.lab.namespace import link_batch
from tests.functional.node import difference, state
from tests.functional.wire import (
    GROUP_1,
    GROUP_MAC,
    frame,
    hears,
    mac_of,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

MTU = 1600
VLAN = 100
SEGMENT = f"--segment=100,group={GROUP_1}"
USERSPACE = ("--datapath", "netdev")


def connect(lab: Lab, near: Host, device: str, far: Host, port: str) -> None:
    """Connect two hosts by a cable of their own."""
    link_batch(
        [
            f"link add {port} mtu {lab.mtu} type veth peer name {device} mtu {lab.mtu}"
            f" netns {near.pid}",
            f"link set {port} up",
        ],
        within=far,
    )
    bring_up(near, device)
    far.run("ethtool", "-K", port, "tx", "off")


def bring_up(host: Host, device: str) -> None:
    """Set a NIC up for the bridge that will hold it, as the README says."""
    host.run(
        "sh", "-ec",
        f"ethtool -K {device} tx off >/dev/null;"
        f" echo 1 >/proc/sys/net/ipv4/conf/{device}/arp_ignore; ip link set {device} up",
    )  # fmt: skip


def exchange(lab: Lab, here: Workload, there: Workload) -> None:
    """Broadcast from each side apart; fail unless the other side hears each frame once.

    A last frame shows that no copy of an earlier one is on its way.
    """
    for sender, hearer in ((there, here), (here, there)):
        sent = [frame(sender.mac) for _ in range(5)]
        last = frame(sender.mac)
        with hears(lab, hearer) as heard:
            for each in (*sent, last):
                sender.send(each)
            heard.wait(1, where=partial(eq, last))
            assert heard.seen()[:6] == [*sent, last]


class Trunk:
    """h1, whose br-phy holds a trunk to a switch of VLANs; the lab's switch is in VLAN 100 there.

    h1: br-phy ─ eth1 ─ trunk ─ h2 (a bridge) ─ eth0, tag 100 ─ switch ─ l1
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.host, self.vlans = lab.add_hosts(2)
        self.peer = lab.add_linux_host()
        self.vlans.run("ip", "address", "flush", "dev", "br-phy")
        connect(lab, self.host, "eth1", self.vlans, "trunk")
        self.vlans.vsctl("set", "port", "eth0", f"tag={VLAN}", "--", "add-port", "br-phy", "trunk")
        self.host.vsctl("del-port", "br-phy", "eth0", "--", "add-port", "br-phy", "eth1")
        self.here = self.host.add_workload(vlan=100)
        self.there = self.peer.add_segment(vni=100, group=GROUP_1)

    def set_up(self, device: str) -> None:
        """Set up the overlay; wait for the membership."""
        done = self.host.setup("--underlay", device, *USERSPACE, SEGMENT)
        assert (done.status, done.report["problems"]) == (0, []), done.stderr
        wait_for_members(self.lab, GROUP_1, {"h2", "l1"})

    def inject(self, device: str, vlan: int | None) -> bytes:
        """Put a group packet of the peer on the trunk, tagged or not; return the inner frame."""
        inner = frame("02:ee:00:00:00:01")
        outer = packet(
            self.peer.vtep, GROUP_1, 100, inner,
            eth=(mac_of(self.peer, "eth0"), GROUP_MAC[GROUP_1]),
        )  # fmt: skip
        if vlan is not None:
            outer = tagged(outer, ETHERTYPE_VLAN, vlan)
        with PacketSocket(device, namespace=self.vlans.pid) as wire:
            wire.send(outer)
        return inner


@pytest.fixture(scope="module")
def trunk() -> Iterator[Trunk]:
    """A host on a trunk, shared by the tests of VLANs; each tears its overlay down."""
    with Lab(kind="netdev", mtu=MTU) as lab:
        yield Trunk(lab)


# The underlay device, how it comes to be on VLAN 100, and how all is put back.
VTEPS = {
    "tag": ("br-phy", "ovs-vsctl set port br-phy tag=100", "ovs-vsctl clear port br-phy tag"),
    "native-untagged": (
        "br-phy",
        "ovs-vsctl set port br-phy vlan_mode=native-untagged tag=100 trunks=100,200",
        "ovs-vsctl clear port br-phy vlan_mode tag trunks",
    ),
    "internal-port": (
        "vtep0",
        "ovs-vsctl add-port br-phy vtep0 tag=100"
        f" -- set interface vtep0 type=internal mtu_request={MTU};"
        " ethtool -K vtep0 tx off >/dev/null; ip address del {0} dev br-phy;"
        " ip address add {0} dev vtep0; ip link set vtep0 up",
        "ovs-vsctl del-port vtep0; ip address add {0} dev br-phy",
    ),
}


@pytest.mark.parametrize("where", VTEPS)
def test_the_vtep_is_on_a_vlan_of_the_bridge(trunk: Trunk, where: str) -> None:
    """Broadcast passes both ways once each, of the VTEP's VLAN alone.

    h1: br-phy (the VTEP on VLAN 100) ─ trunk ─ VLAN 100 ─ switch ─ l1; VLAN 200 and none besides
    """
    device, comes, goes = VTEPS[where]
    address = trunk.host.addresses[0]
    trunk.host.run("sh", "-ec", comes.format(address))
    try:
        trunk.set_up(device)
        exchange(trunk.lab, trunk.here, trunk.there)
        with hears(trunk.lab, trunk.here) as heard:
            for vlan in (None, 200):
                trunk.inject("trunk", vlan)
            last = trunk.inject("trunk", VLAN)
            assert heard.wait(1) == [last]
    finally:
        trunk.host.setup("--teardown")
        trunk.host.run("sh", "-ec", goes.format(address))


def test_the_port_of_the_vtep_is_made_anew(trunk: Trunk) -> None:
    """An internal port that was removed and added has another number: setup repairs the flows.

    h1: br-phy ─ vtep0 (tag 100, removed and added) ─ trunk ─ VLAN 100 ─ switch ─ l1
    """
    device, comes, goes = VTEPS["internal-port"]
    address = trunk.host.addresses[0]
    trunk.host.run("sh", "-ec", comes.format(address))
    try:
        trunk.set_up(device)
        again = comes.format(address).replace(f"ip address del {address} dev br-phy;", "")
        number = trunk.host.vsctl("get", "interface", "vtep0", "ofport")
        trunk.host.run("sh", "-ec", f"ovs-vsctl del-port vtep0; {again}")
        assert trunk.host.vsctl("get", "interface", "vtep0", "ofport") != number
        trunk.set_up(device)
        exchange(trunk.lab, trunk.here, trunk.there)
    finally:
        trunk.host.setup("--teardown")
        trunk.host.run("sh", "-ec", goes.format(address))


@pytest.fixture
def bonded(lab: Lab) -> tuple[Lab, Host, Workload, Workload]:
    """A host with two links to the switch, which floods each group to both, and a peer."""
    host, peer = lab.add_host(), lab.add_linux_host()
    connect_second(lab, host)
    lab.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    return lab, host, here, there


def connect_second(lab: Lab, host: Host) -> None:
    """Give a host a second link to the switch, eth1; the switch's port is `second`."""
    link_batch(
        [
            f"link add second mtu {lab.mtu} master br0 type veth peer name eth1 mtu {lab.mtu}"
            f" netns {host.pid}",
            "link set second up",
        ],
        within=lab.switch,
    )
    bring_up(host, "eth1")


def bond(host: Host, mode: str) -> None:
    """Make a bond of eth0 and eth1 on br-phy, in the place of eth0."""
    host.vsctl(
        *("del-port", "br-phy", "eth0", "--", "add-bond", "br-phy", "bond0", "eth0", "eth1"),
        *([f"bond_mode={mode}"] if mode else []),
    )


def test_the_uplink_is_a_bond(bonded: tuple[Lab, Host, Workload, Workload]) -> None:
    """Each broadcast is heard once, though the switch sends a copy to both links.

    h1: br-phy ─ bond0 (active-backup) ═ eth0, eth1 ═ switch (no snooping) ─ l1
    """
    lab, host, here, there = bonded
    bond(host, "")
    done = host.setup("--underlay", "br-phy", *USERSPACE, SEGMENT)
    assert (done.status, done.report["problems"]) == (0, []), done.stderr
    vtep = lab.linux_hosts[0].vtep
    with (
        lab.capture(host, "eth0", decode_vxlan) as first,
        lab.capture(host, "eth1", decode_vxlan) as second,
    ):
        exchange(lab, here, there)
        for link in (first, second):
            assert [seen.source for seen in link.seen()].count(vtep) == 6


def test_a_bond_that_delivers_copies_is_refused(
    bonded: tuple[Lab, Host, Workload, Workload],
) -> None:
    """Setup names the bond, its mode and the cure, and touches nothing; then the overlay works.

    h1: br-phy ─ bond0 (balance-slb, then active-backup) ═ eth0, eth1 ═ switch ─ l1
    """
    lab, host, here, there = bonded
    bond(host, "balance-slb")
    before = state(host)
    refused = host.setup("--underlay", "br-phy", *USERSPACE, SEGMENT)
    assert refused.status == 2
    assert (
        "underlay.device: bond0, a port of br-phy, is a bond in mode balance-slb" in refused.stderr
    )
    assert "set bond_mode to active-backup" in refused.stderr
    assert difference(before, state(host)) == []
    host.vsctl("set", "port", "bond0", "bond_mode=active-backup")
    assert host.setup("--underlay", "br-phy", *USERSPACE, SEGMENT).status == 0
    exchange(lab, here, there)


class Operated:
    """h1, set up, whose br-phy an operator adds flows to, and l1."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.host, peer = lab, lab.add_host(), lab.add_linux_host()
        self.here = self.host.add_workload(vlan=100)
        self.there = peer.add_segment(vni=100, group=GROUP_1)
        assert self.set_up() == (0, [])
        wait_for_members(lab, GROUP_1, {"h1", "l1"})

    def set_up(self) -> tuple[int, list[str]]:
        """Run setup; return its status and what it says is wrong, without the flow."""
        done = self.host.setup("--underlay", "br-phy", *USERSPACE, SEGMENT)
        return done.status, [str(one).partition(": ")[0] for one in done.report["problems"]]

    def passes(self, comes: bool, leaves: bool) -> tuple[bool, bool]:
        """Broadcast from each side; return whether the overlay's workload hears, and the peer's.

        What is expected is waited for longer.
        """
        sent, answer = frame(self.there.mac), frame(self.here.mac)
        with hears(self.lab, self.here) as here, hears(self.lab, self.there) as there:
            self.there.send(sent)
            self.here.send(answer)
            return (
                sent in here.wait(2, timeout=10 if comes else 1),
                answer in there.wait(2, timeout=10 if leaves else 1),
            )


@pytest.fixture(scope="module")
def operated() -> Iterator[Operated]:
    """A host and a peer, shared by the tests of flows; each removes its flow."""
    with Lab(kind="netdev", mtu=MTU) as lab:
        yield Operated(lab)


# An operator's flow on br-phy, what is said of it, and whether broadcasts still come and go.
OPERATORS = {
    "above, the group": (
        "priority=65000,udp,nw_dst=239.0.0.0/8,actions=drop",
        ["packets to 239.0.0.1 that this host sends", "packets to 239.0.0.1 from eth0"],
        False, False,
    ),
    "above, what comes": (
        "priority=65000,udp,in_port=eth0,tp_dst=4789,actions=drop",
        ["packets to {0}, packets to 239.0.0.1 from eth0"], False, True,
    ),
    "below, what comes": (
        "priority=9,udp,in_port=eth0,actions=drop",
        ["packets to {0}, packets to 239.0.0.1 from eth0"], False, True,
    ),
    "below, all that leaves": (
        "priority=9,in_port=LOCAL,actions=drop",
        ["reports of br-phy, packets to 239.0.0.1 that this host sends"], True, False,
    ),
    "what comes from elsewhere": (
        "priority=65000,udp,nw_src=192.0.2.0/24,actions=drop", [], True, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", OPERATORS)
def test_an_operators_flow_that_drops_the_tunnels_packets_is_named(
    operated: Operated, which: str
) -> None:
    """The verdict of setup and what packets do, in each direction, are the same.

    w1 ─ h1 (br-phy: a flow of the operator's) ─ switch ─ l1
    """
    flow, said, comes, leaves = OPERATORS[which]
    host = operated.host
    host.ofctl("add-flow", "br-phy", flow)
    try:
        problems = [f"br-phy does not carry {what.format(host.vtep)}" for what in said]
        assert operated.set_up() == (3 if said else 0, problems)
        assert operated.passes(comes, leaves) == (comes, leaves)
    finally:
        host.ofctl("--strict", "del-flows", "br-phy", flow.partition(",actions")[0])
    assert operated.set_up() == (0, [])
    assert operated.passes(True, True) == (True, True)
