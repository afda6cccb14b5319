"""A lab for memberships: the IGMP and MLD of a host, and where datagrams of programs are seen."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ovs_mcast.core.frames import decode_udp
from ovs_mcast.lab import Capture, Kind, Lab, LinuxHost
from ovs_mcast.lab.namespace import RUNDIR
from tests.functional.node import Node
from tests.functional.programs import Program, Said, membership_said
from tests.functional.warm import Result, Warm
from tests.functional.wire import eventually

GROUP, GROUP_6 = "239.0.0.1", "ff05::7:1"
BASE = (f"--segment=100,group={GROUP}", "--segment=101,group=239.0.0.2")
SOCKET, KEEPER = "--membership=socket", "ovs-mcast-default.keeper"
BASE_6 = (f"--segment=100,group={GROUP_6}",)


@dataclass(frozen=True, slots=True)
class Net:
    """A lab with a plain Linux host that is a member of GROUP; hosts are added on request.

    node ─ switch: port h… ─ l1
    """

    lab: Lab
    warm: Warm
    l1: LinuxHost

    def node(self, kind: Kind | None = None, *, addresses: tuple[str, ...] = ()) -> Node:
        """Add a host, by default of the lab's own kind."""
        return Node(self.lab.add_host(kind=kind, addresses=addresses), self.warm)

    def sent(self, node: Node, group: str = GROUP) -> set[str]:
        """Return where an ordinary datagram is seen: "wire" (eth0 of the other host) or "lo".

        A second datagram has the VTEP as its source and reaches the wire by any IPv4 route: once it
        is seen, the first one is seen or lost.
        """
        family = 6 if ":" in group else 4
        with (
            self.lab.capture(self.l1, "eth0", decode_udp) as wire,
            self.lab.capture(node.host, "lo", decode_udp) as lo,
            Program(node.host, family=family) as program,
            Program(node.host, source="" if family == 6 else node.host.vtep, family=family) as sure,
        ):
            said, marker = program.send(group), sure.send(group)
            assert wire.wait(where=lambda datagram: datagram.payload == marker)
            captures = {"wire": wire, "lo": lo}
            return {
                name
                for name, capture in captures.items()
                if said in {datagram.payload for datagram in capture.seen()}
            }

    def hears(self, node: Node, group: str = GROUP) -> bool:
        """Return True if a program that has joined nothing receives the other host's datagram."""
        wait_for_port(self.lab, group, node.host.name)
        with (
            Program(node.host).listen() as program,
            Program(self.l1, source=self.l1.vtep) as sender,
        ):
            return sender.send(group) == program.hear()

    @contextmanager
    def membership_wire(self, node: Node) -> Iterator[MembershipWire]:
        """Capture the host's IGMP and MLD at its port of the switch."""
        with self.lab.capture(self.lab.switch, node.host.name, membership_said) as capture:
            yield MembershipWire(node, capture)


class MembershipWire:
    """Joins and leaves that a host reports on the wire."""

    def __init__(self, node: Node, capture: Capture[Said]) -> None:
        self._node, self._capture, self._number, self._read = node, capture, 0, 0
        self._gone: set[str] = set()

    def wait_joined(self, group: str) -> None:
        """Wait until the host has reported its membership."""
        assert self._capture.wait(where=lambda said: ("join", group) in said)

    def left(self) -> list[str]:
        """Return the groups that the host has left since the last call.

        The host joins and leaves a marker group: earlier leaves are on the wire before that.
        """
        self._number += 1
        marker, scope = f"239.255.255.{self._number}/32", "scope host"
        if ":" in self._node.host.vtep:
            marker, scope = f"ff05::ff:{self._number}/128", "nodad"
        address = f"{marker} dev {self._node.host.underlay} {scope} autojoin"
        marker = marker.partition("/")[0]
        self._node.sh(f"ip address add {address}")
        self.wait_joined(marker)
        self._node.sh(f"ip address del {address}")
        assert self._capture.wait(where=lambda said: ("leave", marker) in said)
        fresh = self._capture.seen()[self._read :]
        self._read += len(fresh)
        return [group for said in fresh for word, group in said if self._is_news(word, group)]

    def _is_news(self, word: str, group: str) -> bool:
        """Return True for the first leave of a group: a leave may be repeated (RFC 3376)."""
        if group.startswith(("239.255.255.", "ff05::ff:", "ff02")):
            return False  # the marker, and groups that IPv6 joins for an address
        if word == "join":
            self._gone.discard(group)
            return False
        news = group not in self._gone
        self._gone.add(group)
        return news


def wait_for_port(lab: Lab, group: str, port: str) -> None:
    """Wait until the switch sends the group to the port."""
    assert eventually(lambda: port in lab.switch.members(group)), lab.switch.members(group)


def keepers(node: Node) -> dict[int, Path]:
    """Return the processes that hold groups on a host, each with its directory in /proc."""
    found = {}
    for directory in node.host.path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (directory / "comm").read_text() == "ovs-mcast-keep\n":
                found[int(directory.name)] = directory
    return found


def files(node: Node) -> list[str]:
    """Return the names of our files in the run directory of a host."""
    paths = node.host.path(RUNDIR).iterdir()
    return sorted(path.name for path in paths if "ovs-mcast" in path.name)


def joined_by(result: Result) -> set[tuple[str, str]]:
    """Return (joined_by, send_path) of all segments of a report."""
    return {(s["joined_by"], s["send_path"]) for s in result.report["segments"].values()}


def addresses(node: Node) -> str:
    """Return what ip(8) prints of the underlay device."""
    return node.sh(f"ip -details address show dev {node.host.underlay}")


def local_routes(node: Node, group: str = GROUP) -> str:
    """Return the routes that take a group to lo, as ip(8) prints them."""
    family = "-6" if ":" in group else "-4"
    return node.sh(f"ip {family} route show table local | grep -F 'local {group} ' || true")


def members(node: Node) -> set[str]:
    """Return the groups, without 224.0.0.1, of which the underlay device is a member."""
    device, current, found = node.host.underlay, "", set()
    for line in node.sh("cat /proc/net/igmp").splitlines()[1:]:
        if line[0].isdigit():
            current = line.split()[1]
        elif current == device:
            packed = int(line.split()[0], 16).to_bytes(4, sys.byteorder)
            found.add(socket.inet_ntoa(packed))
    for line in node.sh("cat /proc/net/igmp6").splitlines():
        _, name, group, *_ = line.split()
        if name == device and not group.startswith("ff02"):
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(group)))
    return found - {"224.0.0.1", "ff01::1"}


def segments(*numbers: int) -> tuple[str, ...]:
    """Return a `--segment` for each number, in 239.0.7.<number>."""
    return tuple(f"--segment={number},group=239.0.7.{number}" for number in numbers)


def the_keeper(node: Node) -> tuple[int, Path]:
    """The one keeper of a host: its process id, and its directory in /proc."""
    [found] = keepers(node).items()
    return found
