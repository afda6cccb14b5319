"""What the kernel's datapath does with a group, by hand: receiving and sending, in one table.

Nothing of ovs_mcast runs here: this is what it is built on.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Literal, NamedTuple

import pytest

from ovs_mcast.adapters.packets import PacketSocket
from ovs_mcast.frames import decode_vxlan
from ovs_mcast.lab import Host, Workload
from tests.functional.joins import Net, wait_for_port
from tests.functional.members import Program, opened_in
from tests.functional.wire import frame, hears, mac_of, packet, wait_for_members

pytestmark = [pytest.mark.either_datapath, pytest.mark.needs("root", "ovs-vswitchd")]
pytest_plugins = ("tests.functional.hosts", "tests.functional.joining")

GROUP, VNI = "239.0.9.1", 900
_MARKER = "02:ee:00:00:00:01"
_AUTOJOIN = 0x400  # IFA_F_MCAUTOJOIN
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8


class Row(NamedTuple):
    """What is there, and what comes of it; ``sent`` is where the packets are seen."""

    membership: str
    route: bool
    outer_source: bool
    receives: bool
    sent: str


TABLE = [
    Row("none", False, False, False, "nowhere"),
    Row("none", False, True, False, "wire"),
    Row("none", True, False, False, "wire"),
    Row("none", True, True, False, "wire"),
    Row("autojoin", False, False, True, "lo"),
    Row("autojoin", False, True, True, "wire"),
    Row("autojoin", True, False, True, "lo"),
    Row("autojoin", True, True, True, "wire"),
    Row("repaired", False, False, True, "nowhere"),
    Row("repaired", False, True, True, "wire"),
    Row("repaired", True, False, True, "wire"),
    Row("repaired", True, True, True, "wire"),
    Row("peer", False, False, True, "nowhere"),
    Row("peer", False, True, True, "wire"),
    Row("peer", True, False, True, "wire"),
    Row("peer", True, True, True, "wire"),
    Row("socket", False, False, True, "nowhere"),
    Row("socket", False, True, True, "wire"),
    Row("socket", True, False, True, "wire"),
    Row("socket", True, True, True, "wire"),
]


def test_what_the_kernel_datapath_receives_and_sends(
    net: Net, record_property: Callable[[str, object], None]
) -> None:
    """Each membership, with a route to the group and without, outer source unset and explicit.

    workload ─ h1: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload
    """
    host = net.node().host
    here = host.add_workload()
    there = net.l1.add_segment(vni=VNI, group=GROUP)
    wait_for_port(net.lab, GROUP, net.l1.name)
    rows = []
    for (_, explicit), alike in groupby(sorted(TABLE, key=in_turn), key=in_turn):
        tunnel(host, here, net.l1.vtep, explicit=explicit)
        for wanted in alike:
            with joined(host, wanted.membership, route=wanted.route):
                member = wanted.membership != "none"
                receives = received(net, host, here, there, member=member)
                sent = sent_to(net, host, here)
            rows.append(wanted._replace(receives=receives, sent=sent))
    rows.sort(key=lambda row: TABLE.index(next(w for w in TABLE if w[:3] == row[:3])))
    record_property("table", printed(rows))
    print(printed(rows))
    assert rows == TABLE


def in_turn(row: Row) -> tuple[bool, bool]:
    """Where a row comes: those without membership first, since a leave need not be seen.

    A host that a query made speak the older protocol says that it leaves only if it was the last
    that reported (RFC 2236, 3); the switch forgets it minutes later.
    """
    return row.membership != "none", row.outer_source


def tunnel(host: Host, here: Workload, far: str, *, explicit: bool) -> None:
    """One VXLAN port on br-int: what the workload sends to the group, the marker to l1 alone."""
    local = "options:local_ip=flow" if explicit else ""
    host.vsctl(
        *f"--if-exists del-port vx -- add-port br-int vx -- set interface vx type=vxlan"
        f" ofport_request=9 options:remote_ip=flow options:key=flow {local}".split()
    )
    port = host.vsctl("get", "interface", here.port, "ofport").strip()
    out = f"set_field:{VNI}->tun_id,{f'set_field:{host.vtep}->tun_src,' if explicit else ''}"
    host.ofctl("del-flows", "br-int")
    for flow in (
        f"priority=1,in_port=9,actions=output:{port}",
        f"priority=1,in_port={port},actions={out}set_field:{GROUP}->tun_dst,output:9",
        f"priority=2,in_port={port},dl_dst={_MARKER},"
        f"actions={out}set_field:{far}->tun_dst,output:9",
    ):
        host.ofctl("add-flow", "br-int", flow)


@contextmanager
def joined(host: Host, membership: str, *, route: bool) -> Iterator[None]:
    """The host as a member, in one way, and with a route to the group or with none."""
    with ExitStack() as stack:
        if membership in {"autojoin", "repaired"}:
            host.run("ip", "address", "add", f"{GROUP}/32", "dev", "eth0", "autojoin")
        if membership == "repaired":
            host.run(*f"ip route del local {GROUP} dev eth0 table local".split())
        if membership == "peer":
            peer(host, "add")
            # The kernel makes the route by itself.
            host.run("ip", "route", "del", GROUP, "dev", "eth0")
        if membership == "socket":
            stack.enter_context(Program(host).join(GROUP, "eth0"))
        if route:
            host.run("ip", "route", "add", f"{GROUP}/32", "dev", "eth0")
        try:
            yield
        finally:
            if route:
                host.run("ip", "route", "del", f"{GROUP}/32", "dev", "eth0")
            if membership in {"autojoin", "repaired"}:
                host.run("ip", "address", "del", f"{GROUP}/32", "dev", "eth0")
            if membership == "peer":
                peer(host, "del")


def peer(host: Host, command: Literal["add", "del"]) -> None:
    """Add or remove the group as the peer of the host's own address, which ip(8) cannot."""
    index = int(host.path("/sys/class/net/eth0/ifindex").read_text())
    attributes = b"".join(
        struct.pack("=HH4s", 8, kind, value)
        for kind, value in (
            (_IFA_LOCAL, socket.inet_aton(host.vtep)),
            (_IFA_ADDRESS, socket.inet_aton(GROUP)),
            (_IFA_FLAGS, struct.pack("=I", _AUTOJOIN)),
        )
    )
    wanted = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index) + attributes
    kind, flags = (20, 0x605) if command == "add" else (21, 0x5)  # request, ack; create, exclusive
    # The socket is of the namespace in which it was opened, whoever writes to it.
    netlink = opened_in(
        host, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    )
    with netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(wanted), kind, flags, 1, 0) + wanted)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    assert error == 0, os.strerror(-error)


def received(net: Net, host: Host, here: Workload, there: Workload, *, member: bool) -> bool:
    """Whether a broadcast of l1 is heard; a packet to the VTEP, which always is, comes after it."""
    wait_for_members(net.lab, GROUP, {net.l1.name, *([host.name] if member else [])})
    call, marker = frame(there.mac), frame(there.mac)
    ends = (mac_of(net.l1, "eth0"), mac_of(host, "eth0"))
    with (
        hears(net.lab, here) as heard,
        PacketSocket("eth0", namespace=net.l1.pid) as wire,
    ):
        there.send(call)
        wire.send(packet(net.l1.vtep, host.vtep, VNI, marker, eth=ends))
        assert heard.wait(where=marker.__eq__)
        return call in heard.seen()


def sent_to(net: Net, host: Host, here: Workload) -> str:
    """Where a broadcast is seen; one to l1 alone, which always reaches the wire, comes after it."""
    call, marker = frame(here.mac), frame(here.mac, _MARKER)
    with (
        net.lab.capture(net.lab.switch, host.name, decode_vxlan) as wire,
        net.lab.capture(host, "lo", decode_vxlan) as lo,
    ):
        here.send(call)
        here.send(marker)
        assert wire.wait(where=lambda seen: seen.inner == marker)
        places = {"wire": wire.seen(), "lo": lo.seen()}
    found = [name for name, seen in places.items() if call in {each.inner for each in seen}]
    return " and ".join(found) or "nowhere"


def printed(rows: list[Row]) -> str:
    """The table, as Markdown."""
    lines = [
        "| membership | route to the group | outer source | receives | sends to |",
        "|" + "---|" * 5,
    ]
    lines += [
        f"| {row.membership} | {'yes' if row.route else 'no'} |"
        f" {'explicit' if row.outer_source else 'unset'} |"
        f" {'yes' if row.receives else 'no'} | {row.sent} |"
        for row in rows
    ]
    return "\n".join(lines)
