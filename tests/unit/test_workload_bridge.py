"""What to trace on the bridge for workloads, and what the traces of Open vSwitch 3.1.0 say."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from ovs_mcast.core import ownership
from ovs_mcast.core.items import Port
from ovs_mcast.core.observed import InnerSample
from ovs_mcast.core.target import Target, resolve
from ovs_mcast.core.workload_bridge import faults, samples, warnings

from .plan_overlays import TWO
from .strategies import bare_machine, built

PATCH = f"patch-tun-{ownership.suffix('default')}"
IN, OUT = InnerSample(PATCH, 3, 100, tagged=True), InnerSample("w1", 1, 100, tagged=False)
DEFAULT = "duration=9s, n_packets=0, n_bytes=0, priority=0,actions=NORMAL"
HIDDEN = "table_id=254, duration=9s, n_packets=0, n_bytes=0, priority=2,recirc_id=0,actions=drop"
DROP = "duration=9s, n_packets=0, n_bytes=0, priority=0,actions=drop"


def target(*ports: Port) -> Target:
    """Two segments, VLANs 100 and 101, and these ports on br-int."""
    machine = built(TWO, bare_machine())
    patch = replace(machine.ports[PATCH], ofport=7)
    there = {**machine.ports, PATCH: patch, **{one.name: one for one in ports}}
    return resolve(TWO, replace(machine, ports=there))


def port(name: str, ofport: int, *vlans: str) -> Port:
    return Port("br-int", name, "", vlans=vlans, ofport=ofport)


def asked(lines: list[str], *ports: Port) -> list[tuple[str, int]]:
    return [
        (one.port, one.vlan)
        for one in samples(target(*ports), lines)
        if one.carries == "broadcasts"
    ]


W1, W2, W3 = port("w1", 11, "100"), port("w2", 12, "101", "access"), port("w3", 13, "100")


def test_one_flow_that_serves_all_needs_no_trace() -> None:
    assert asked([DEFAULT, HIDDEN, ""], W1, W2) == []


def test_a_bridge_without_workloads_of_the_overlay_needs_no_trace() -> None:
    assert asked([DROP]) == []
    assert asked([DROP], port("w9", 19, "7"), port("w8", 18, "8", "9", "trunk")) == []


def test_vlans_and_ports_that_no_flow_names_are_alike() -> None:
    """The first stands for all, in whatever order OVSDB has the rows."""
    for rows in permutations((W1, W2, W3)):
        assert asked([DROP, HIDDEN], *rows) == [(PATCH, 100), ("w1", 100)]


def test_each_that_a_flow_names_is_traced() -> None:
    vlan = "table_id=3, duration=9s, priority=9,dl_vlan=101,actions=drop"
    mine = "duration=9s, priority=9,in_port=13,actions=NORMAL"
    assert asked([DROP, vlan, mine], W1, W2, W3) == [
        (PATCH, 100), (PATCH, 101), ("w1", 100), ("w2", 101), ("w3", 100),
    ]  # fmt: skip


def test_a_port_without_a_tag_may_have_every_vlan() -> None:
    """So OVN's ports; what they send is not known."""
    assert asked([DROP], port("ovn-0", 11)) == [(PATCH, 100)]
    assert asked([DROP], port("trunk", 11, "5", "101", "trunk")) == [(PATCH, 101)]


def test_the_traces_are_few() -> None:
    lines = [f"duration=9s, priority=9,in_port={number},actions=NORMAL" for number in range(99)]
    ports = [port(f"w{number}", number, "100") for number in range(20, 99)]
    assert len(asked([DROP, *lines], *ports)) == 32


def trace(steps: str, megaflow: str, actions: str) -> str:
    return (
        f'Flow: arp,in_port=3\n\nbridge("br-int")\n----------------\n{steps}\n\n'
        f"Final flow: unchanged\nMegaflow: recirc_id=0,eth,arp,{megaflow}\n"
        f"Datapath actions: {actions}\n"
    )


NOTHING = trace(" 0. No match.\n    drop", "in_port=3", "drop")
NORMAL = trace(
    " 0. priority 0\n    NORMAL\n     -> no learned MAC for destination, flooding",
    "in_port=3,dl_vlan=100,dl_vlan_pcp=0,dl_src=00:00:00:00:00:00,dl_dst=ff:ff:ff:ff:ff:ff",
    "drop",
)
TABLES = trace(" 0. dl_vlan=100, priority 5\n    resubmit(,7)\n 7. No match.\n    drop",
               "in_port=3,dl_vlan=100", "drop")  # fmt: skip
BY_SOURCE = trace(" 0. priority 0\n    drop", "in_port=1,dl_src=00:00:00:00:00:00", "drop")
BY_ARP = trace(" 7. No match.\n    drop", "in_port=3,arp_spa=0.0.0.0", "drop")
TO_A_PORT = trace(" 0. in_port=3, priority 5\n    output:1", "in_port=3", "3")
CONTROLLER = trace(
    " 0. priority 50\n    CONTROLLER:65535", "in_port=3",
    "userspace(pid=0,controller(reason=1,dont_send=1,continuation=0,recirc_id=1,rule_cookie=0,"
    "controller_id=0,max_len=65535))",
)  # fmt: skip
CROSSED = trace(
    ' 0. priority 0\n    NORMAL\n\nbridge("br-mcast")\n------------------\n'
    " 0. in_port=1, priority 9\n    goto_table:30",
    "in_port=1,dl_src=00:00:00:00:00:00",
    "drop",
)


@pytest.mark.parametrize(
    ("sample", "said", "stopped"),
    [
        (IN, NOTHING, "from the overlay in VLAN 100: table 0: no flow matches"),
        (OUT, NOTHING, "from w1 to the overlay: table 0: no flow matches"),
        (IN, TABLES, "from the overlay in VLAN 100: table 7: no flow matches"),
        (IN, NORMAL, ""),
        (IN, TO_A_PORT, ""),
        (OUT, TO_A_PORT, "from w1 to the overlay: table 0: in_port=3, priority 5"),
        (OUT, BY_SOURCE, ""),
        (IN, BY_ARP, ""),
        (OUT, CROSSED, ""),
        (IN, CONTROLLER, ""),
        (OUT, CONTROLLER, ""),
    ],
)
def test_what_every_broadcast_meets_is_a_fault(
    sample: InnerSample, said: str, stopped: str
) -> None:
    """Not what depends on addresses, nor what a controller decides."""
    found = [str(one) for one in faults(target(), {sample: said})]
    assert [stopped in one for one in found] == [True] * bool(stopped)


@pytest.mark.parametrize("sample", [IN, OUT])
def test_what_a_controller_decides_alone_is_a_warning(sample: InnerSample) -> None:
    [found] = warnings(target(), {sample: CONTROLLER})
    assert "to a controller alone (table 0: priority 50)" in str(found)
    assert list(warnings(target(), {sample: NOTHING})) == []


HOSTS = trace(
    " 0. ip, priority 9\n    drop", "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00,nw_frag=no", "drop"
).replace("arp", "ip")
ONE_HOST = trace(" 0. priority 0\n    drop", "dl_dst=02:00:00:00:00:00", "drop")


def test_a_frame_of_each_kind_is_traced_beside_each_broadcast() -> None:
    found = samples(target(W1), [DROP])
    assert [one.flow for one in found if one.tagged] == [
        "in_port=7,dl_vlan=100,arp,arp_op=1,dl_dst=ff:ff:ff:ff:ff:ff",
        "in_port=7,dl_vlan=100,ip,nw_proto=6,dl_dst=02:00:00:00:00:00",
        "in_port=7,dl_vlan=100,ipv6,nw_proto=6,dl_dst=02:00:00:00:00:00",
        "in_port=7,dl_vlan=100,icmp6,icmpv6_type=135,icmpv6_code=0,dl_dst=33:33:ff:00:00:01",
    ]
    assert [one.flow.split(",")[0] for one in found if not one.tagged] == ["in_port=11"] * 4


@pytest.mark.parametrize(("said", "stopped"), [(HOSTS, True), (ONE_HOST, False)])
@pytest.mark.parametrize("sample", [IN, OUT])
def test_what_all_unicast_meets_is_a_fault(sample: InnerSample, said: str, stopped: bool) -> None:
    """Not what depends on one host's address."""
    found = [str(one) for one in faults(target(), {replace(sample, carries="unicast"): said})]
    assert [one.startswith("br-int does not carry unicast from") for one in found] == (
        [True] * stopped
    )


@pytest.mark.parametrize(
    ("line", "alike"),
    [
        ("priority=9,dl_dst=02:00:00:00:00:01,actions=NORMAL", False),
        ("priority=9,ip,nw_dst=192.0.2.1,actions=drop", False),
        ("priority=9,tcp,actions=drop", False),
        ("priority=9,dl_dst=00:00:00:00:00:00/01:00:00:00:00:00,actions=drop", True),
        ("priority=9,ip,in_port=11,actions=drop", True),
        ("priority=65535,udp,reg13=0/0x8eec1,nw_dst=10.0.0.1,tp_dst=4789,actions=drop", True),
    ],
)
def test_where_no_flow_of_others_names_an_address_all_unicast_is_alike(
    line: str, alike: bool
) -> None:
    """What the guard looks at says nothing then, though the megaflow has it."""
    found = [
        one
        for one in samples(target(W1), [DROP, f"duration=9s, {line}"])
        if one.carries == "unicast"
    ]
    assert {one.alike for one in found} == {alike}
    guarded = ONE_HOST.replace("recirc_id=0,eth,arp", "recirc_id=0,eth,tcp,nw_dst=0.0.0.0")
    sample = replace(found[0], tagged=True)
    assert bool(list(faults(target(), {sample: guarded}))) is alike


@pytest.mark.parametrize("sample", [IN, OUT])
def test_a_flow_that_stops_broadcasts_too_is_named_once(sample: InnerSample) -> None:
    [found] = faults(target(), {replace(sample, carries="unicast"): NOTHING, sample: NOTHING})
    assert "does not carry broadcasts" in str(found)


def test_all_that_one_flow_stops_is_one_fault() -> None:
    many = {replace(IN, vlan=vlan): NOTHING for vlan in range(100, 110)}
    [found] = faults(target(), many)
    assert "in VLAN 100, 101, 102, 103, 104, …: table 0" in str(found)
