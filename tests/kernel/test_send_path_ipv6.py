"""What the kernel's datapath does with an IPv6 group, by hand: receiving and sending, in one table.

Nothing of ovs_mcast runs here: this is what it is built on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import NamedTuple

import pytest

from ovs_mcast.adapters.packets import PacketSocket
from ovs_mcast.frames import decode_vxlan
from ovs_mcast.lab import Host, Kind, Lab, LinuxHost, Workload
from tests.functional.members import Program
from tests.functional.wire import eventually, frame, hears, mac_of, packet, wait_for_members

pytestmark = [pytest.mark.either_datapath, pytest.mark.needs("root", "ovs-vswitchd")]

GROUP, VNI = "ff05::9:1", 900
_MARKER = "02:ee:00:00:00:01"


class Row(NamedTuple):
    """What is there, and what comes of it; ``sent`` is where the packets are seen."""

    membership: str
    outer_source: bool
    receives: bool
    sent: str


# Every device has ff00::/8 in table local, so that there always is a route.
TABLE = [
    Row("none", False, False, "wire"),
    Row("none", True, False, "wire"),
    Row("autojoin", False, True, "lo"),
    Row("autojoin", True, True, "lo"),
    Row("repaired", False, True, "wire"),
    Row("repaired", True, True, "wire"),
    Row("socket", False, True, "wire"),
    Row("socket", True, True, "wire"),
]


class Net(NamedTuple):
    """workload ─ h1: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload."""

    lab: Lab
    host: Host
    here: Workload
    l1: LinuxHost
    there: Workload


@pytest.fixture
def net(kind: Kind) -> Iterator[Net]:
    """A lab whose underlay is IPv6."""
    with Lab(kind=kind, family=6) as lab:
        host, l1 = lab.add_host(), lab.add_linux_host()
        yield Net(lab, host, host.add_workload(), l1, l1.add_segment(vni=VNI, group=GROUP))


def test_what_the_kernel_datapath_receives_and_sends(
    net: Net, record_property: Callable[[str, object], None]
) -> None:
    """Each membership that IPv6 has, outer source unset and explicit.

    workload ─ h1: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload
    """
    rows = []
    for (_, explicit), alike in groupby(sorted(TABLE, key=in_turn), key=in_turn):
        tunnel(net, explicit=explicit)
        for wanted in alike:
            with joined(net.host, wanted.membership):
                receives = received(net, member=wanted.membership != "none")
                rows.append(wanted._replace(receives=receives, sent=sent_to(net)))
    rows.sort(key=lambda row: TABLE.index(next(w for w in TABLE if w[:2] == row[:2])))
    record_property("table", printed(rows))
    print(printed(rows))
    assert rows == TABLE


def in_turn(row: Row) -> tuple[bool, bool]:
    """Where a row comes: those without membership first, since a leave need not be seen.

    A host that a query made speak the older protocol says that it leaves only if it was the last
    that reported (RFC 2710, 4); the switch forgets it minutes later.
    """
    return row.membership != "none", row.outer_source


def tunnel(net: Net, *, explicit: bool) -> None:
    """One VXLAN port on br-int: what the workload sends to the group, the marker to l1 alone."""
    host, local = net.host, "options:local_ip=flow" if explicit else ""
    host.vsctl(
        *f"--if-exists del-port vx -- add-port br-int vx -- set interface vx type=vxlan"
        f" ofport_request=9 options:remote_ip=flow options:key=flow options:csum=true"
        f" {local}".split()
    )
    port = host.vsctl("get", "interface", net.here.port, "ofport").strip()
    source = f"set_field:{host.vtep}->tun_ipv6_src," if explicit else ""
    out = f"actions=set_field:{VNI}->tun_id,{source}"
    host.ofctl("del-flows", "br-int")
    for flow in (
        f"priority=1,in_port=9,actions=output:{port}",
        f"priority=1,in_port={port},{out}set_field:{GROUP}->tun_ipv6_dst,output:9",
        f"priority=2,in_port={port},dl_dst={_MARKER},"
        f"{out}set_field:{net.l1.vtep}->tun_ipv6_dst,output:9",
    ):
        host.ofctl("add-flow", "br-int", flow)


@contextmanager
def joined(host: Host, membership: str) -> Iterator[None]:
    """The host as a member, in one way."""
    address = f"{GROUP}/128 dev eth0"
    with ExitStack() as stack:
        if membership in {"autojoin", "repaired"}:
            host.run("ip", "address", "add", *address.split(), "autojoin", "nodad", "noprefixroute")
            shown = ("ip", "-6", "route", "show", "table", "local")
            assert eventually(lambda: f"local {GROUP} dev eth0" in host.run(*shown).stdout)
        if membership == "repaired":
            host.run(*f"ip -6 route del local {GROUP} dev eth0 table local".split())
        if membership == "socket":
            stack.enter_context(Program(host, family=6).join(GROUP, "eth0"))
        try:
            yield
        finally:
            if membership in {"autojoin", "repaired"}:
                host.run("ip", "address", "del", *address.split())


def received(net: Net, *, member: bool) -> bool:
    """Whether a broadcast of l1 is heard; a packet to the VTEP, which always is, comes after it."""
    wait_for_members(net.lab, GROUP, {net.l1.name, *([net.host.name] if member else [])})
    call, marker = frame(net.there.mac), frame(net.there.mac)
    ends = (mac_of(net.l1, "eth0"), mac_of(net.host, "eth0"))
    with (
        hears(net.lab, net.here) as heard,
        PacketSocket("eth0", namespace=net.l1.pid) as wire,
    ):
        net.there.send(call)
        wire.send(packet(net.l1.vtep, net.host.vtep, VNI, marker, eth=ends))
        assert heard.wait(where=marker.__eq__)
        return call in heard.seen()


def sent_to(net: Net) -> str:
    """Where a broadcast is seen; one to l1 alone, which always reaches the wire, comes after it."""
    call, marker = frame(net.here.mac), frame(net.here.mac, _MARKER)
    with (
        net.lab.capture(net.lab.switch, net.host.name, decode_vxlan) as wire,
        net.lab.capture(net.host, "lo", decode_vxlan) as lo,
    ):
        net.here.send(call)
        net.here.send(marker)
        assert wire.wait(where=lambda seen: seen.inner == marker)
        places = {"wire": wire.seen(), "lo": lo.seen()}
    found = [name for name, seen in places.items() if call in {each.inner for each in seen}]
    return " and ".join(found) or "nowhere"


def printed(rows: list[Row]) -> str:
    """The table, as Markdown."""
    lines = ["| IPv6 membership | outer source | receives | sends to |", "|" + "---|" * 4]
    lines += [
        f"| {row.membership} | {'explicit' if row.outer_source else 'unset'} |"
        f" {'yes' if row.receives else 'no'} | {row.sent} |"
        for row in rows
    ]
    return "\n".join(lines)
