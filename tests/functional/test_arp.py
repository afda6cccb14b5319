"""Who answers ARP for the VTEP: the bridge that holds the NIC, and the NIC's own stack not.

h1: br-phy (the VTEP) ─ eth0, with a stack of its own ─ switch ─ l1 asks
"""

from __future__ import annotations

import struct
from functools import partial
from operator import eq

import pytest
from netaddr import IPAddress

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import BROADCAST, decode_ethernet, ethernet, mac_bytes, mac_text
from ovs_mcast.lab import Lab, LinuxHost
from tests.functional.wire import GROUP_1, mac_of

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SETUP = ("--underlay", "br-phy", "--datapath", "netdev", f"--segment=100,group={GROUP_1}")
ARP = 0x0806
REQUEST, REPLY = 1, 2
# Ethernet and IPv4, an operation, and two pairs of their addresses (RFC 826).
_HEAD, _BODY = struct.pack("!HHBB", 1, 0x0800, 6, 4), struct.Struct("!H6s4s6s4s")


def request(asker: LinuxHost, target: str) -> bytes:
    """Return a broadcast that asks who has an address."""
    mac = mac_of(asker, "eth0")
    body = _BODY.pack(
        REQUEST, mac_bytes(mac), IPAddress(asker.vtep).packed, bytes(6), IPAddress(target).packed
    )
    return ethernet(BROADCAST, mac, ARP, _HEAD + body)


def answerer(target: str, seen: bytes) -> str | None:
    """Return the Ethernet address that answers for an address; None for any other frame."""
    frame = decode_ethernet(seen)
    if frame is None or frame.ethertype != ARP:
        return None
    operation, mac, address, _, _ = _BODY.unpack(frame.payload[len(_HEAD) :][: _BODY.size])
    if operation != REPLY or address != IPAddress(target).packed:
        return None
    return mac_text(mac)


def test_a_nic_that_answers_for_the_vtep_is_named(lab: Lab) -> None:
    """With Linux's defaults two stations answer, and setup names the sysctl that leaves one.

    h1: br-phy ─ eth0 (arp_ignore 0, then 1) ─ switch ─ l1 sends requests and counts answers
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    vtep = host.vtep
    bridge, nic = mac_of(host, "br-phy"), mac_of(host, "eth0")
    assert bridge != nic
    for conf in ("all", "eth0"):
        for name in ("arp_ignore", "rp_filter"):
            host.run("sh", "-ec", f"echo 0 >/proc/sys/net/ipv4/conf/{conf}/{name}")

    with PacketSocket("eth0", namespace=peer.pid) as wire:
        with lab.capture(peer, "eth0", partial(answerer, vtep)) as answers:
            wire.send(request(peer, vtep))
            assert set(answers.wait(2)) == {bridge, nic}
        done = host.setup(*SETUP)
        assert done.status == 3
        assert (
            f"eth0 answers ARP for {vtep} too, with its own Ethernet address {nic}" in done.stderr
        )
        assert "set net.ipv4.conf.eth0.arp_ignore=1" in done.stderr

        host.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=1")
        with lab.capture(peer, "eth0", partial(answerer, vtep)) as answers:
            for count in range(1, 6):
                wire.send(request(peer, vtep))
                answers.wait(count, where=partial(eq, bridge))
            assert answers.seen() == [bridge] * 5
        done = host.setup(*SETUP)
        assert (done.status, done.report["problems"]) == (0, []), done.stderr
