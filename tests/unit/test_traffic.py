"""What flows counted and learned, from text as Open vSwitch 3.1 prints it."""

from __future__ import annotations

import pytest

from ovs_mcast.core import ownership, traffic
from ovs_mcast.core.traffic import Count

STATIC = ownership.cookie("default", vlan=12, vni=70_000)
LEARNED = ownership.cookie("default", vlan=12, vni=70_000, learned=True)
_LEARN = f"learn(table=20,cookie={LEARNED:#x},load:NXM_NX_TUN_IPV4_SRC[]->NXM_NX_TUN_IPV4_DST[])"


def line(table: int, packets: int, octets: int, rest: str, *, cookie: int = STATIC) -> str:
    return (
        f" cookie={cookie:#x}, duration=26.690s, table={table}, n_packets={packets}, "
        f"n_bytes={octets}, {rest}"
    )


def entry(mac: str, loads: str, packets: int = 0, *, cookie: int = LEARNED) -> str:
    rest = (
        f"hard_timeout=300, priority=1,vlan_tci=0x000c/0x0fff,dl_dst={mac} actions="
        f"load:0->NXM_OF_VLAN_TCI[],load:0x11170->NXM_NX_TUN_ID[],{loads},output:2"
    )
    return line(20, packets, packets * 60, rest, cookie=cookie)


def to(address: str) -> str:
    return f"load:{address}->NXM_NX_TUN_IPV4_DST[]"


DUMP = [
    "OFPST_FLOW reply (OF1.4) (xid=0x2):",
    line(
        0,
        99,
        9999,
        "priority=90,in_port=1 actions=goto_table:20",
        cookie=ownership.cookie("default"),
    ),
    line(10, 3, 300, "priority=1,tun_id=0x11170,tun_dst=239.0.0.1 actions=goto_table:15"),
    line(15, 5, 420, f"priority=1,tun_id=0x11170 actions={_LEARN},output:1"),
    entry("02:00:00:00:00:02", to("0xa000003"), 4),
    entry("02:00:00:00:00:01", to("0xa000003"), 1),
    entry("02:00:00:00:00:03", to("0xa000002")),
    line(30, 7, 700, "priority=1,dl_vlan=12 actions=pop_vlan,output:2"),
]


def test_each_flow_is_counted_as_what_it_carries() -> None:
    seen = traffic.read("default", DUMP).segments
    assert list(seen) == [70_000]
    one = seen[70_000]
    assert one.vlan == 12
    assert one.bum_sent == Count(7, 700)
    assert one.bum_received == Count(3, 300)
    assert one.received == Count(5, 420)
    assert one.unicast_received == Count(2, 120)
    assert one.unicast_sent == Count(5, 300)


def test_macs_are_sorted_under_the_vtep_that_has_them() -> None:
    one = traffic.read("default", DUMP).segments[70_000]
    assert one.peers == {
        "10.0.0.2": ("02:00:00:00:00:03",),
        "10.0.0.3": ("02:00:00:00:00:01", "02:00:00:00:00:02"),
    }
    assert list(one.peers) == ["10.0.0.2", "10.0.0.3"]
    assert one.learned == 3


@pytest.mark.parametrize(
    ("loads", "vtep"),
    [
        (to("0xa000003"), "10.0.0.3"),
        (to("0"), "0.0.0.0"),
        ("set_field:10.0.0.3->tun_dst", "10.0.0.3"),
        (
            "load:0x10002->NXM_NX_TUN_IPV6_DST[0..63],"
            "load:0xfd00000000000000->NXM_NX_TUN_IPV6_DST[64..127]",
            "fd00::1:2",
        ),
        ("load:0x1->NXM_NX_TUN_IPV6_DST[0..63],load:0->NXM_NX_TUN_IPV6_DST[64..127]", "::1"),
        ("set_field:fd00::1:2->tun_ipv6_dst", "fd00::1:2"),
    ],
)
def test_the_vtep_is_read_as_each_version_of_openflow_prints_it(loads: str, vtep: str) -> None:
    printed = entry("02:00:00:00:00:01", loads)
    assert traffic.learned_entry(printed) == ("02:00:00:00:00:01", vtep)


@pytest.mark.parametrize("field", ["tun_src=10.0.0.1", "tun_ipv6_src=fd00::1"])
def test_packets_from_ourselves(field: str) -> None:
    """Those of the flow that drops by outer source are counted, of this overlay alone."""
    match = f"priority=100,{field},in_port=2 actions=drop"
    ours, theirs = (
        line(0, 12, 900, match, cookie=ownership.cookie(name)) for name in ("default", "other")
    )
    assert traffic.read("default", [*DUMP, ours, theirs]).from_ourselves == Count(12, 900)
    assert traffic.read("default", DUMP).from_ourselves == Count()


@pytest.mark.parametrize(
    ("match", "kind"),
    [
        ("udp,reg13=0/0x3,nw_dst=10.0.0.1,nw_frag=first", "fragments"),
        ("udp,reg13=0/0x3,nw_dst=224.0.0.0/4,tp_dst=8472", "other_port"),
        ("udp,reg13=0/0x3,nw_dst=224.0.0.0/4,tp_dst=4789", "other_port"),
    ],
)
def test_what_no_tunnel_takes(match: str, kind: str) -> None:
    """The counting flows of the underlay's bridge, each kind apart."""
    printed = f"priority=64003,{match} actions=load:0x1->NXM_NX_REG13[0],resubmit(,0)"
    seen = traffic.read("default", [line(0, 5, 500, printed, cookie=ownership.cookie("default"))])
    counts = {name: getattr(seen, name) for name in ("fragments", "other_port", "from_ourselves")}
    assert counts == dict.fromkeys(counts, Count()) | {kind: Count(5, 500)}


@pytest.mark.parametrize(
    ("table", "match", "kind"),
    [
        (0, "priority=106,tun_src=224.0.0.0/3,in_port=2", "from_no_host"),
        (0, "priority=106,tun_ipv6_src=::/127,in_port=2", "from_no_host"),
        (0, "priority=94,in_port=2", "from_no_peer"),
        (0, "priority=105,in_port=2,vlan_tci=0x1000/0x1000", "inner_vlan"),
        (5, "priority=3,vlan_tci=0x1000/0x1000", "inner_vlan"),
        (5, "priority=1,dl_type=0x8100", "inner_vlan"),
        (5, "priority=2,dl_type=0x88a8", "inner_vlan"),
        (0, "priority=110,in_port=2,dl_src=01:00:00:00:00:00/01:00:00:00:00:00", ""),
    ],
)
def test_what_is_not_admitted(table: int, match: str, kind: str) -> None:
    """Each kind apart."""
    printed = line(table, 5, 500, f"{match} actions=drop", cookie=ownership.cookie("default"))
    seen = traffic.read("default", [printed])
    kinds = ("from_no_host", "from_no_peer", "inner_vlan", "from_ourselves", "guarded")
    counts = {name: getattr(seen, name).packets for name in kinds}
    assert counts == dict.fromkeys(counts, 0) | ({kind: 5} if kind else {})


@pytest.mark.parametrize(
    "match",
    [
        "udp,reg13=0/0x8eec1,dl_dst=02:00:00:00:00:01,tp_dst=4789",
        "udp6,reg13=0/0x8eec1,ipv6_dst=fd00::1,tp_dst=4789",
    ],
)
def test_what_the_guard_drops(match: str) -> None:
    """The flows of the bridge for workloads."""
    printed = f"priority=65535,{match} actions=drop"
    seen = traffic.read("default", [line(0, 5, 500, printed, cookie=ownership.cookie("default"))])
    assert (seen.guarded, seen.from_ourselves) == (Count(5, 500), Count())


def test_what_is_not_the_overlays_is_passed_over() -> None:
    foreign = ownership.cookie("other", vlan=12, vni=70_000)
    lines = [line.replace(f"{STATIC:#x}", f"{foreign:#x}") for line in DUMP]
    lines = [line.replace(f"{LEARNED:#x}", f"{foreign | 1 << 36:#x}") for line in lines]
    assert traffic.read("default", [*lines, " cookie=0x0, broken", ""]).segments == {}


def test_counters_that_started_again_count_from_nothing() -> None:
    assert Count(5, 500).since(Count(2, 200)) == Count(3, 300)
    assert Count(1, 60).since(Count(2, 200)) == Count(1, 60)


def test_two_counters_of_two_moments_never_make_less_than_nothing() -> None:
    """The group's flow was read after a packet that the delivering one was read before."""
    lines = [line(10, 3, 300, "priority=1 actions=x"), line(15, 2, 200, "priority=1 actions=x")]
    assert traffic.read("default", lines).segments[70_000].unicast_received == Count(0, 0)
