"""Frames through the overlay: what is flooded, its form on the wire, and its receivers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ovs_mcast.core.frames import decode_udp, decode_vxlan
from ovs_mcast.lab import Kind, Lab, Workload

from .wire import (
    GROUP_1,
    GROUP_MAC,
    HOSTS,
    NETS,
    TTL,
    Overlay,
    assert_heard,
    eventually,
    frame,
    hears,
    mac_of,
    wait_for_members,
    whole,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


# What floods, and how it looks on the wire


@pytest.mark.either_datapath
@pytest.mark.parametrize("vni", NETS)
def test_one_broadcast_is_one_packet_to_the_group(overlay: Overlay, vni: int) -> None:
    """One frame in, one VXLAN packet out, and every field of it as it was configured.

    h1 (workload: broadcast) ─ port h1: look here ─ switch ─ eth0: and here ─ l1
    """
    lab, sender, group = overlay.lab, overlay["h1", vni], NETS[vni].group
    sent = [frame(sender.mac), frame(sender.mac)]
    with (
        lab.capture(lab.switch, "h1", decode_vxlan) as leaving,
        lab.capture(overlay.l1, "eth0", decode_vxlan) as arriving,
    ):
        for each in sent:
            sender.send(each)
        arriving.wait(2)
        leaving.wait(2)
        # The second frame is the marker: a second packet for the first one would come before it.
        seen = arriving.seen()
        assert leaving.seen() == seen
    assert [packet.inner for packet in seen] == sent
    for packet in seen:
        assert packet.eth_source == mac_of(overlay.h1, overlay.h1.underlay)
        assert packet.eth_destination == GROUP_MAC[group]
        assert (packet.source, packet.destination) == (overlay.h1.vtep, group)
        assert (packet.ttl, packet.destination_port, packet.vni) == (TTL, 4789, vni)


@pytest.mark.either_datapath
@pytest.mark.parametrize("name", HOSTS)
def test_a_broadcast_from_each_side_is_heard_once_by_all_others(
    overlay: Overlay, name: str
) -> None:
    """Each host's broadcast apart: all others hear it, once, unchanged; its sender does not.

    h1, h2 (Open vSwitch) ─ switch ─ l1, l2 (Linux vxlan)      one of them broadcasts
    """
    sender = overlay[name, 100]
    others = [overlay[other, 100] for other in HOSTS if other != name]
    assert_heard(overlay.lab, sender, others, [frame(sender.mac), frame(sender.mac)])


@pytest.mark.either_datapath
def test_each_way_to_join_tunnels_both_ways(overlay: Overlay, kind: Kind) -> None:
    """One after the other, and auto again: a broadcast from either side is heard by all others.

    h1 (autojoin, repaired, peer, socket), h2 (auto) ─ switch ─ l1, l2 (Linux vxlan)
    """
    methods = ["autojoin", "repaired", *(["peer"] if kind == "kernel" else []), "socket", "auto"]
    for method in methods:
        result = overlay.set_up(overlay.h1, method)
        used = {segment["joined_by"] for segment in result.report["segments"].values()}
        assert (result.status, used) == (0, {"socket" if method == "auto" else method})
        for name in ("h1", "l1"):
            sender = overlay[name, 100]
            others = [overlay[other, 100] for other in HOSTS if other != name]
            assert_heard(overlay.lab, sender, others, [frame(sender.mac), frame(sender.mac)])


@pytest.mark.either_datapath
@pytest.mark.parametrize(
    "destination", ["01:00:5e:01:02:03", "33:33:00:00:00:01", "02:dd:00:00:00:01"]
)
@pytest.mark.parametrize("name", ["h1", "l1"])
def test_multicast_and_unknown_unicast_flood(overlay: Overlay, destination: str, name: str) -> None:
    """IPv4 multicast, IPv6 multicast and a unicast address nobody has: once, to the group.

    h1 or l1 ─ switch ─ the three others
    """
    lab, sender = overlay.lab, overlay[name, 100]
    sent = [frame(sender.mac, destination), frame(sender.mac, destination)]
    others = [overlay[other, 100] for other in HOSTS if other != name]
    with lab.capture(lab.switch, name, decode_vxlan) as leaving:
        assert_heard(lab, sender, others, sent)
        leaving.wait(2)
        assert [packet.destination for packet in leaving.seen()] == [GROUP_1, GROUP_1]


def test_the_very_first_broadcast_arrives(lab: Lab) -> None:
    """The first frame arrives: ARP and the first look-up lose nothing.

    h1 (nothing sent yet) ─ switch ─ l1 (nothing sent yet)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    assert host.setup(f"--segment=100,group={GROUP_1}").status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    out, back, answer = frame(here.mac), frame(there.mac), frame(here.mac, there.mac)
    with hears(lab, here) as heard_here, hears(lab, there) as heard_there:
        here.send(out)
        assert heard_there.wait(1) == [out]
        there.send(back)
        assert heard_here.wait(2) == [out, back]
        here.send(answer)
        assert heard_there.wait(3) == [out, back, answer]


def test_a_forgotten_neighbour_is_asked_for_again(overlay: Overlay) -> None:
    """Open vSwitch ages the group's Ethernet address out; its ARP is answered, and it goes on.

    h1 (tnl/neigh/flush) ─ switch ─ l1
    """
    lab, sender = overlay.lab, overlay["h1", 100]
    overlay.h1.appctl("tnl/neigh/flush")
    with (
        hears(lab, overlay["l1", 100]) as heard,
        lab.capture(lab.switch, "h1", decode_udp) as wire,
    ):

        def arrives() -> bool:
            sender.send(frame(sender.mac))
            return bool(heard.wait(1, timeout=0.2))

        assert eventually(arrives)
        assert {datagram.destination for datagram in wire.seen()} == {GROUP_1}
    assert GROUP_MAC[GROUP_1] in overlay.h1.appctl("tnl/neigh/show")


# Ordinary programs


@pytest.mark.either_datapath
@pytest.mark.needs("ping")
@pytest.mark.parametrize("vni", NETS)
@pytest.mark.parametrize(("here", "there"), [("h1", "l1"), ("l1", "h1"), ("h1", "h2")])
def test_ping_with_full_frames(overlay: Overlay, vni: int, here: str, there: str) -> None:
    """ARP and ICMP by the kernels at both ends, 1500 octets that must not be fragmented.

    h1, h2 (Open vSwitch) ─ switch, MTU 1600 ─ l1 (Linux vxlan)
    """
    sender, target = overlay[here, vni], overlay[there, vni]
    sender.run("ip", "neigh", "flush", "dev", "eth0")
    # 1472 octets, ICMP 8 and IP 20.
    done = sender.run(
        "ping", "-c", "3", "-i", "0.1", "-W", "5", "-M", "do", "-s", "1472", target.address
    )
    for workload in (sender, target):  # or they would ask for each other later, in other tests
        workload.run("ip", "neigh", "flush", "dev", "eth0")
    assert " 0% packet loss" in done.stdout
    assert "DUP" not in done.stdout


# Frames that have a tag of their own


@pytest.mark.either_datapath
def test_a_tagged_frame_stops_at_an_access_port(overlay: Overlay) -> None:
    """Open vSwitch's rule, not ours: an access port neither takes nor gives a tagged frame.

    h1, h2 (access ports of br-int) ─ switch ─ l1 (Linux vxlan): each sends one, then a marker
    """
    here, there = overlay["h1", 100], overlay["l1", 100]
    tagged, marker = frame(here.mac, vlan=7), frame(here.mac)
    tagged_back, marker_back = frame(there.mac, vlan=7), frame(there.mac)
    seen = exchange(overlay, [(here, tagged), (here, marker)])
    assert seen == {"h1": [tagged, marker], "h2": [marker], "l1": [marker]}
    seen = exchange(overlay, [(there, tagged_back), (there, marker_back)])
    assert seen == {"h1": [marker_back], "h2": [marker_back], "l1": [tagged_back, marker_back]}


@pytest.mark.either_datapath
def test_a_tagged_frame_passes_tunnel_ports_whole(overlay: Overlay) -> None:
    """With vlan_mode=dot1q-tunnel and `inner_vlan: keep` the workload's own tag goes through.

    As with Linux vxlan. Without `keep` setup names the ports whose tags are dropped.

    h1, h2 (dot1q-tunnel ports of br-int) ─ switch ─ l1 (Linux vxlan): each sends one, then a marker
    """
    here, there = overlay["h1", 100], overlay["l1", 100]
    tagged, marker = frame(here.mac, vlan=7), frame(here.mac)
    tagged_back, marker_back = frame(there.mac, vlan=7), frame(there.mac)
    ports = [(host, overlay[host.name, 100].port) for host in (overlay.h1, overlay.h2)]
    for host, port in ports:
        host.vsctl("set", "port", port, "vlan_mode=dot1q-tunnel")
    try:
        for host, port in ports:
            dropped = overlay.set_up(host)
            assert dropped.status == 0
            assert f"{port} is a dot1q-tunnel port, and the tags of" in dropped.problems
            assert overlay.set_up(host, "auto", "--inner-vlan=keep").report["problems"] == []
        out = exchange(overlay, [(here, tagged), (here, marker)])
        back = exchange(overlay, [(there, tagged_back), (there, marker_back)])
    finally:
        for host, port in ports:
            host.vsctl("clear", "port", port, "vlan_mode")
            assert overlay.set_up(host).report["problems"] == []
    assert list(out.values()) == [[tagged, marker]] * 3
    assert list(back.values()) == [[tagged_back, marker_back]] * 3


def exchange(overlay: Overlay, sent: list[tuple[Workload, bytes]]) -> dict[str, list[bytes]]:
    """What passes the workload of each host, until the last frame has."""
    with ExitStack() as stack:
        heard = {
            name: stack.enter_context(overlay.lab.capture(overlay[name, 100], "eth0", whole))
            for name in ("h1", "h2", "l1")
        }
        for sender, each in sent:
            sender.send(each)
        marker = sent[-1][1]
        for capture in heard.values():
            capture.wait(where=marker.__eq__)
        return {name: capture.seen() for name, capture in heard.items()}
