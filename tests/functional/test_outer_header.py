"""The outer header of the tunnels' packets: as configured, or as an operator has set it.

h1 (a workload broadcasts) ─ look here: port h1 of the switch
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from ovs_mcast.core import ownership
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_IPV4, decode_vxlan, ethernet, udp
from ovs_mcast.lab import Host, Kind, Lab, Workload
from tests.functional.agents import configuration, running
from tests.functional.node import Node
from tests.functional.wire import GROUP_1, eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENT = f"--segment=100,group={GROUP_1}"
VXLAN = f"vxlan-{ownership.suffix('default')}"
INNER_TOS = 0x28


@dataclass(frozen=True)
class Outer:
    """What the options decide of an outer IPv4 header, and of UDP's (RFC 791, RFC 768)."""

    tos: int
    df: bool
    checksum: bool


def outer(seen: bytes) -> Outer | None:
    """Return the outer header of a VXLAN packet; None for any other frame."""
    if decode_vxlan(seen) is None:
        return None
    return Outer(seen[15], bool(seen[20] & 0x40), seen[40:42] != bytes(2))


def sent_by(lab: Lab, workload: Workload) -> Outer:
    """Return the outer header of a broadcast of a workload, an IPv4 packet of TOS 0x28."""
    packet = bytearray(udp("192.168.0.1", "255.255.255.255", 5000, 5000, b"hello"))
    packet[1] = INNER_TOS
    with lab.capture(lab.switch, workload.host, outer) as leaving:
        workload.send(ethernet(BROADCAST, workload.mac, ETHERTYPE_IPV4, bytes(packet)))
        [seen] = leaving.wait(1)
    return seen


@pytest.mark.either_datapath
def test_the_outer_header_is_as_configured(lab: Lab) -> None:
    """TOS, DF and checksum are on the wire as asked for, and gone when they are asked for no more.

    h1 (workload: broadcasts) ─ look here: port h1 of the switch
    """
    host = lab.add_host()
    workload = host.add_workload(vlan=100)
    for options, wanted in (
        ((), Outer(0, df=True, checksum=False)),
        (("--tos", "0x48", "--no-df", "--checksum"), Outer(0x48, df=False, checksum=True)),
        (("--tos", "inherit", "--df", "--no-checksum"), Outer(INNER_TOS, df=True, checksum=False)),
        ((), Outer(0, df=True, checksum=False)),
    ):
        done = host.setup(SEGMENT, *options)
        assert done.status == 0, done.stderr
        assert sent_by(lab, workload) == wanted
        assert host.setup(SEGMENT, *options).report["changed"] is False


@pytest.mark.either_datapath
def test_an_operators_option_stays(lab: Lab) -> None:
    """What an operator sets on the port stays in every run; what breaks the overlay is undone.

    h1 (workload: broadcasts; ovs-vsctl set interface) ─ look here: port h1 of the switch
    """
    host = lab.add_host()
    workload = host.add_workload(vlan=100)
    assert host.setup(SEGMENT).status == 0
    host.vsctl("set", "interface", VXLAN, "options:tos=inherit", "options:df_default=false")
    theirs = Outer(INNER_TOS, df=False, checksum=False)
    assert eventually(lambda: sent_by(lab, workload) == theirs)
    assert host.setup(SEGMENT).report["changed"] is False

    host.vsctl("set", "interface", VXLAN, "options:in_key=7", "options:remote_ip=10.0.0.99")
    done = host.setup(SEGMENT)
    assert done.status == 0
    [change] = done.report["changes"]
    assert change["reason"] == "option in_key, option remote_ip differ"
    assert sent_by(lab, workload) == theirs

    assert host.setup(SEGMENT, "--tos=4").status == 0
    assert sent_by(lab, workload) == Outer(4, df=False, checksum=False)


@pytest.mark.usefixtures("no_agent_is_left")
def test_the_agent_keeps_an_operators_option(node: Node) -> None:
    """The agent repairs what breaks the overlay and says which option; all others stay.

    h1: agent; ovs-vsctl set interface
    """
    with running(node, configuration(node)) as agent:
        agent.settles()
        node.host.vsctl("set", "interface", VXLAN, "options:csum=true", "options:key=7")
        agent.puts_back()
        assert "option key differs" in agent.said()
        options = node.host.vsctl("get", "interface", VXLAN, "options")
        assert "csum=" in options
        assert "key=flow" in options
    node.torn_down()


@pytest.mark.either_datapath
def test_a_mark_is_seen_by_the_packet_filter(lab: Lab, kind: Kind) -> None:
    """A packet filter counts the outer packets by their mark; the userspace datapath is refused.

    h1 (workload: broadcasts; nftables counts fwmark 7) ─ switch
    """
    host = lab.add_host()
    workload = host.add_workload(vlan=100)
    done = host.setup(SEGMENT, "--mark=7")
    if kind != "kernel":
        assert done.status == 2
        assert "underlay.mark" in done.stderr
        assert host.vsctl("list-br").split() == ["br-int", "br-phy"]
        return
    assert done.status == 0, done.stderr
    host.run("nft", "add table inet t")
    host.run("nft", "add chain inet t out { type filter hook output priority 0; }")
    host.run("nft", "add rule inet t out meta mark 7 udp dport 4789 counter")
    sent_by(lab, workload)
    assert counted(host) == 1


def counted(host: Host) -> int:
    """Return the packets of the one rule."""
    ruleset = json.loads(host.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    [rule] = [item["rule"] for item in ruleset if "rule" in item]
    return next(int(part["counter"]["packets"]) for part in rule["expr"] if "counter" in part)
