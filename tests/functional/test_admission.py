"""What of the underlay's packets and workloads' frames is taken: sources, peers, inner tags.

w1 (VLAN 100), w2 (a trunk) ─ br-int ═ br-mcast ─ vxlan ─ h1 ─ switch ─ l1, l2 (Linux vxlan)
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_VLAN, tagged
from ovs_mcast.lab import Host, Lab, LinuxHost, Workload
from tests.functional.test_status import status
from tests.functional.wire import (
    GROUP_1,
    GROUP_MAC,
    eventually,
    frame,
    hears,
    mac_of,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SEGMENT = f"--segment=100,group={GROUP_1}"
IPV6_GROUP = "ff05::7:1"
ETHERTYPE_QINQ = 0x88A8  # IEEE 802.1ad


def set_up(host: Host, *arguments: str) -> None:
    """Set up the overlay, verified and without problems."""
    done = host.setup("--membership=socket", *arguments)
    assert (done.status, done.report["problems"]) == (0, []), done


def passes(
    lab: Lab, sender: Workload, hearer: Workload, frames: Sequence[bytes], *, dropped: int
) -> None:
    """Send frames; fail unless the first are dropped and all others heard."""
    with lab.capture(hearer, "eth0", lambda seen: seen) as capture:

        def heard() -> list[bytes]:
            return [each for each in frames if any(each[-46:] in seen for seen in capture.seen())]

        for each in frames:
            sender.send(each)
        eventually(lambda: len(heard()) >= len(frames) - dropped)
        assert heard() == [*frames[dropped:]]


def warned(host: Host, sentence: str) -> bool:
    """Whether status warns so, once Open vSwitch has brought its counters up to date."""
    return eventually(lambda: sentence in " ".join(status(host).stdout.split()))


@pytest.mark.parametrize(
    ("family", "forged", "true"),
    [
        (4, ("224.0.0.5", "239.9.9.9", "255.255.255.255", "240.0.0.1", "0.0.0.0", "0.1.2.3",
             "127.0.0.1"), "10.9.9.9"),
        (6, ("::", "::1", "ff02::1", "ff05::9"), "fd00::9999"),
    ],
)  # fmt: skip
def test_a_source_that_no_host_has(family: int, forged: tuple[str, ...], true: str) -> None:
    """Packets from such sources are dropped and counted, and nothing is learned; others pass.

    a program on the underlay ─ switch ─ h1 ─ w1
    """
    group, mac = (GROUP_1, GROUP_MAC[GROUP_1]) if family == 4 else (IPV6_GROUP, "33:33:00:07:00:01")
    with Lab(kind="netdev", family=family) as lab:
        host, peer = lab.add_host(), lab.add_linux_host()
        here = host.add_workload(vlan=100)
        set_up(host, f"--segment=100,group={group}")
        wait_for_members(lab, group, {"h1"})
        stranger, known = "02:cc:00:00:00:01", "02:cc:00:00:00:02"
        with hears(lab, here) as capture, PacketSocket("eth0", namespace=peer.pid) as wire:
            for source in forged:
                wire.send(packet(source, group, 100, frame(stranger),
                                 eth=(mac_of(peer, "eth0"), mac)))  # fmt: skip
            last = frame(known)
            wire.send(packet(true, group, 100, last, eth=(mac_of(peer, "eth0"), mac)))
            assert capture.wait(1) == [last]
        learned = host.ofctl("dump-flows", "br-mcast", "table=20")
        assert (stranger in learned, known in learned) == (False, True)
        said = "packets came from addresses that no host has, and were dropped: "
        assert warned(host, f"{said}{len(forged)} so far")


def plugged(lab: Lab) -> tuple[Host, Workload, Workload, list[tuple[LinuxHost, Workload]]]:
    """h1 with an access port and a trunk, and two peers."""
    host, peers = lab.add_host(), [lab.add_linux_host(), lab.add_linux_host()]
    here, trunk = host.add_workload(vlan=100), host.add_workload()
    there = [peer.add_segment(vni=100, group=GROUP_1) for peer in peers]
    return host, here, trunk, list(zip(peers, there, strict=True))


@pytest.mark.either_datapath
def test_peers_alone_and_tags_within(lab: Lab) -> None:
    """With `only_peers` l1 is heard and l2 is not; a second tag passes where `keep` says so.

    w1, trunk ─ h1 ─ switch ─ l1, l2
    """
    host, here, trunk, [(first, one), (_, two)] = plugged(lab)
    set_up(host, SEGMENT)
    wait_for_members(lab, GROUP_1, {"h1", "l1", "l2"})
    with hears(lab, here) as capture:
        sent = [frame(sender.mac) for sender in (one, two)]
        for sender, each in zip((one, two), sent, strict=True):
            sender.send(each)
        assert sorted(capture.wait(2)) == sorted(sent)

    set_up(host, SEGMENT, f"--peer={first.vtep}", "--peer=192.0.2.0/24", "--only-peers")
    with hears(lab, here) as capture:
        unheard = [frame(two.mac), frame(two.mac, here.mac)]
        wanted = [frame(one.mac), frame(one.mac, here.mac)]
        for each in unheard:
            two.send(each)
        for each in wanted:
            one.send(each)
        assert capture.wait(2) == wanted
    assert warned(host, "packets came from others than the peers, and were dropped: ")

    set_up(host, SEGMENT)
    untagged = [frame(one.mac)]
    within = [tagged(frame(one.mac), kind, 7) for kind in (ETHERTYPE_VLAN, ETHERTYPE_QINQ)]
    passes(lab, one, trunk, [*within, *untagged], dropped=2)
    outer = [tagged(frame(trunk.mac), ETHERTYPE_VLAN, 100)]
    double = [
        tagged(tagged(frame(trunk.mac), kind, 7), ETHERTYPE_VLAN, 100)
        for kind in (ETHERTYPE_VLAN, ETHERTYPE_QINQ)
    ]
    passes(lab, trunk, one, [*double, *outer], dropped=2)
    assert warned(host, "frames with a VLAN tag within their segment were dropped: ")

    set_up(host, SEGMENT, "--inner-vlan=keep")
    passes(lab, one, trunk, within, dropped=0)
    passes(lab, trunk, one, double, dropped=0)
