"""A bridge for workloads that snoops IGMP and MLD: members on all hosts hear a group.

workloads ─ br-int (mcast_snooping_enable) ═ br-mcast ─ vxlan ─ switch ─ the same on h2
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from ovs_mcast.core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, decode_ethernet, ethernet, udp
from ovs_mcast.core.groups import ethernet_of, parse_address
from ovs_mcast.lab import Capture, Host, Kind, Lab, Workload
from tests.functional.wire import GROUP_1, eventually, frame, hears, lab_scope, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SEGMENT = f"--segment=100,group={GROUP_1}"
# Groups of the guests in their segment, each with a source.
GUESTS = {"239.99.0.1": "172.16.0.99", "ff15::99": "fe80::99"}
STREAM = b"a stream of the guests"


@contextmanager
def joined(workload: Workload, group: str) -> Iterator[None]:
    """Join a group on the workload's eth0, as a program does."""
    if ":" in group:
        workload.run("sh", "-ec", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        level, option = socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        family = socket.AF_INET6
    else:
        level, option, family = socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.AF_INET

    def join() -> socket.socket:
        member = socket.socket(family, socket.SOCK_DGRAM)
        index = struct.pack("=I" if ":" in group else "=4xI", socket.if_nametoindex("eth0"))
        member.setsockopt(level, option, socket.inet_pton(family, group) + index)
        return member

    with workload.inside(join):
        yield


def datagram(sender: Workload, group: str) -> bytes:
    """Return a datagram of a guest to a group of guests."""
    return ethernet(
        ethernet_of(parse_address(group)),
        sender.mac,
        ETHERTYPE_IPV6 if ":" in group else ETHERTYPE_IPV4,
        udp(GUESTS[group], group, 7, 7, STREAM),
    )


def received(lab: Lab, workload: Workload, group: str) -> Capture[bytes]:
    """Capture the datagrams to a group of guests that a workload receives."""
    mac = ethernet_of(parse_address(group))

    def to_group(data: bytes) -> bytes | None:
        seen = decode_ethernet(data)
        return data if seen and seen.destination == mac and STREAM in data else None

    return lab.capture(workload, "eth0", to_group)


@dataclass(frozen=True)
class Site:
    """Two hosts whose br-int snoops; a sender and a member on h1, a member and another on h2."""

    lab: Lab
    hosts: tuple[Host, Host]
    sender: Workload
    members: tuple[Workload, Workload]
    other: Workload

    def knows(self, group: str) -> bool:
        """Whether each br-int has heard its own member; it keeps none of a port that floods."""
        return all(group in host.appctl("mdb/show", "br-int").split() for host in self.hosts)


@pytest.fixture(scope=lab_scope)
def site(kind: Kind) -> Iterator[Site]:
    """The two hosts, set up first; their operator then switches snooping on."""
    with Lab(kind=kind) as lab:
        one, two = lab.add_hosts(2)
        sender, here = one.add_workload(vlan=100), one.add_workload(vlan=100)
        there, other = two.add_workload(vlan=100), two.add_workload(vlan=100)
        for host in (one, two):
            assert host.setup(SEGMENT).status == 0
            host.vsctl(
                *("set", "bridge", "br-int", "mcast_snooping_enable=true"),
                "other_config:mcast-snooping-disable-flood-unregistered=true",
            )
        wait_for_members(lab, GROUP_1, {"h1", "h2"})
        yield Site(lab, (one, two), sender, (here, there), other)


@pytest.mark.either_datapath
@pytest.mark.parametrize("group", GUESTS)
def test_members_on_all_hosts_hear_a_sender(site: Site, group: str) -> None:
    """A stream reaches the member beside its sender and the one on the other host, and no other.

    h1: sender, member ─ br-int (snoops) ═ br-mcast ─ switch ─ h2: member, no member
    """
    with ExitStack() as stack:
        for workload in site.members:
            stack.enter_context(joined(workload, group))
        assert eventually(lambda: site.knows(group))
        heard = [stack.enter_context(received(site.lab, one, group)) for one in site.members]
        aside = stack.enter_context(received(site.lab, site.other, group))
        last = stack.enter_context(hears(site.lab, site.other))
        for _ in range(5):
            site.sender.send(datagram(site.sender, group))
        broadcast = frame(site.sender.mac)
        site.sender.send(broadcast)
        assert last.wait(1) == [broadcast]
        assert [len(each.wait(5)) for each in heard] == [5, 5]
        assert aside.seen() == []
