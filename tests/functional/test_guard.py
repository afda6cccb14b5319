"""A workload sends VXLAN of its own making to its host: it crosses into no other segment.

w1, trunk, tap0, in0 (VLAN 100) ─ br-int ─ gw0 (an internal port with an address of h1, VLAN 100)
w2 (VLAN 200) ─ br-int ═ br-mcast ─ vxlan ─ underlay ─ switch ─ l1
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_VLAN, tagged
from ovs_mcast.lab import Host, Lab
from tests.functional.agents import configuration, running, write
from tests.functional.node import Node
from tests.functional.test_status import status
from tests.functional.wire import (
    GROUP_1,
    GROUP_2,
    assert_heard,
    eventually,
    frame,
    hears,
    mac_of,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

GUESTS = {4: ("192.0.2.1/24", "192.0.2.9"), 6: ("2001:db8::1/64", "2001:db8::9")}
Send = Callable[[bytes], object]
_TUN = Path("/dev/net/tun")
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002  # if_tun.h


@contextmanager
def tap(host: Host, name: str) -> Iterator[Send]:
    """A tap device in VLAN 100, as that of a virtual machine; what is written comes from it."""

    def opened() -> int:
        descriptor = os.open(_TUN, os.O_RDWR)
        wanted = struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER)
        fcntl.ioctl(descriptor, _TUNSETIFF, wanted)
        return descriptor

    descriptor = host.inside(opened)
    try:
        host.run("ip", "link", "set", name, "up")
        host.vsctl("add-port", "br-int", name, "tag=100")
        yield lambda sent: os.write(descriptor, sent)
    finally:
        host.vsctl("--if-exists", "del-port", name)
        os.close(descriptor)


@contextmanager
def internal(host: Host, name: str) -> Iterator[Send]:
    """An internal port in VLAN 100, on which a program of the host sends."""
    host.vsctl("add-port", "br-int", name, "tag=100", "--", "set", "interface", name,
               "type=internal")  # fmt: skip
    host.run("ip", "link", "set", name, "up")
    with PacketSocket(name, namespace=host.pid) as wire:
        yield wire.send


class Crossing:
    """h1 with segments 100 and 200, a gateway in 100 and who sends there, and l1 in both."""

    def __init__(self, lab: Lab, groups: tuple[str, str]) -> None:
        self.lab, self.host, peer = lab, lab.add_host(), lab.add_linux_host()
        self.groups, self.family = groups, 6 if ":" in groups[0] else 4
        self.here, self.trunk = self.host.add_workload(vlan=100), self.host.add_workload()
        self.other = self.host.add_workload(vlan=200)
        self.there = peer.add_segment(vni=200, group=groups[1])
        self.set_up()
        wait_for_members(lab, groups[1], {"h1", "l1"})
        address, self.guest = GUESTS[self.family]
        self.host.run(
            "sh", "-ec",
            "ovs-vsctl add-port br-int gw0 tag=100 -- set interface gw0 type=internal;"
            " echo 0 >/proc/sys/net/ipv6/conf/gw0/disable_ipv6;"
            f" ip address add {address} dev gw0 {'nodad' if self.family == 6 else ''};"
            " ip link set gw0 up",
        )  # fmt: skip

    def set_up(self, *more: str) -> list[str]:
        """Set up the overlay; return its problems."""
        segments = (f"--segment={vni},group={group}"
                    for vni, group in zip((100, 200), self.groups, strict=True))  # fmt: skip
        done = self.host.setup(*segments, "--membership=socket", *more)
        assert done.status == 0, done
        return [str(one) for one in done.report["problems"]]

    @contextmanager
    def senders(self) -> Iterator[Mapping[str, Send]]:
        """Whoever may send into VLAN 100, by name."""
        with ExitStack() as stack:
            found: dict[str, Send] = {
                "access": self.here.send,
                "trunk": lambda sent: self.trunk.send(tagged(sent, ETHERTYPE_VLAN, 100)),
                "internal port": stack.enter_context(internal(self.host, "in0")),
            }
            if _TUN.exists():  # not in every container
                found["tap"] = stack.enter_context(tap(self.host, "tap0"))
            yield found

    def places(self) -> list[tuple[str, str]]:
        """Where the tunnel takes packets: Ethernet and IP address."""
        if self.host.datapath == "system":
            return [(mac_of(self.host, "gw0"), self.host.vtep)]
        mac = mac_of(self.host, self.host.underlay)
        return [(mac, self.host.vtep), (mac, self.groups[1])]

    def crossed(self, send: Send, place: tuple[str, str], stranger: str, expected: int) -> int:
        """Send five packets of VNI 200 to a place; return how many segment 200 hears."""
        mac, address = place
        frames = [frame(stranger) for _ in range(5)]
        with hears(self.lab, self.other) as heard:
            for inner in frames:
                send(packet(self.guest, address, 200, inner, eth=(self.here.mac, mac)))
            last = frame(self.there.mac)  # by the overlay: what crosses came before
            self.there.send(last)
            assert eventually(lambda: last in heard.seen())
            eventually(lambda: len([one for one in heard.seen() if one in frames]) >= expected)
            return len([one for one in heard.seen() if one in frames])

    def learned(self, stranger: str) -> bool:
        """Whether the inner source of the sender's choice was learned."""
        return stranger in self.host.ofctl("dump-flows", "br-mcast", "table=20")


def cross(crossing: Crossing) -> None:
    """Try every sender and place with the guard, without, and with it again."""
    with crossing.senders() as senders:
        for turn, (options, expected) in enumerate((((), 0), (("--no-guard",), 5), ((), 0))):
            stranger = f"02:bb:00:00:00:{turn:02x}"
            warned = crossing.set_up(*options)
            for name, send in senders.items():
                for place in crossing.places():
                    found = crossing.crossed(send, place, stranger, expected)
                    assert found == expected, (name, place, options, found)
            assert crossing.learned(stranger) == bool(expected)
            assert [("gw0" in one, "guard" in one) for one in warned] == (
                [(True, True)] * bool(expected)
            )
    assert_heard(crossing.lab, crossing.there, [crossing.other],
                 [frame(crossing.there.mac) for _ in range(5)])  # fmt: skip
    assert eventually(
        lambda: "workloads sent VXLAN packets to this host's own" in
        " ".join(status(crossing.host).stdout.split())
    )  # fmt: skip


@pytest.mark.either_datapath
def test_a_workloads_own_vxlan_crosses_into_no_segment(lab: Lab) -> None:
    """None of five crosses, and nothing is learned; without the guard all five do.

    w1, trunk, tap0, in0 (VLAN 100) ─ br-int ─ gw0;  br-int ─ w2 (VLAN 200);  l1
    """
    cross(Crossing(lab, (GROUP_1, GROUP_2)))


def test_nor_over_ipv6() -> None:
    """The same with an IPv6 underlay.

    w1, trunk, tap0, in0 (VLAN 100) ─ br-int ─ gw0;  br-int ─ w2 (VLAN 200);  l1
    """
    with Lab(kind="netdev", family=6) as lab:
        cross(Crossing(lab, ("ff05::7:1", "ff05::7:2")))


@pytest.mark.usefixtures("no_agent_is_left")
def test_the_agent_keeps_the_guard_and_teardown_takes_it(node: Node) -> None:
    """A guard that is deleted is there again, beside an operator's flows, which stay.

    h1: agent; br-int ═ br-mcast
    """
    own = "cookie=0x7,priority=65535,in_port=9,actions=drop"
    with running(node, configuration(node)) as agent:
        agent.settles()
        node.host.ofctl("add-flow", "br-int", own)
        node.host.ofctl("del-flows", "br-int", "udp")
        assert "flow" in agent.puts_back()
        write(node, configuration(node, guard=False))
        agent.waits_for("(?s)put back.*applied and verified")
    there = node.host.ofctl("dump-flows", "br-int")
    assert "cookie=0x7," in there
    assert "cookie=0x6d" not in there
    node.torn_down()


def test_a_bridge_that_speaks_openflow_1_0_alone(lab: Lab) -> None:
    """The overlay works, and says what lacks where an address of the host is on the bridge.

    h1: br-int (protocols OpenFlow10) ─ gw0 (an address);  br-int ═ br-mcast
    """
    host = lab.add_host(kind="dummy")
    host.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "protocols=OpenFlow10")
    done = host.setup(f"--segment=100,group={GROUP_1}")
    assert (done.status, done.report["problems"]) == (0, [])
    host.vsctl("add-port", "br-int", "gw0", "--", "set", "interface", "gw0", "type=internal")
    host.run("ip", "link", "add", "gw0", "type", "bridge")  # the dummy datapath makes no device
    host.run("ip", "address", "add", "192.0.2.1/24", "dev", "gw0")
    done = host.setup(f"--segment=100,group={GROUP_1}")
    assert done.status == 0
    [said] = done.report["problems"]
    assert str(said).endswith("`ovs-vsctl add bridge br-int protocols OpenFlow13`")
