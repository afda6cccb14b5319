"""The overlay on an IPv6 underlay: groups in ff00::/8, VTEPs in fd00::/64, on either datapath.

h1 (repaired), h2 (socket): Open vSwitch ─┐          VNI 100 in ff05::7:1
                                          ├─ switch  VNI 101 in ff05::7:2
l1, l2: Linux vxlan ──────────────────────┘          (snoops MLD)
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from ovs_mcast.core.frames import (
    VxlanPacket,
    decode_ethernet,
    decode_vxlan,
    internet_checksum,
)
from ovs_mcast.lab import Host, Lab, LinuxHost, Workload
from tests.functional.membership_lab import joined_by
from tests.functional.node import Node
from tests.functional.warm import Warm
from tests.functional.wire import (
    wait_for_members,
)

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


class Outer(NamedTuple):
    """A VXLAN packet, its UDP checksum, and whether that is right."""

    packet: VxlanPacket
    checksum: int
    right: bool


def outer(data: bytes) -> Outer | None:
    """Decode a frame of the underlay; None unless it is VXLAN in IPv6."""
    seen, ethernet = decode_vxlan(data), decode_ethernet(data)
    if seen is None or ethernet is None or ":" not in seen.source:
        return None
    datagram = ethernet.payload[40 : 40 + int.from_bytes(ethernet.payload[4:6], "big")]
    ends = b"".join(ip_address(end).packed for end in (seen.source, seen.destination))
    pseudo = ends + len(datagram).to_bytes(4, "big") + (17).to_bytes(4, "big")
    checksum = int.from_bytes(datagram[6:8], "big")
    return Outer(seen, checksum, internet_checksum(pseudo + datagram) == 0)
