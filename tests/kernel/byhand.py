"""A tunnel made by hand, without ovs_mcast: whether it receives, and where it sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import NamedTuple

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import decode_vxlan
from ovs_mcast.lab import Host, Lab, LinuxHost, Workload
from tests.functional.wire import frame, hears, mac_of, packet, wait_for_members

VNI = 900
_MARKER = "02:ee:00:00:00:01"


class Row(NamedTuple):
    """One arrangement and its result; ``sent`` is where the packets are captured."""

    membership: str
    route: bool
    outer_source: bool
    receives: bool
    sent: str


class ByHand(NamedTuple):
    """workload ─ host: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload."""

    group: str
    lab: Lab
    host: Host
    here: Workload
    l1: LinuxHost
    there: Workload

    @classmethod
    def of(cls, group: str, lab: Lab, host: Host, l1: LinuxHost) -> ByHand:
        """The workloads, and the device of l1; its group is of the underlay's family."""
        return cls(group, lab, host, host.add_workload(), l1, l1.add_segment(vni=VNI, group=group))

    def seen(
        self, table: Sequence[Row], joined: Callable[[Host, Row], AbstractContextManager[None]]
    ) -> list[Row]:
        """The table as it is measured, in its order; ``joined`` makes the host as a row has it."""
        measured = {}
        for (_, explicit), alike in groupby(sorted(table, key=_turn), key=_turn):
            self._tunnel(explicit=explicit)
            for row in alike:
                with joined(self.host, row):
                    receives = self._receives(member=row.membership != "none")
                    measured[row] = row._replace(receives=receives, sent=self._sent())
        return [measured[row] for row in table]

    def _tunnel(self, *, explicit: bool) -> None:
        """Make one VXLAN port: the workload's frames go to the group, the marker to l1 alone."""
        field = "tun_ipv6" if ":" in self.group else "tun"
        # Of IPv6 a Linux vxlan device drops what has no UDP checksum.
        csum = "options:csum=true" if ":" in self.group else ""
        local = "options:local_ip=flow" if explicit else ""
        self.host.vsctl(
            *"--if-exists del-port vx -- add-port br-int vx -- set interface vx type=vxlan"
            f" ofport_request=9 options:remote_ip=flow options:key=flow {csum} {local}".split()
        )
        port = self.host.vsctl("get", "interface", self.here.port, "ofport").strip()
        source = f"set_field:{self.host.vtep}->{field}_src," if explicit else ""
        out = f"actions=set_field:{VNI}->tun_id,{source}"
        self.host.ofctl("del-flows", "br-int")
        for flow in (
            f"priority=1,in_port=9,actions=output:{port}",
            f"priority=1,in_port={port},{out}set_field:{self.group}->{field}_dst,output:9",
            f"priority=2,in_port={port},dl_dst={_MARKER},"
            f"{out}set_field:{self.l1.vtep}->{field}_dst,output:9",
        ):
            self.host.ofctl("add-flow", "br-int", flow)

    def _receives(self, *, member: bool) -> bool:
        """Whether a broadcast of l1 is heard; after it comes one to the VTEP, which always is."""
        members = {self.l1.name, *([self.host.name] if member else [])}
        wait_for_members(self.lab, self.group, members)
        call, marker = frame(self.there.mac), frame(self.there.mac)
        ends = (mac_of(self.l1, "eth0"), mac_of(self.host, "eth0"))
        with (
            hears(self.lab, self.here) as heard,
            PacketSocket("eth0", namespace=self.l1.pid) as wire,
        ):
            self.there.send(call)
            wire.send(packet(self.l1.vtep, self.host.vtep, VNI, marker, eth=ends))
            assert heard.wait(where=marker.__eq__), f"{self.host}: what is sent to it is not heard"
            return call in heard.seen()

    def _sent(self) -> str:
        """Where a broadcast is seen; after it comes one to l1, which always reaches the wire."""
        call, marker = frame(self.here.mac), frame(self.here.mac, _MARKER)
        with (
            self.lab.capture(self.lab.switch, self.host.name, decode_vxlan) as wire,
            self.lab.capture(self.host, "lo", decode_vxlan) as lo,
        ):
            self.here.send(call)
            self.here.send(marker)
            assert wire.wait(where=lambda seen: seen.inner == marker), "what l1 is sent is not seen"
            places = {"wire": wire.seen(), "lo": lo.seen()}
        found = [name for name, seen in places.items() if call in {each.inner for each in seen}]
        return " and ".join(found) or "nowhere"


def _turn(row: Row) -> tuple[bool, bool]:
    """When a row comes: those without membership first, since a leave need not be seen.

    A host that a query made speak the older protocol says that it leaves only if it was the last
    that reported (RFC 2236, 3; RFC 2710, 4); the switch forgets it minutes later.
    """
    return row.membership != "none", row.outer_source


def printed(rows: Sequence[Row], title: str) -> str:
    """The table, as Markdown."""
    lines = [
        f"| {title} | route to the group | outer source | receives | sends to |",
        "|" + "---|" * 5,
    ]
    lines += [
        f"| {row.membership} | {'yes' if row.route else 'no'} |"
        f" {'explicit' if row.outer_source else 'unset'} |"
        f" {'yes' if row.receives else 'no'} | {row.sent} |"
        for row in rows
    ]
    return "\n".join(lines)
