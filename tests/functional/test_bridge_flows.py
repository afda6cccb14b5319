"""A bridge for workloads whose flows are an operator's: what they do not carry is a problem.

w1 ─ br-int (flows under test) ═ br-mcast ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

import re
import signal

import pytest

from ovs_mcast.core import ownership
from ovs_mcast.core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, decode_udp, ethernet, udp
from ovs_mcast.lab import Host, Lab, Workload
from tests.functional.agents import configuration, running
from tests.functional.node import Node
from tests.functional.test_status import status
from tests.functional.wire import GROUP_1, GROUP_2, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

PATCH = f"patch-tun-{ownership.suffix('default')}"
SEGMENTS = (f"--segment=100,group={GROUP_1}", f"--segment=101,group={GROUP_2}")
ENDS = {
    4: ("192.0.2.1", "192.0.2.2", ETHERTYPE_IPV4),
    6: ("2001:db8:9::1", "2001:db8:9::2", ETHERTYPE_IPV6),
}
NO_WAY = "br-int does not carry broadcasts"


def problems(host: Host) -> list[str]:
    """Return the problems of a run that changes nothing; its exit status agrees with them."""
    done = host.setup(*SEGMENTS)
    assert done.report["changed"] is False
    found = list(map(str, done.report["problems"]))
    assert done.status == (3 if found else 0), done.stderr
    return found


def flows(host: Host, *lines: str) -> None:
    """Replace the flows of br-int but the guard; P is the patch port, W the port of VLAN 100."""
    names = {"P": PATCH, "W": "w1"}
    numbers = {key: host.vsctl("get", "interface", name, "ofport").strip()
               for key, name in names.items()}  # fmt: skip
    host.ofctl("del-flows", "br-int", "cookie=0/0xff00000000000000")
    for line in lines:
        numbered = re.sub(r"([=:])([PW])\b", lambda found: found[1] + numbers[found[2]], line)
        host.ofctl("add-flow", "br-int", numbered)


def joined(lab: Lab) -> tuple[Host, Workload, Workload]:
    """h1, set up, with a workload in VLAN 100, and one of l1's in VNI 100."""
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    assert host.setup(*SEGMENTS).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    return host, here, there


def datagram(sender: Workload, mac: str, text: str, family: int = 4) -> bytes:
    """Return a frame of a workload to a MAC, unicast or not."""
    here, there, kind = ENDS[family]
    return ethernet(mac, sender.mac, kind, udp(here, there, 7, 7, text.encode()))


def of_workloads(seen: bytes) -> bytes | None:
    """Return such a frame, or None for any other."""
    found = decode_udp(seen)
    return seen if found and found.source in {here for here, _, _ in ENDS.values()} else None


def test_what_the_bridge_for_workloads_drops_is_named(lab: Lab) -> None:
    """Each way that the flows do not carry is a problem with the flow that stops it.

    h1: w1 (VLAN 100), w2 (VLAN 101) ─ br-int ═ br-mcast ─ switch
    """
    host = lab.add_host()
    first, _second = host.add_workload(vlan=100), host.add_workload(vlan=101)
    assert host.setup(*SEGMENTS).status == 0
    assert problems(host) == []

    flows(host)
    into, out = problems(host)
    assert into.startswith(f"{NO_WAY} from the overlay in VLAN 100: table 0: no flow matches")
    assert out.startswith(f"{NO_WAY} from w1 to the overlay: table 0: no flow matches")
    assert f"port {PATCH}" in into
    seen = status(host)
    assert seen.returncode == 3
    assert f"{NO_WAY} from the overlay" in " ".join(seen.stdout.split())

    # As managers write them: a flow for each port, and all else dropped.
    flows(host, "in_port=W,actions=output:P", "priority=0,actions=drop")
    [into, out] = problems(host)
    assert into.startswith(f"{NO_WAY} from the overlay in VLAN 100: table 0: priority 0")
    assert out.startswith(f"{NO_WAY} from w2 to the overlay: table 0: priority 0")

    # One VLAN of two, further on.
    flows(
        host, "priority=0,actions=NORMAL",
        "priority=9,in_port=P,dl_vlan=101,actions=goto_table:7",
        "table=7,priority=3,cookie=0x5,actions=drop",
    )  # fmt: skip
    [into] = problems(host)
    assert into.startswith(
        f"{NO_WAY} from the overlay in VLAN 101: table 7: priority 3, cookie 0x5"
    )

    # A VLAN that no port has is nobody's loss.
    flows(host, "priority=0,actions=NORMAL", "priority=9,in_port=P,actions=drop")
    assert len(problems(host)) == 1
    for workload in ("w1", "w2"):
        host.vsctl("set", "port", workload, "tag=7")
    assert problems(host) == []
    for workload, vlan in (("w1", 100), ("w2", 101)):
        host.vsctl("set", "port", workload, f"tag={vlan}")

    # No false alarm: what is dropped depends on the frame's addresses.
    flows(
        host, f"priority=9,in_port=W,dl_src={first.mac},actions=NORMAL",
        "in_port=P,actions=NORMAL", "in_port=W,arp,arp_spa=192.0.2.1,actions=NORMAL",
        "priority=0,actions=drop",
    )  # fmt: skip
    [out] = problems(host)
    assert out.startswith(f"{NO_WAY} from w2 to the overlay")

    flows(host, "priority=0,actions=NORMAL", "priority=5,ip,nw_dst=192.0.2.1,actions=drop")
    assert problems(host) == []


def test_a_controller_that_decides_alone_is_a_warning(lab: Lab) -> None:
    """What only a controller knows is said, and is no problem.

    h1: w1 ─ br-int (one flow: to the controller) ═ br-mcast ─ switch
    """
    host = lab.add_host()
    host.add_workload(vlan=100)
    assert host.setup(*SEGMENTS).status == 0
    flows(host, "priority=0,actions=CONTROLLER:65535")
    done = host.setup(*SEGMENTS)
    assert done.status == 0
    warned = [one for one in done.report["problems"] if "to a controller alone" in one]
    assert len(warned) == 2
    assert "Open vSwitch applies no tag of access ports" in warned[0]


def test_what_is_named_is_lost_and_what_is_not_arrives(lab: Lab) -> None:
    """The verdicts against packets: no way in, then no way out, then both.

    w1 ─ br-int ═ br-mcast ─ h1 ─ switch ─ l1 (VNI 100)
    """
    host, here, there = joined(lab)
    for lines, into, out in (
        (("in_port=W,actions=NORMAL",), False, True),
        (("in_port=P,actions=NORMAL",), True, False),
        (("in_port=P,actions=NORMAL", "in_port=W,actions=NORMAL"), True, True),
    ):
        flows(host, *lines)
        said = problems(host)
        assert [f"{NO_WAY} from the overlay" in one for one in said if "the overlay in" in one] == [
            True
        ] * (not into)
        assert [True for one in said if "from w1 to" in one] == [True] * (not out)
        with hears(lab, here) as heard_here, hears(lab, there) as heard_there:
            sent, answer = frame(there.mac), frame(here.mac)
            there.send(sent)
            here.send(answer)
            assert sent in heard_there.wait(1)  # its own, as sent
            assert (sent in heard_here.wait(2, timeout=10 if into else 1)) == into
            assert (answer in heard_there.wait(2, timeout=10 if out else 1)) == out


def test_what_is_dropped_where_broadcasts_pass_is_named(lab: Lab) -> None:
    """Unicast of either IP version, and IPv6's multicast: the problem says which; packets agree.

    w1 ─ br-int ═ br-mcast ─ h1 ─ switch ─ l1 (VNI 100)
    """
    host, here, there = joined(lab)
    hosts, groups = "00:00:00:00:00:00/01:00:00:00:00:00", "33:33:00:00:00:00/ff:ff:00:00:00:00"
    solicited = "33:33:ff:00:00:01"
    for line, named, family, to, into, out in (
        (f"priority=9,in_port=P,dl_dst={hosts},actions=drop", "unicast", 4, "", False, True),
        ("priority=9,in_port=W,ip,actions=drop", "unicast", 4, "", True, False),
        (f"priority=9,dl_dst={there.mac},ip,actions=NORMAL", "unicast", 4, "", True, True),
        ("priority=9,in_port=W,ipv6,actions=drop", "IPv6 unicast", 6, "", True, False),
        (
            f"priority=9,dl_dst={groups},actions=drop", "neighbour solicitations", 6, solicited,
            False, False,
        ),
    ):  # fmt: skip
        flows(host, "priority=0,actions=NORMAL", line)
        said = problems(host)
        assert [one.partition(":")[0] for one in said] == [
            *[f"br-int does not carry {named} from the overlay in VLAN 100"] * (not into),
            *[f"br-int does not carry {named} from w1 to the overlay"] * (not out),
        ]
        with (
            lab.capture(here, "eth0", of_workloads) as heard_here,
            lab.capture(there, "eth0", of_workloads) as heard_there,
        ):
            sent = datagram(there, to or here.mac, line, family)
            answer = datagram(here, to or there.mac, line, family)
            there.send(sent)
            here.send(answer)
            assert sent in heard_there.wait(1)  # its own, as sent
            assert (sent in heard_here.wait(2, timeout=10 if into else 1)) == into
            assert (answer in heard_there.wait(2, timeout=10 if out else 1)) == out


@pytest.mark.usefixtures("no_agent_is_left")
def test_the_agent_sees_it_come_and_go(node: Node) -> None:
    """The agent reports the problem at its next look, and its end.

    h1: agent; ovs-ofctl del-flows br-int
    """
    with running(node, configuration(node)) as agent:
        agent.settles()
        guest = ("add-port", "br-int", "guest", "tag=100", "--", "set", "interface", "guest")
        node.host.vsctl(*guest, "type=internal")
        node.host.ofctl("del-flows", "br-int")
        agent.send(signal.SIGHUP)
        agent.waits_for(f"{NO_WAY} from the overlay")
        node.host.ofctl("add-flow", "br-int", "priority=0,actions=NORMAL")
        agent.waits_for("applied and verified|recovered", 2)
    node.host.vsctl("del-port", "br-int", "guest")
    node.torn_down()
