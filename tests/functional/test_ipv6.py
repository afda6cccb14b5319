"""The overlay on an IPv6 underlay: groups in ff00::/8, VTEPs in fd00::/64, on either datapath.

h1 (repaired), h2 (socket): Open vSwitch ─┐          VNI 100 in ff05::7:1
                                          ├─ switch  VNI 101 in ff05::7:2
l1, l2: Linux vxlan ──────────────────────┘          (snoops MLD)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import (
    VxlanPacket,
    decode_ethernet,
    decode_udp,
    decode_vxlan,
    internet_checksum,
)
from ovs_mcast.lab import Host, Kind, Lab, LinuxHost, Workload
from tests.functional.membership_lab import joined_by, keepers, local_routes, members
from tests.functional.node import Node, difference
from tests.functional.programs import Program
from tests.functional.warm import Warm
from tests.functional.wire import (
    eventually,
    frame,
    hears,
    learned,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

GROUP, OTHER = "ff05::7:1", "ff05::7:2"
GROUP_MAC = "33:33:00:07:00:01"  # 33:33 and the low 32 bits (RFC 2464, 7)
SEGMENTS = (f"--segment=100,group={GROUP}", f"--segment=101,group={OTHER}")
ONE = SEGMENTS[:1]
NAMES = ("h1", "h2", "l1", "l2")
TTL = 9


class Six:
    """The overlay above, with a workload for each host and segment."""

    def __init__(self, lab: Lab, warm: Warm) -> None:
        self.lab, self.warm = lab, warm
        open_vswitch: list[Host] = lab.add_hosts(2)
        linux: list[LinuxHost] = [lab.add_linux_host(), lab.add_linux_host()]
        self.hosts = {host.name: host for host in open_vswitch}
        self.vteps = {host.name: host.vtep for host in open_vswitch}
        self.vteps |= {host.name: host.vtep for host in linux}
        self._workloads: dict[tuple[str, int], Workload] = {}
        for vni, group in ((100, GROUP), (101, OTHER)):
            for host in open_vswitch:
                self._workloads[host.name, vni] = host.add_workload(vlan=vni)
            for peer in linux:
                self._workloads[peer.name, vni] = peer.add_segment(vni=vni, group=group)
        for host, method in zip(open_vswitch, ("repaired", "socket"), strict=True):
            node = Node(host, warm)
            result = node.built(*SEGMENTS, f"--membership={method}", f"--ttl={TTL}")
            assert joined_by(result) == {(method, "wire")}
        for group in (GROUP, OTHER):
            wait_for_members(lab, group, set(NAMES))

    def __getitem__(self, where: tuple[str, int]) -> Workload:
        return self._workloads[where]

    @property
    def workloads(self) -> list[Workload]:
        """All eight."""
        return list(self._workloads.values())


@pytest.fixture(scope="module")
def six(kind: Kind, warm: Warm) -> Iterator[Six]:
    """The overlay that the tests of this module share, and leave as it was."""
    with Lab(kind=kind, family=6) as lab:
        yield Six(lab, warm)


@pytest.fixture
def node(six: Six) -> Iterator[Node]:
    """One more host with Open vSwitch beside the overlay, torn down at the end."""
    yield from _lent(six)


@pytest.fixture(params=["netdev", "dummy"])
def either(request: pytest.FixtureRequest, six: Six) -> Iterator[Node]:
    """The same with the groups on br-phy, and on eth0, for what needs no tunnel's packets."""
    yield from _lent(six, request.param)


def _lent(six: Six, kind: Kind | None = None) -> Iterator[Node]:
    node = Node(six.lab.add_host(kind=kind), six.warm)
    yield node
    node.torn_down()
    six.lab.switch.run("ip", "link", "del", node.host.name)


class Outer(NamedTuple):
    """A VXLAN packet, its UDP checksum, and whether that is right."""

    packet: VxlanPacket
    checksum: int
    right: bool


def outer(data: bytes) -> Outer | None:
    """What a frame of the underlay is, if VXLAN in IPv6."""
    seen, ethernet = decode_vxlan(data), decode_ethernet(data)
    if seen is None or ethernet is None or ":" not in seen.source:
        return None
    datagram = ethernet.payload[40 : 40 + int.from_bytes(ethernet.payload[4:6], "big")]
    ends = b"".join(ip_address(end).packed for end in (seen.source, seen.destination))
    pseudo = ends + len(datagram).to_bytes(4, "big") + (17).to_bytes(4, "big")
    checksum = int.from_bytes(datagram[6:8], "big")
    return Outer(seen, checksum, internet_checksum(pseudo + datagram) == 0)


# Traffic


@pytest.mark.either_datapath
@pytest.mark.parametrize("name", ["h1", "h2"])
def test_one_broadcast_is_one_packet_from_the_vtep(six: Six, name: str) -> None:
    """One packet to the group and to its Ethernet address, with a UDP checksum that is right.

    h1 or h2 (broadcasts) ─ its port of the switch: what is captured there
    """
    sender = six[name, 100]
    sent = frame(sender.mac)
    with six.lab.capture(six.lab.switch, name, outer) as wire, hears(six.lab, six["l1", 100]) as l1:
        sender.send(sent)
        assert l1.wait(1) == [sent]
        # The marker: a second one by the first would be there before it.
        marker = frame(sender.mac)
        sender.send(marker)
        wire.wait(where=lambda seen: seen.packet.inner == marker)
        [seen] = [seen for seen in wire.seen() if seen.packet.inner == sent]
    outside = seen.packet
    assert (outside.source, outside.destination) == (six.vteps[name], GROUP)
    assert (outside.eth_destination, outside.ttl, outside.vni) == (GROUP_MAC, TTL, 100)
    assert seen.checksum != 0
    assert seen.right


@pytest.mark.either_datapath
@pytest.mark.parametrize("name", NAMES)
def test_a_broadcast_from_each_side_is_heard_once_by_all_of_its_segment(
    six: Six, name: str
) -> None:
    """Each host's broadcast apart: the three others hear it once, and nobody of VNI 101.

    h1, h2, l1, l2 ─ switch      one of them broadcasts in VNI 100, then in VNI 101
    """
    sent = frame(six[name, 100].mac)
    marker = frame(six[name, 101].mac)
    with ExitStack() as stack:
        heard = {w.name: stack.enter_context(hears(six.lab, w)) for w in six.workloads}
        six[name, 100].send(sent)
        for other in NAMES:
            assert heard[f"{other}-100"].wait(1) == [sent]
        six[name, 101].send(marker)
        for other in NAMES:
            assert heard[f"{other}-101"].wait(1) == [marker]
        for other in NAMES:
            assert heard[f"{other}-100"].seen() == [sent]


@pytest.mark.either_datapath
@pytest.mark.parametrize(("here", "there"), [("h1", "l1"), ("l1", "h2"), ("h2", "h1")])
def test_unicast_goes_to_the_one_vtep_that_has_the_mac(
    six: Six, mac: str, here: str, there: str
) -> None:
    """Unknown, a MAC is asked for by the group; once it has answered, by its VTEP alone.

    here (asks) ─ switch ─ there (answers)
    """
    asking, other = six[here, 100], mac.replace("cc", "ce")
    question, answer = frame(other, mac), frame(mac, other)
    mine, theirs = six.vteps[here], six.vteps[there]
    with (
        six.lab.capture(six.lab.switch, here, decode_vxlan) as wire,
        hears(six.lab, six[there, 100]) as answering,
        hears(six.lab, asking) as asked,
    ):
        asking.send(question)
        assert answering.wait(1) == [question]
        six[there, 100].send(answer)
        assert asked.wait(2) == [question, answer]
        ways = [(seen.source, seen.destination, seen.inner) for seen in wire.wait(2)]
        assert ways == [(mine, GROUP, question), (theirs, mine, answer)]

        def known() -> bool:
            again = frame(other, mac)
            asking.send(again)
            [seen] = wire.wait(where=lambda seen: seen.inner == again)
            return (seen.source, seen.destination) == (mine, theirs)

        # What Open vSwitch has cached of the question lives on for a moment.
        assert eventually(known)
    if here in six.hosts:
        actions = learned(six.hosts[here], 100)[mac].actions
        assert _learned_vtep(actions) == theirs


def _learned_vtep(actions: str) -> str:
    """The outer destination of a learned flow, whose two halves are loaded apart or as one."""
    parts = re.findall(r"load:(\w+)->NXM_NX_TUN_IPV6_DST\[(\d+)\.\.\d+\]", actions)
    return str(IPv6Address(sum(int(value, 0) << int(bit) for value, bit in parts)))


@pytest.mark.either_datapath
def test_a_mac_that_moves_is_followed(six: Six, mac: str) -> None:
    """The host that last sent from a MAC has it: two hosts take turns, h1 follows.

    h1 (answers the MAC) ─ switch ─ l1, h2, l2 in turn (send from it)
    """
    sender = six["h1", 100]
    with six.lab.capture(six.lab.switch, "h1", decode_vxlan) as wire, hears(six.lab, sender) as own:
        for place in ("l1", "h2", "l2"):
            call = frame(mac)
            six[place, 100].send(call)
            assert own.wait(where=call.__eq__) == [call]

            def followed(place: str = place) -> bool:
                answer = frame(sender.mac, mac)
                sender.send(answer)
                ways = wire.wait(where=lambda seen: seen.inner == answer)
                return [seen.destination for seen in ways] == [six.vteps[place]]

            assert eventually(followed)


@pytest.mark.either_datapath
@pytest.mark.parametrize(
    ("vni", "group", "source"),
    [(99, GROUP, "fd00::99"), (100, OTHER, "fd00::99"), (100, GROUP, "@")],
)
def test_what_is_refused_reaches_nobody(
    six: Six, mac: str, vni: int, group: str, source: str
) -> None:
    """A packet of an unknown VNI, of another segment's group, or of our own address is dropped.

    plug of the switch (sends them, then one that is right) ─ h1, h2
    """
    for name, host in six.hosts.items():
        wrong, right = frame(mac), frame(mac)
        eth = ("02:ee:00:00:00:99", f"33:33:00:07:00:0{group[-1]}")
        origin = source.replace("@", host.vtep)
        with (
            hears(six.lab, six[name, 100]) as heard,
            hears(six.lab, six[name, 101]) as aside,
            PacketSocket("test-a", namespace=six.lab.switch.pid) as plug,
        ):
            plug.send(packet(origin, group, vni, wrong, eth=eth))
            plug.send(packet("fd00::99", GROUP, 100, right, eth=(eth[0], GROUP_MAC)))
            assert heard.wait(1) == [right]
            assert aside.seen() == []


@pytest.mark.either_datapath
@pytest.mark.needs("ping")
@pytest.mark.parametrize(("here", "there"), [("h1", "l1"), ("l1", "h2"), ("h1", "h2")])
def test_ping_with_full_frames(six: Six, here: str, there: str) -> None:
    """ARP and ICMP of the kernels at both ends, 1500 octets in 70 more.

    h1, h2 (Open vSwitch) ─ switch, MTU 1600 ─ l1 (Linux vxlan)
    """
    ping = ["ping", "-c", "3", "-i", "0.2", "-W", "5", "-M", "do", "-s", "1472"]
    done = six[here, 100].run(*ping, six[there, 100].address)
    assert " 0% packet loss" in done.stdout
    assert "DUP" not in done.stdout


# Membership


@pytest.mark.either_datapath
def test_auto_finds_autojoin_hijacked_and_sockets_tunnel_both_ways(six: Six, node: Node) -> None:
    """The trial's evidence is packets on lo; sockets hold; broadcast goes both ways apart.

    h… (auto) ─ switch ─ h1, h2, l1, l2
    """
    here, device = node.host.add_workload(vlan=100), node.host.underlay
    result = node.built(*ONE, "--membership=auto")
    decision = result.report["decision"]
    assert (decision["method"], decision["underlay"]) == ("socket", f"{device} IPv6")
    assert "an ordinary datagram reaches loopback: local ff05::7:" in decision["evidence"]
    assert joined_by(result) == {("socket", "wire")}
    assert len(keepers(node)) == 1
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    assert_heard_both_ways(six, here)
    again = node.built(*ONE, "--membership=auto")
    assert (again.report["changed"], again.report["decision"]) == (False, decision)


def assert_heard_both_ways(six: Six, here: Workload) -> None:
    """A broadcast from here is heard by the four others, and one from each of them here."""
    with ExitStack() as stack:
        heard = {name: stack.enter_context(hears(six.lab, six[name, 100])) for name in NAMES}
        own = stack.enter_context(hears(six.lab, here))
        out = frame(here.mac)
        here.send(out)
        for name in NAMES:
            assert heard[name].wait(1) == [out], name
        sent = [out]
        for name in NAMES:
            sent.append(frame(six[name, 100].mac))
            six[name, 100].send(sent[-1])
            assert own.wait(len(sent)) == sent, name


@pytest.mark.parametrize("method", ["repaired", "socket", "auto"])
def test_teardown_gives_the_host_back(six: Six, either: Node, method: str) -> None:
    """The whole host is compared: links, addresses, routes, memberships, OVSDB, flows.

    h… (set up, torn down) ─ switch
    """
    assert eventually(lambda: "tentative" not in either.sh("ip address"))
    before = either.state()
    result = either.built(*SEGMENTS, f"--membership={method}")
    assert len(result.changes) == len(set(result.changes))  # nothing was made a second time
    assert {GROUP, OTHER} <= members(either)
    assert local_routes(either, GROUP) == ""
    assert sent_to_the_wire(six, either)
    assert either.built(*SEGMENTS, f"--membership={method}").report["changed"] is False
    either.torn_down()
    left = difference(before, either.state())
    assert [line for line in left if "link_resets" not in line] == []


def sent_to_the_wire(six: Six, node: Node) -> bool:
    """Whether what an ordinary program sends to the group is seen at the host's port."""
    with (
        six.lab.capture(six.lab.switch, node.host.name, decode_udp) as wire,
        Program(node.host, family=6) as program,
    ):
        said = program.send(GROUP)
        return bool(wire.wait(where=lambda datagram: datagram.payload == said))


@pytest.mark.parametrize(
    "method", [pytest.param("repaired", marks=pytest.mark.either_datapath), "socket"]
)
def test_link_down_and_up_is_repaired_where_addresses_are_kept(
    six: Six, node: Node, method: str
) -> None:
    """With keep_addr_on_down the next run puts routes back, and broadcast goes both ways again.

    h… (underlay down, up; setup) ─ switch ─ h1, h2, l1, l2
    """
    device = node.host.underlay
    here = node.host.add_workload(vlan=100)
    node.sh(f"echo 1 >/proc/sys/net/ipv6/conf/{device}/keep_addr_on_down")
    node.built(*ONE, f"--membership={method}")
    node.sh(f"ip link set {device} down; ip link set {device} up")
    result = node.built(*ONE, f"--membership={method}")
    assert f"add route {GROUP} dev {device} table local{node.source}" in result.changes
    assert local_routes(node, GROUP) == ""
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    assert_heard_both_ways(six, here)


def test_an_address_that_the_kernel_dropped_is_said_to_be_lost(either: Node) -> None:
    """Without keep_addr_on_down the membership stays, and the kernel takes no such address again.

    h… (repaired; underlay down, up, the VTEP put back by hand; repaired, then socket)
    """
    device = either.host.underlay
    either.built(*ONE, "--membership=repaired")
    either.sh(
        f"ip link set {device} down; ip link set {device} up;"
        f"ip address replace {either.host.addresses[0]} dev {device} nodad"
    )
    result = either.setup(*ONE, "--membership=repaired")
    assert result.status == 1
    assert f"net.ipv6.conf.{device}.keep_addr_on_down=1" in result.problems
    if either.host.datapath == "system":  # where sockets need no address
        assert joined_by(either.built(*ONE, "--membership=socket")) == {("socket", "wire")}


# Addresses


@pytest.mark.parametrize("method", ["repaired", "socket"])
def test_setup_right_after_an_address_waits_for_its_detection(
    six: Six, either: Node, method: str
) -> None:
    """A tentative VTEP is waited for; what is then reported is still so when it is looked at.

    h… (its VTEP is added, and at once set up) ─ switch
    """
    device = either.host.underlay
    either.sh(
        f"echo 1 >/proc/sys/net/ipv6/conf/{device}/accept_dad;"
        f"ip address add fd00::77/64 dev {device}; ip address show dev {device} | grep tentative"
    )
    result = either.built(*ONE, f"--membership={method}", "--vtep=fd00::77")
    assert joined_by(result) == {(method, "wire")}
    assert "tentative" not in either.sh(f"ip address show dev {device} to fd00::77")
    assert sent_to_the_wire(six, either)
    again = either.built(*ONE, f"--membership={method}", "--vtep=fd00::77")
    assert again.report["changed"] is False


def test_an_address_that_another_host_has_is_refused(six: Six, either: Node) -> None:
    """Detection has found the VTEP to be a duplicate: exit status 2, nothing touched.

    h… (wants fd00::3) ─ switch ─ l1 (has it)
    """
    device, taken = either.host.underlay, six.vteps["l1"]
    either.sh(f"echo 1 >/proc/sys/net/ipv6/conf/{device}/accept_dad")
    either.sh(f"ip address add {taken}/64 dev {device}")
    assert eventually(lambda: "dadfailed" in either.sh(f"ip address show dev {device}"))
    # The link-local address has a detection of its own.
    assert eventually(lambda: "scope link tentative" not in either.sh("ip address"))
    before = either.state()
    result = either.setup(*ONE, "--membership=socket", f"--vtep={taken}")
    assert result.status == 2
    assert result.problems.startswith(f"underlay.vtep: another host has {taken} too")
    assert difference(before, either.state()) == []


@pytest.mark.either_datapath
def test_the_source_is_the_vtep_whatever_other_addresses_there_are(six: Six, node: Node) -> None:
    """Both the group's packets and unicast leave from the VTEP, though another address is newer.

    h… (fd00::N, and fd00::aaaa added later) ─ switch ─ l1
    """
    here = node.host.add_workload(vlan=100)
    node.sh(f"ip address add fd00::aaaa/64 dev {node.host.underlay} nodad")
    node.built(*ONE, "--membership=repaired", f"--vtep={node.host.vtep}")
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    out, back = frame(here.mac), frame(six["l1", 100].mac, here.mac)
    with (
        six.lab.capture(six.lab.switch, node.host.name, outer) as wire,
        hears(six.lab, here) as own,
        hears(six.lab, six["l1", 100]) as theirs,
    ):
        here.send(out)
        assert theirs.wait(1) == [out]
        six["l1", 100].send(back)
        assert own.wait(2) == [out, back]
        answer = frame(here.mac, six["l1", 100].mac)
        here.send(answer)
        assert theirs.wait(3) == [out, back, answer]
        seen = {each.packet.inner: each for each in wire.wait(3)}
    mine = node.host.vtep
    assert (seen[out].packet.source, seen[out].packet.destination) == (mine, GROUP)
    assert seen[back].packet.destination == mine
    assert (seen[answer].packet.source, seen[answer].right) == (mine, True)


def test_groups_that_share_an_ethernet_address_are_a_warning(node: Node) -> None:
    """ff05::7:1 and ff08::7:1 have the same low 32 bits: said, with status 0.

    h… ─ switch
    """
    segments = (*ONE, "--segment=101,group=ff08::7:1")
    result = node.built(*segments, "--membership=socket")
    assert f"share the Ethernet address {GROUP_MAC}" in result.problems


def test_an_underlay_with_less_than_70_octets_more_is_a_warning(node: Node) -> None:
    """Outer IPv6 takes 20 octets more than IPv4: 1569 is too small an MTU, 1570 is not.

    h… (its underlay of MTU 1569, then 1570) ─ switch
    """
    for mtu in (1569, 1570):
        device = node.host.underlay
        if node.host.datapath == "netdev":
            node.host.vsctl("set", "interface", device, f"mtu_request={mtu}")
        else:
            node.sh(f"ip link set {device} mtu {mtu}")
        result = node.built(*ONE, "--membership=repaired")
        assert ("leaves the overlay 1499" in result.problems) == (mtu == 1569)


# The userspace datapath


def test_a_forgotten_neighbour_is_asked_for_again(six: Six) -> None:
    """Open vSwitch ages the group's Ethernet address out; its ND is answered, and it goes on.

    h1 (tnl/neigh/flush) ─ switch ─ l1
    """
    sender, h1 = six["h1", 100], six.hosts["h1"]
    h1.appctl("tnl/neigh/flush")
    assert GROUP not in h1.appctl("tnl/neigh/show")
    with (
        hears(six.lab, six["l1", 100]) as heard,
        six.lab.capture(six.lab.switch, "h1", icmp) as wire,
    ):

        def arrives() -> bool:
            sender.send(frame(sender.mac))
            return bool(heard.wait(1, timeout=0.2))

        assert eventually(arrives)
        assert wire.seen() == []  # the question is answered at home
    assert GROUP_MAC in h1.appctl("tnl/neigh/show")


def icmp(data: bytes) -> bytes | None:
    """A neighbour solicitation or advertisement of the group."""
    seen = decode_ethernet(data)
    of_group = seen and seen.ethertype == 0x86DD and ip_address(GROUP).packed in seen.payload[48:]
    return data if of_group and seen and seen.payload[40] in {135, 136} else None


def test_frames_of_another_source_on_the_host_are_left_as_they_are(six: Six) -> None:
    """A program of h1 that sends to the tunnels' UDP port from another address keeps its source.

    h1 (a program bound to fd00::bbbb, to l1's port 4789) ─ its port of the switch
    """
    h1 = six.hosts["h1"]
    h1.run("ip", "address", "add", "fd00::bbbb/64", "dev", h1.underlay, "nodad")
    try:
        with (
            six.lab.capture(six.lab.switch, "h1", decode_udp) as wire,
            Program(h1, source="fd00::bbbb", family=6) as program,
        ):
            said = program.send(six.vteps["l1"], port=4789)
            [seen] = wire.wait(where=lambda datagram: datagram.payload == said)
            assert (seen.source, seen.destination_port) == ("fd00::bbbb", 4789)
    finally:
        h1.run("ip", "address", "del", "fd00::bbbb/64", "dev", h1.underlay)
