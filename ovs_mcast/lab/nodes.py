"""Machines of the lab without Open vSwitch: the underlay's switch, Linux hosts, workloads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ..adapters.packet_socket import ETH_P_ALL, PacketSocket
from ..core.frames import (
    BROADCAST,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    VXLAN_UDP_PORT,
    decode_udp,
    ethernet,
    udp,
)
from .namespace import Namespace, link_batch, wait_until

SWITCH_BRIDGE = "br0"
NIC = "eth0"

# Switch the querier on last: the short response interval counts only then. Until that interval is
# over, the bridge floods every group. Two pairs of veth are the test plugs of wait_until_snooping.
_SWITCH_SCRIPT = f"""
ip -batch - <<END
link add {SWITCH_BRIDGE} type bridge mcast_snooping 1 mcast_query_response_interval 20
link set {SWITCH_BRIDGE} type bridge mcast_querier 1
link set {SWITCH_BRIDGE} up
link add plug-a type veth peer name test-a
link add plug-b type veth peer name test-b
link set plug-a master {SWITCH_BRIDGE} up
link set plug-b master {SWITCH_BRIDGE} up
link set test-a up
link set test-b up
END
"""

# The bridge sends MLD queries from its link-local address, so it needs IPv6 and no DAD delay.
_MLD_SCRIPT = """
echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
"""

# Linux VXLAN devices are peers here and not under test: lift their limit of group memberships.
_LINUX_SCRIPT = "echo 4096 >/proc/sys/net/ipv4/igmp_max_memberships"


class Workload(Namespace):
    """A machine of a tenant: one device, eth0, in one segment, and nothing of the underlay."""

    def __init__(self, name: str, *, host: str, vni: int, number: int, mtu: int, mac: str) -> None:
        super().__init__(name)
        self.host = host
        # The name of the other end, on a host with Open vSwitch.
        self.port = f"w{number}"
        self.vni = vni
        self.mtu = mtu
        self.mac = mac or f"02:77:00:00:{number >> 8:02x}:{number & 0xFF:02x}"
        # Segments are isolated, so all of them use the same addresses.
        self.address = f"172.16.{number >> 8}.{number & 0xFF}"

    def start(self) -> None:
        """Give eth0 its address and put it up."""
        # veth leaves an offloaded checksum unfinished, and receivers then reject the packet.
        self.run("sh", "-ec", f"ethtool -K {NIC} tx off >/dev/null")
        lines = [f"addr add {self.address}/16 dev {NIC}", f"link set {NIC} mtu {self.mtu} up"]
        link_batch(lines, within=self)

    def listen(self, *, ethertype: int = ETH_P_ALL) -> PacketSocket:
        """Return a socket, also a context, that receives the frames that reach eth0 from now on."""
        return PacketSocket(NIC, namespace=self.pid, ethertype=ethertype)

    def send(self, frame: bytes) -> None:
        """Send one frame as it is, with any source address."""
        with PacketSocket(NIC, namespace=self.pid) as packets:
            packets.send(frame)


# From host's name, VNI and Ethernet address or "" to a running workload, not yet attached.
NewWorkload = Callable[[str, int, str], Workload]


class Switch(Namespace):
    """The underlay: a Linux bridge that snoops; each host's port has the host's name."""

    def __init__(self, mtu: int, family: int) -> None:
        super().__init__("switch", (_MLD_SCRIPT if family == 6 else "") + _SWITCH_SCRIPT)
        self.mtu = mtu
        self._family = family

    def plug(self, hosts: Sequence[Namespace]) -> None:
        """Give each host an eth0 whose other end is a port of the switch."""
        commands = []
        for host in hosts:
            commands += [
                f"link add {host.name} mtu {self.mtu} master {SWITCH_BRIDGE} type veth"
                f" peer name {NIC} mtu {self.mtu} netns {host.pid}",
                f"link set {host.name} up",
            ]
        link_batch(commands, within=self)

    def members(self, group: str) -> set[str]:
        """Return the ports whose host joined the group, from the switch's own forwarding table."""
        shown = json.loads(self.run("bridge", "-json", "mdb", "show").stdout)
        return {entry["port"] for table in shown for entry in table["mdb"] if entry["grp"] == group}

    def wait_until_snooping(self, timeout: float = 15.0) -> None:
        """Wait until a group without members is no longer flooded, else raise UnavailableError."""
        to_all = _probe(BROADCAST, "192.0.2.1", "255.255.255.255")
        to_empty_group = _probe("01:00:5e:7f:ff:fa", "192.0.2.1", "239.255.255.250")
        if self._family == 6:
            to_empty_group = _probe("33:33:ff:ff:ff:fa", "2001:db8::1", "ff05::ffff:fffa")
        with (
            PacketSocket("test-a", namespace=self.pid) as sender,
            PacketSocket("test-b", namespace=self.pid) as listener,
        ):

            def withheld() -> bool:
                sender.send(to_empty_group)
                sender.send(to_all)
                heard = filter(None, map(decode_udp, listener.frames(0.02)))
                return {datagram.destination for datagram in heard} == {"255.255.255.255"}

            wait_until(withheld, "the switch still floods every group", timeout=timeout)


def _probe(mac: str, source: str, destination: str) -> bytes:
    datagram = udp(source, destination, 9, 9, b"is this flooded?")
    ethertype = ETHERTYPE_IPV6 if ":" in source else ETHERTYPE_IPV4
    return ethernet(mac, "02:00:00:00:00:fe", ethertype, datagram)


class LinuxHost(Namespace):
    """A host without Open vSwitch: its segments are devices of the kernel's vxlan driver."""

    def __init__(self, name: str, addresses: Sequence[str], new_workload: NewWorkload) -> None:
        super().__init__(name, _LINUX_SCRIPT)
        self._new_workload = new_workload
        self.addresses = tuple(addresses)
        self.underlay = NIC

    @property
    def vtep(self) -> str:
        """Return the first address of eth0, without its prefix length."""
        return self.addresses[0].partition("/")[0]

    def start(self) -> None:
        """Configure the NIC: its addresses, and checksums in software."""
        self.run("sh", "-ec", f"ethtool -K {NIC} tx off >/dev/null")
        add_addresses(self, NIC, self.addresses)

    def add_segment(
        self,
        *,
        vni: int,
        group: str,
        mac: str = "",
        udp_port: int = VXLAN_UDP_PORT,
        options: str = "",
    ) -> Workload:
        """Return a workload whose eth0 is a vxlan device; the tunnel stays on this host's eth0.

        ``options`` are further ones of ip-link(8) for vxlan, such as ``ageing 5``.
        """
        workload = self._new_workload(self.name, vni, mac)
        # Create the device here under a unique name, then move it: before Linux 6.2 a device cannot
        # be created in another namespace under a name that this one has.
        made = workload.port
        link_batch(
            [
                f"link add {made} address {workload.mac} type vxlan id {vni}"
                f" group {group} dev {self.underlay} dstport {udp_port} ttl 8 {options}",
                f"link set {made} netns {workload.pid} name {NIC}",
            ],
            within=self,
        )
        workload.start()
        return workload


def add_addresses(host: Namespace, device: str, addresses: Sequence[str]) -> None:
    """Set a device up with its addresses; enable IPv6, off by default, if one of them is IPv6."""
    ipv6 = [address for address in addresses if ":" in address]
    lines = [f"addr replace {a} dev {device}{' nodad' if a in ipv6 else ''}" for a in addresses]
    if ipv6:
        host.run("sh", "-ec", f"echo 0 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6")
    link_batch([*lines, f"link set {device} up"], within=host)
