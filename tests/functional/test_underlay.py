"""The overlay and its underlay: membership that matters, other listeners, a second overlay, MTU."""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from subprocess import Popen

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_IPV4, decode_ethernet, decode_udp, decode_vxlan, vxlan
from ovs_mcast.lab import Capture, Host, Kind, Lab, Workload
from ovs_mcast.lab.topology import in_parallel

from .wire import (
    GROUP_1,
    GROUP_2,
    GROUP_MAC,
    Overlay,
    frame,
    hears,
    packet,
    wait_for_members,
    whole,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


# Membership


def igmp(data: bytes) -> set[tuple[str, str]] | None:
    """Return the groups that an IGMP message (version 2 or 3) joins or leaves; else None."""
    seen = decode_ethernet(data)
    if seen is None or seen.ethertype != ETHERTYPE_IPV4 or seen.payload[9] != 2:
        return None
    message = seen.payload[(seen.payload[0] & 0xF) * 4 :]
    if message[0] in _VERSION_2:
        return {(_VERSION_2[message[0]], str(IPv4Address(message[4:8])))}
    if message[0] != 0x22:
        return None
    # Records with sources are not in the lab's reports, so each has 8 octets (RFC 3376, 4.2).
    (number,) = struct.unpack_from("!H", message, 6)
    records = struct.iter_unpack("!BBH4s", message[8 : 8 + 8 * number])
    return {(_VERSION_3.get(kind, ""), str(IPv4Address(group))) for kind, _, _, group in records}


_VERSION_2 = {0x16: "join", 0x17: "leave"}
# MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE_MODE, CHANGE_TO_INCLUDE_MODE
_VERSION_3 = {2: "join", 4: "join", 3: "leave"}


def has(what: str) -> Callable[[set[tuple[str, str]]], bool]:
    """Whether a message joins, or leaves, the first group."""
    return lambda message: (what, GROUP_1) in message


def test_only_members_hear_the_group_and_teardown_ends_that(lab: Lab) -> None:
    """Setup joins, so that the switch sends the group here and not to all; teardown leaves.

    h1 (set up) ─ switch (snooping) ─ l1 (member), h2 (Open vSwitch, not set up), l2 (nothing)
    """
    host, idle = lab.add_hosts(2)
    peer, bystander = lab.add_linux_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    with lab.capture(lab.switch, "h1", igmp) as reports:
        assert host.setup(f"--segment=100,group={GROUP_1}").status == 0
        wait_for_members(lab, GROUP_1, {"h1", "l1"})
        assert reports.wait(where=has("join"))
    with lab.capture(lab.switch, "h1", igmp) as reports:
        for sender, hearer in ((here, there), (there, here)):
            with hears(lab, hearer) as heard, ports(lab, idle.name, bystander.name) as aside:
                call = frame(sender.mac)
                sender.send(call)
                assert heard.wait(1) == [call]
                mark(lab)
                assert [seen.wait(1) for seen in aside] == [["marker"], ["marker"]]
        assert not any(map(has("leave"), reports.seen()))
        assert host.setup("--teardown").status == 0
        assert reports.wait(where=has("leave"))
    wait_for_members(lab, GROUP_1, {"l1"})
    with ports(lab, "l1", "h1") as (leaving, former):
        there.send(frame(there.mac))
        assert leaving.wait(1) == [GROUP_1]
        mark(lab)
        assert former.wait(1) == ["marker"]


@contextmanager
def ports(lab: Lab, *names: str) -> Iterator[list[Capture[str]]]:
    """What passes ports of the switch: the outer destination of VXLAN, and the markers."""
    with ExitStack() as stack:
        yield [stack.enter_context(lab.capture(lab.switch, name, _outer)) for name in names]


def _outer(data: bytes) -> str | None:
    packet = decode_vxlan(data)
    if packet is not None:
        return packet.destination
    return "marker" if whole(data) else None


def mark(lab: Lab) -> None:
    """Send a frame that comes to every port of the switch, by a port of the switch's own."""
    with PacketSocket("test-a", namespace=lab.switch.pid) as plug:
        plug.send(frame("02:00:00:00:00:fd"))


# Others on the underlay


_LISTENER = """
import socket, struct, sys
group, port, device = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(10)
udp.bind((group, int(port)))
member = socket.inet_aton(group) + bytes(4) + struct.pack("i", socket.if_nametoindex(device))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("listens", flush=True)
while True:
    print(udp.recv(65535).hex(), flush=True)
"""


@pytest.fixture
def listener(overlay: Overlay) -> Iterator[Popen[str]]:
    """Run an ordinary program on h1 that has joined the group; it prints what it receives."""
    h1 = overlay.h1
    with h1.popen(sys.executable, "-c", _LISTENER, GROUP_1, "4789", h1.underlay) as process:
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_an_ordinary_socket_hears_the_group_too(overlay: Overlay, listener: Popen[str]) -> None:
    """The tunnel takes a copy: a program of the host that joined the group hears every packet.

    h1 (a UDP socket on br-phy, and the tunnel) ─ switch ─ l1 (broadcasts)
    """
    assert listener.stdout is not None
    assert listener.stdout.readline() == "listens\n"
    sender = overlay["l1", 100]
    sent = [frame(sender.mac) for _ in range(2)]
    with hears(overlay.lab, overlay["h1", 100]) as heard:
        for each in sent:
            sender.send(each)
            assert listener.stdout.readline().strip() == vxlan(100, each).hex()
        assert heard.wait(2) == sent


@pytest.fixture
def tap(overlay: Overlay) -> Iterator[str]:
    """A third port on h1's br-phy, where there could be another VTEP; the name of its far end."""
    h1 = overlay.h1
    h1.run(
        "ip", "link", "add", "third", "mtu", "1600", "type", "veth", "peer", "tap", "mtu", "1600"
    )
    for end in ("third", "tap"):
        h1.run("ip", "link", "set", end, "up")
    h1.vsctl("add-port", "br-phy", "third")
    yield "tap"
    h1.vsctl("del-port", "br-phy", "third")
    h1.run("ip", "link", "del", "third")


def test_another_port_of_the_underlay_bridge_is_served_as_before(
    overlay: Overlay, tap: str
) -> None:
    """The group's packets pass br-phy to its other ports once each, unchanged.

    another VTEP ─ br-phy (h1) ─ switch ─ l1      all three broadcast
    """
    lab, h1, l1 = overlay.lab, overlay.h1, overlay.l1
    with (
        lab.capture(h1, tap, decode_vxlan) as third,
        hears(lab, overlay["h1", 100]) as at_h1,
        hears(lab, overlay["l1", 100]) as at_l1,
        PacketSocket(tap, namespace=h1.pid) as wire,
    ):
        own, remote = (frame(overlay[name, 100].mac) for name in ("h1", "l1"))
        overlay["h1", 100].send(own)
        assert at_l1.wait(1) == [own]
        overlay["l1", 100].send(remote)
        assert at_h1.wait(2) == [own, remote]
        other = frame("02:ee:00:00:00:01")
        eth = ("02:ee:00:00:00:99", GROUP_MAC[GROUP_1])
        wire.send(packet("10.0.0.99", GROUP_1, 100, other, eth=eth))
        assert at_h1.wait(3) == [own, remote, other]
        assert at_l1.wait(3) == [own, remote, other]
        assert [(p.source, p.eth_destination, p.inner) for p in third.wait(3)] == [
            (h1.vtep, GROUP_MAC[GROUP_1], own),
            (l1.vtep, GROUP_MAC[GROUP_1], remote),
            ("10.0.0.99", GROUP_MAC[GROUP_1], other),
        ]


def test_an_underlay_with_too_small_an_mtu_is_a_warning(lab: Lab) -> None:
    """An underlay MTU of 1500 leaves less than 1500 inside: a warning, with status 0; 1600 is none.

    h1 (br-phy of MTU 1500, then 1600)
    """
    host = lab.add_host()
    for mtu in (1500, 1600):
        host.vsctl("set", "interface", host.underlay, f"mtu_request={mtu}")
        run = host.setup(f"--segment=100,group={GROUP_1}")
        assert (run.status, run.report["verified"]) == (0, True)
        about_mtu = [problem for problem in run.report["problems"] if "MTU" in problem]
        assert len(about_mtu) == (mtu == 1500)
    assert run.report["changed"] is False


@pytest.mark.either_datapath
def test_a_workload_whose_mtu_does_not_fit_is_named(lab: Lab, kind: Kind) -> None:
    """The port of the workload is named with what would fit; a port of another VLAN is not.

    h1: w1 (VLAN 100, MTU 1500, then 1450), w2 (VLAN 7) ─ br-int ═ br-mcast; underlay of MTU 1500
    """
    host = lab.add_host()
    host.add_workload(vlan=100)
    host.add_workload(vlan=7)
    if kind == "kernel":
        host.run("ip", "link", "set", host.underlay, "mtu", "1500")
    else:
        host.vsctl("set", "interface", host.underlay, "mtu_request=1500")
    options = (f"--segment=100,group={GROUP_1}",)
    run = host.setup(*options)
    [said] = [problem for problem in run.report["problems"] if "MTU" in problem]
    assert (run.status, run.report["verified"]) == (0, True)
    assert said == (
        f"the MTU of {host.underlay} is 1500, and leaves the overlay 1450: packets of w1 (MTU 1500)"
        " above that are lost: set MTU 1450 in these workloads, or 1550 on the underlay"
    )
    host.run("ip", "link", "set", "w1", "mtu", "1450")
    host.vsctl("--timeout=5", "wait-until", "interface", "w1", "mtu=1450")
    run = host.setup(*options)
    assert not [problem for problem in run.report["problems"] if "w1" in problem]


def test_two_overlays_on_one_host(lab: Lab) -> None:
    """Another name, tunnel bridge and UDP port make a second overlay, even with the same VNI.

    h1 ─ switch ─ h2      red: UDP 4789, VLAN 100 · blue: UDP 4790, VLAN 12 · both VNI 100, br-int
    """
    hosts = lab.add_hosts(2)
    red, blue = ([host.add_workload(vlan=vlan) for host in hosts] for vlan in (100, 12))
    set_up(hosts, "red", f"--segment=100,group={GROUP_1}", "--udp-port=4789")
    set_up(hosts, "blue", f"--segment=100,vlan=12,group={GROUP_2}", "--udp-port=4790")
    for group in (GROUP_1, GROUP_2):
        wait_for_members(lab, group, {"h1", "h2"})
    assert talk(lab, *red, aside=blue) == {(4789, GROUP_1), (4789, "10.0.0.1")}
    assert talk(lab, *blue, aside=red) == {(4790, GROUP_2), (4790, "10.0.0.1")}
    for host in hosts:
        assert host.setup("--teardown", "--name=red").status == 0
    assert talk(lab, *blue, aside=red) == {(4790, GROUP_2), (4790, "10.0.0.1")}


def set_up(hosts: list[Host], name: str, *options: str) -> None:
    """An overlay of that name on each host, each with a tunnel bridge of its own."""
    arguments = (f"--name={name}", f"--tunnel-bridge=br-{name}", *options)
    runs = in_parallel(lambda host: host.setup(*arguments), hosts)
    assert [run.status for run in runs] == [0, 0], runs


def talk(
    lab: Lab, here: Workload, there: Workload, *, aside: list[Workload]
) -> set[tuple[int, str]]:
    """A broadcast from each side, then a unicast answer; those aside must hear nothing of it.

    Returns the UDP ports and outer destinations that were seen between the hosts.
    """
    call, back, answer = frame(here.mac), frame(there.mac), frame(there.mac, here.mac)
    with ExitStack() as stack:
        wire = stack.enter_context(lab.capture(lab.switch, "h2", decode_udp))
        first, second, *others = (stack.enter_context(hears(lab, w)) for w in (here, there, *aside))
        here.send(call)
        assert second.wait(1) == [call]
        there.send(back)
        assert first.wait(2) == [call, back]
        there.send(answer)
        assert first.wait(3) == [call, back, answer]
        assert [other.seen() for other in others] == [[], []]
        return {(each.destination_port, each.destination) for each in wire.wait(3)}
