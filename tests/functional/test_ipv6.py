"""The overlay on an IPv6 underlay: groups in ff00::/8, VTEPs in fd00::/64, on either datapath.

h1 (repaired), h2 (socket): Open vSwitch ─┐          VNI 100 in ff05::7:1
                                          ├─ switch  VNI 101 in ff05::7:2
l1, l2: Linux vxlan ──────────────────────┘          (snoops MLD)
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import (
    decode_ethernet,
    decode_udp,
    decode_vxlan,
)
from tests.functional.ipv6_lab import (
    GROUP,
    GROUP_MAC,
    NAMES,
    OTHER,
    TTL,
    Six,
    outer,
)
from tests.functional.programs import Program
from tests.functional.wire import (
    eventually,
    frame,
    hears,
    learned,
    packet,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.ipv6_fixtures", "tests.functional.node_fixtures")


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
    """Return the outer destination of a learned flow, loaded in two halves or as one."""
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


# The userspace datapath


def test_a_forgotten_neighbour_is_asked_for_again(six: Six) -> None:
    """Open vSwitch ages the group's Ethernet address out; its ND is answered, and it goes on.

    h1 (tnl/neigh/flush) ─ switch ─ l1
    """
    sender, h1 = six["h1", 100], six.hosts["h1"]

    def forgotten() -> bool:
        h1.appctl("revalidator/purge")  # flows of other tests would ask again when revalidated
        h1.appctl("tnl/neigh/flush")
        return GROUP not in h1.appctl("tnl/neigh/show")

    assert eventually(forgotten)
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
