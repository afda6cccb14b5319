"""The overlay that tests share; frames, where they are seen, and the flows of a host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Literal

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from ovs_mcast.core.closeable import Closeable
from ovs_mcast.core.frames import (
    BROADCAST,
    ETHERTYPE_EXPERIMENTAL,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    VXLAN_UDP_PORT,
    VxlanPacket,
    decode_ethernet,
    decode_vxlan,
    ethernet,
    udp,
    vxlan,
)
from ovs_mcast.lab import Capture, Host, Lab, LinuxHost, Workload
from ovs_mcast.lab.namespace import Namespace, patient
from tests.functional.warm import Result, Run, Warm

GROUP_1, GROUP_2 = "239.0.0.1", "239.0.0.2"
HOSTS = ("h1", "h2", "l1", "l2")
# Their Ethernet addresses: 01:00:5e and the low 23 bits (RFC 1112, 6.4).
GROUP_MAC = {GROUP_1: "01:00:5e:00:00:01", GROUP_2: "01:00:5e:00:00:02"}
TTL = 9


@dataclass(frozen=True)
class Net:
    """A segment of the shared overlay."""

    vni: int
    vlan: int
    group: str

    @property
    def option(self) -> str:
        """Its `--segment` option."""
        return f"--segment={self.vni},vlan={self.vlan},group={self.group}"


# Two with a group each; a third shares the first one's group, and has no VLAN of the VNI's number.
NETS = {net.vni: net for net in (Net(100, 100, GROUP_1), Net(101, 101, GROUP_2),
                                 Net(70_000, 12, GROUP_1))}  # fmt: skip


class Overlay:
    """The overlay of most tests: four hosts, three segments, a workload for each pair.

    h1, h2 (Open vSwitch) ─┐          VNI 100 in 239.0.0.1
                           ├─ switch  VNI 101 in 239.0.0.2
    l1, l2 (Linux vxlan) ──┘          VNI 70000, VLAN 12, in 239.0.0.1 too
    """

    def __init__(self, lab: Lab, warm: Warm) -> None:
        self.lab, self._warm = lab, warm
        self.h1, self.h2 = lab.add_hosts(2)
        self.l1, self.l2 = lab.add_linux_host(), lab.add_linux_host()
        self._workloads: dict[tuple[str, int], Workload] = {}
        for net in NETS.values():
            for host in (self.h1, self.h2):
                self._add(host.add_workload(vlan=net.vlan, vni=net.vni))
            for peer in (self.l1, self.l2):
                self._add(peer.add_segment(vni=net.vni, group=net.group))
        runs = [self._start(host) for host in (self.h1, self.h2)]
        for run in runs:
            result = run.wait()
            assert result.status == 0, result
        for group in GROUP_MAC:
            wait_for_members(lab, group, set(HOSTS))

    def settle(self, name: str) -> None:
        """Wait until the datapath of a host follows its flows, which takes it some time."""
        for host in (self.h1, self.h2):
            if host.name == name:
                host.appctl("revalidator/wait")

    def set_up(self, host: Host, membership: str = "auto", *more: str) -> Result:
        """Run setup with the options of the overlay, but for the membership, and with more."""
        return self._start(host, membership, *more).wait()

    def _start(self, host: Host, membership: str = "auto", *more: str) -> Run:
        options = (*(net.option for net in NETS.values()), f"--ttl={TTL}", *more)
        return self._warm.start(host, *options, f"--membership={membership}")

    def __getitem__(self, where: tuple[str, int]) -> Workload:
        return self._workloads[where]

    @property
    def workloads(self) -> list[Workload]:
        """All twelve workloads."""
        return list(self._workloads.values())

    def vtep(self, name: str) -> str:
        """Return the underlay address of a host."""
        hosts: Sequence[Host | LinuxHost] = (self.h1, self.h2, self.l1, self.l2)
        return next(host.vtep for host in hosts if host.name == name)

    def _add(self, workload: Workload) -> None:
        self._workloads[workload.host, workload.vni] = workload


def lab_scope(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """Return the scope of a shared lab: one for all modules in the slow virtual machine."""
    return "session" if config.getoption("--datapath") == "system" else "module"


_SERIAL = count(1)


def frame(source: str, destination: str = BROADCAST, *, vlan: int | None = None) -> bytes:
    """Return a frame unlike any other, to recognise it where it is seen."""
    text = f"frame {next(_SERIAL)}".encode()
    return ethernet(destination, source, ETHERTYPE_EXPERIMENTAL, text, vlan=vlan)


def whole(seen: bytes) -> bytes | None:
    """Return a frame of these tests with its tag, or None for any other frame."""
    seen_as = decode_ethernet(seen)
    return seen if seen_as and seen_as.ethertype == ETHERTYPE_EXPERIMENTAL else None


def packet(
    source: str,
    destination: str,
    vni: int,
    inner: bytes,
    *,
    eth: tuple[str, str],
    udp_port: int = VXLAN_UDP_PORT,
) -> bytes:
    """Return a VXLAN packet of the underlay; ``eth`` is its outer source and destination.

    In IPv4 it has no UDP checksum, as RFC 7348 asks, so that the inner frame can be changed.
    """
    datagram = udp(source, destination, 50_000, udp_port, vxlan(vni, inner))
    if ":" in source:
        return ethernet(eth[1], eth[0], ETHERTYPE_IPV6, datagram)
    return ethernet(eth[1], eth[0], ETHERTYPE_IPV4, datagram[:26] + bytes(2) + datagram[28:])


class Sightings(Closeable):
    """Captures of VXLAN packets on each host's lo and underlay and on the switch's ports."""

    def __init__(self, lab: Lab) -> None:
        self._captures: dict[str, Capture[VxlanPacket]] = {}
        machines: list[Host | LinuxHost] = [*lab.hosts, *lab.linux_hosts]
        for machine in machines:
            for device in dict.fromkeys(("lo", "eth0", machine.underlay)):
                self._look(lab, machine, device, f"{device} of {machine.name}")
            self._look(lab, lab.switch, machine.name, f"the switch's port to {machine.name}")

    def of(self, frames: Sequence[bytes]) -> str:
        """Return a line for each capture: how many packets with these frames it has."""
        seen = {
            place: [packet for packet in capture.seen() if packet.inner in frames]
            for place, capture in self._captures.items()
        }
        lines = [
            f"{place} saw {len(packets)} VXLAN packets{_headers(packets)}"
            for place, packets in seen.items()
        ]
        return ";\n".join(lines)

    def close(self) -> None:
        """End the captures."""
        for capture in self._captures.values():
            capture.close()

    def _look(self, lab: Lab, machine: Namespace, device: str, place: str) -> None:
        self._captures[place] = lab.capture(machine, device, decode_vxlan)


def _headers(packets: Sequence[VxlanPacket]) -> str:
    said = {f"{p.source} → {p.destination}, VNI {p.vni}" for p in packets}
    return f" ({'; '.join(sorted(said))})" if said else ""


def assert_heard(
    lab: Lab, sender: Workload, hearers: Sequence[Workload], frames: Sequence[bytes]
) -> None:
    """Send frames; fail unless each of these workloads hears each frame once, in order.

    The sender is to hear its own frames as sent. A failure shows where the packets were seen.
    """
    with ExitStack() as stack:
        sightings = stack.enter_context(Sightings(lab))
        heard = {w.name: stack.enter_context(hears(lab, w)) for w in (sender, *hearers)}
        for each in frames:
            sender.send(each)
        for capture in heard.values():
            capture.wait(len(frames))
        wrong = {name: capture.seen() for name, capture in heard.items()}
        wrong = {name: seen for name, seen in wrong.items() if seen != [*frames]}
        if wrong:
            who = ", ".join(
                f"{name} heard {_compared(seen, frames)}" for name, seen in wrong.items()
            )
            raise AssertionError(
                f"{len(frames)} frames from {sender.name}: {who}\n{sightings.of(frames)}"
            )


def _compared(seen: Sequence[bytes], wanted: Sequence[bytes]) -> str:
    others = [each.hex() for each in seen if each not in wanted]
    return f"{len(seen) - len(others)} of them{f' and {others}' if others else ''}"


def hears(lab: Lab, workload: Workload) -> Capture[bytes]:
    """Capture the frames of these tests that a workload receives or sends."""
    return lab.capture(workload, "eth0", whole)


def mac_of(machine: Host | LinuxHost, device: str) -> str:
    """Return the Ethernet address of a machine's device."""
    return machine.path(f"/sys/class/net/{device}/address").read_text().strip()


def eventually(holds: Callable[[], bool], *, seconds: float = 10) -> bool:
    """Return True once the condition holds, False if it does not within these seconds."""
    asking = Retrying(
        retry=retry_if_result(lambda answer: not answer),
        stop=stop_after_delay(patient(seconds)),
        wait=wait_fixed(0.05),
        retry_error_callback=lambda _: False,
    )
    return bool(asking(holds))


def wait_for_members(lab: Lab, group: str, ports: set[str]) -> None:
    """Wait until exactly these ports of the switch have joined the group."""
    assert eventually(lambda: lab.switch.members(group) == ports), lab.switch.members(group)


@dataclass(frozen=True)
class Row:
    """A flow as `ovs-ofctl dump-flows` prints it, with its packets and age in seconds."""

    table: int
    priority: int
    match: str
    actions: str
    packets: int
    age: float


_ROW = re.compile(
    r"duration=(?P<age>[\d.]+)s, table=(?P<table>\d+), n_packets=(?P<packets>\d+), .*?"
    r"priority=(?P<priority>\d+),?(?P<match>\S*) actions=(?P<actions>.*)"
)


def flows(host: Host, table: int, *, bridge: str = "br-mcast") -> list[Row]:
    """Return the flows of one table."""
    printed = host.ofctl("dump-flows", bridge, f"table={table}")
    return [
        Row(int(row["table"]), int(row["priority"]), row["match"], row["actions"],
            int(row["packets"]), float(row["age"]))
        for row in _ROW.finditer(printed)
    ]  # fmt: skip


def learned(host: Host, vlan: int, *, bridge: str = "br-mcast") -> dict[str, Row]:
    """Return the learned flows of a VLAN by Ethernet address."""
    return dict(_learned(flows(host, 20, bridge=bridge), vlan))


def _learned(rows: list[Row], vlan: int) -> Iterator[tuple[str, Row]]:
    for row in rows:
        mac = re.fullmatch(rf"vlan_tci={vlan:#06x}/0x0fff,dl_dst=(.*)", row.match)
        if mac:
            yield mac[1], row
