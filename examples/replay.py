"""Two hosts on a cable, in network namespaces: let one join and send, and capture the datagrams.

memo.py has the cases to replay.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import decode_udp
from ovs_mcast.lab.namespace import Namespace, link_batch, wait_until

PORT = 5000
NUMBER = 3  # datagrams in each case
PATIENCE = 5.0
DEVICE = "eth0"
HERE = {4: "10.0.0.1", 6: "fd00::1"}
THERE = {4: "10.0.0.2", 6: "fd00::2"}
GROUPS = {4: "239.0.0.1", 6: "ff05::1"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

SETTLE = "(wait until duplicate address detection is over)"


def explicit_source(sender: socket.socket, _index: int) -> None:
    """Bind to the unicast address."""
    sender.bind((HERE[4 if sender.family == socket.AF_INET else 6], 0))


def multicast_if(sender: socket.socket, index: int) -> None:
    """Set the device for datagrams to groups."""
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=8xi", index))


def bind_to_device(sender: socket.socket, _index: int) -> None:
    """Set the device for all datagrams."""
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())


@dataclass(frozen=True)
class Case:
    """One method to join and to send; ``expected`` is where its datagrams go: "wire" or "lo".

    ``join`` joins by a socket. ``prepare`` is applied to the sending socket.
    """

    title: str
    expected: str
    commands: Sequence[str] = ()
    family: int = 4
    group: str = ""
    join: bool = False
    prepare: Callable[[socket.socket, int], None] | None = None


@dataclass(frozen=True)
class Seen:
    """The route lookup, and how many of NUMBER datagrams were captured where and received where.

    ``here`` is None if nothing was joined.
    """

    route: str
    lo: int
    wire: int
    there: int
    here: int | None
    packet: str

    def as_expected(self, case: Case) -> bool:
        """Return True if all datagrams took the expected path and were received."""
        paths = {"wire": (0, NUMBER, NUMBER), "lo": (NUMBER, 0, 0)}
        return (self.lo, self.wire, self.there) == paths[case.expected] and self.here in {
            None,
            NUMBER,
        }


class Hosts:
    """Two fresh hosts; a context, at whose end both are gone."""

    def __init__(self) -> None:
        self.here, self.there = Namespace("here"), Namespace("there")

    def __enter__(self) -> Hosts:
        cable = f"link add {DEVICE} type veth peer name {DEVICE} netns {self.there.pid}"
        self.here.path("/")  # wait until the host is prepared
        link_batch([cable], within=self.here)
        for host, addresses in ((self.here, HERE), (self.there, THERE)):
            script = f"echo 0 >/proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6\n"
            script += f"ip link set {DEVICE} up\nip addr add {addresses[4]}/24 dev {DEVICE}\n"
            script += f"ip addr add {addresses[6]}/64 dev {DEVICE} nodad"
            host.run("sh", "-ec", script)
        return self

    def __exit__(self, *_: object) -> None:
        for host in (self.here, self.there):
            host.release()
        for host in (self.here, self.there):
            host.close()

    def carry_out(self, command: str) -> None:
        """Run a command here."""
        if command == SETTLE:
            wait_until(self._settled, "addresses are still tentative", timeout=10)
        else:
            self.here.run("sh", "-ec", command)

    def _settled(self) -> bool:
        addresses = self.here.run("ip", "-6", "addr").stdout
        routes = self.here.run("ip", "-6", "route", "show", "table", "local").stdout
        return "tentative" not in addresses and f"local {GROUPS[6]} " in routes


def udp_socket(host: Namespace, family: int, stack: ExitStack) -> tuple[socket.socket, int]:
    """Return a UDP socket of a program on the host, and the index of its device."""

    def make() -> tuple[socket.socket, int]:
        return socket.socket(FAMILIES[family], socket.SOCK_DGRAM), socket.if_nametoindex(DEVICE)

    made = host.inside(make)
    stack.enter_context(made[0])
    return made


def join(member: socket.socket, index: int, family: int, group: str) -> None:
    """Join a group by IP_ADD_MEMBERSHIP or IPV6_JOIN_GROUP."""
    packed = socket.inet_pton(FAMILIES[family], group)
    if family == 4:
        request = struct.pack("=4s4xi", packed, index)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        request = struct.pack("=16si", packed, index)
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)


def heard(program: socket.socket, payload: bytes, timeout: float) -> int:
    """Return how many of NUMBER datagrams with this payload a program receives."""
    program.settimeout(timeout)
    number = 0
    while number < NUMBER:
        try:
            number += program.recv(2048) == payload
        except TimeoutError:
            break
    return number


def replay(case: Case) -> Seen:
    """Join and send on one host as in the case, while capturing on lo and on the wire."""
    family, group = case.family, case.group or GROUPS[case.family]
    with Hosts() as hosts, ExitStack() as stack:
        if case.join:
            join(*udp_socket(hosts.here, family, stack), family, group)
        for command in case.commands:
            hosts.carry_out(command)
        asked = ["ip", "route", "get", group]
        if case.prepare is explicit_source:
            asked += ["from", HERE[family]]
        elif case.prepare is not None:
            asked += ["oif", DEVICE]
        answer = hosts.here.run(*asked).stdout
        lo, wire = (
            stack.enter_context(
                PacketSocket(name, namespace=hosts.here.pid, outgoing=name != "lo", udp_port=PORT)
            )
            for name in ("lo", DEVICE)
        )
        member, index = udp_socket(hosts.there, family, stack)
        member.bind(("", PORT))
        join(member, index, family, group)
        sender, index = udp_socket(hosts.here, family, stack)
        if case.prepare is not None:
            case.prepare(sender, index)
        for _ in range(NUMBER):
            sender.sendto(b"from here", (group, PORT))
        # A unicast datagram sent last always arrives; datagrams to the group have arrived by then.
        marker, _ = udp_socket(hosts.here, family, stack)
        marker.sendto(b"marker", (THERE[family], PORT))
        there = 0
        member.settimeout(PATIENCE)
        while (payload := member.recv(2048)) != b"marker":
            there += payload == b"from here"
        on_lo, on_wire = ours(lo), ours(wire)
        return Seen(
            route=f"{' '.join(asked[2:])}: dev {answer.split(' dev ')[1].split()[0]}",
            lo=len(on_lo),
            wire=len(on_wire),
            there=there,
            here=received(hosts, family, group, stack) if group == GROUPS[family] else None,
            packet=next(iter(on_wire + on_lo), "nowhere"),
        )


def ours(packets: PacketSocket) -> list[str]:
    """Return the datagrams captured on a device, each as "source → destination on device"."""
    return [
        f"{seen.source} → {seen.destination} on {packets.device}"
        for seen in filter(None, map(decode_udp, packets.frames()))
        if seen.payload == b"from here"
    ]


def received(hosts: Hosts, family: int, group: str, stack: ExitStack) -> int:
    """Return how many datagrams of the other host a program receives that joins nothing itself."""
    program, _ = udp_socket(hosts.here, family, stack)
    program.bind(("", PORT))
    sender, index = udp_socket(hosts.there, family, stack)
    if family == 4:
        multicast_if(sender, index)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    for _ in range(NUMBER):
        sender.sendto(b"from there", (group, PORT))
    return heard(program, b"from there", PATIENCE)
