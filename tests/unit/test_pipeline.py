"""Segments to flows: the pipeline of an overlay, marked, apart and complete."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from netaddr import IPAddress

from ovs_mcast.core import admission, flow_text, ownership, pipeline
from ovs_mcast.core.items import Address, Bridge, Flow, Port
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Link, Observed
from ovs_mcast.core.pipeline_tables import DELIVER, FLOOD, GROUP, UNICAST
from ovs_mcast.core.target import Target, resolve

from .pipeline_flows import MAC, V4, V6, everything, lines, on, overlay_of
from .strategies import RIVAL, overlays


def test_the_pipeline_of_one_segment() -> None:
    """VNI 100 on VLAN 10 and group 239.0.0.1, from 10.0.0.1: every flow, as ovs-ofctl prints it."""
    overlay = overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1"))
    assert lines(overlay, V4) == [
        "0 110 in_port=2,dl_src=01:00:00:00:00:00/01:00:00:00:00:00 = drop",
        "0 100 in_port=1,vlan_tci=0x1000/0x1000 = set_field:10.0.0.1->tun_src,"
        "move:NXM_OF_VLAN_TCI[]->NXM_NX_REG0[0..15],pop_vlan,goto_table:5",
        "5 3 vlan_tci=0x1000/0x1000 = drop",
        "5 1 dl_type=0x8100 = drop",
        "5 2 dl_type=0x88a8 = drop",
        "5 0 any = push_vlan:0x8100,move:NXM_NX_REG0[0..15]->NXM_OF_VLAN_TCI[],goto_table:20",
        "0 106 tun_src=0.0.0.0/8,in_port=2 = drop",
        "0 106 tun_src=127.0.0.0/8,in_port=2 = drop",
        "0 106 tun_src=224.0.0.0/3,in_port=2 = drop",
        "0 105 in_port=2,vlan_tci=0x1000/0x1000 = drop",
        "0 100 tun_src=10.0.0.1,in_port=2 = drop",
        "0 90 tun_dst=10.0.0.1,in_port=2 = goto_table:15",
        "0 80 in_port=2 = goto_table:10",
        "20 0 any = goto_table:30",
        "10 1 tun_id=0x64,tun_dst=239.0.0.1 = goto_table:15",
        "15 1 tun_id=0x64 = push_vlan:0x8100,set_field:4106->vlan_vid,"
        "learn(table=20,hard_timeout=300,priority=1,delete_learned,cookie=0x6d1dd8300a000064,"
        "limit=1024,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        "load:0->NXM_OF_VLAN_TCI[],load:0x64->NXM_NX_TUN_ID[],"
        "load:NXM_NX_TUN_IPV4_SRC[]->NXM_NX_TUN_IPV4_DST[],output:NXM_OF_IN_PORT[]),output:1",
        "30 1 dl_vlan=10 = pop_vlan,set_field:0x64->tun_id,set_field:239.0.0.1->tun_dst,output:2",
    ]


def test_the_pipeline_of_one_ipv6_segment() -> None:
    """IPv6 groups use the tunnel's IPv6 fields everywhere, and differ in nothing else."""
    overlay = overlay_of(Segment(vni=100, vlan=10, group="ff05::1"))
    four = lines(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")), V4)
    text = "\n".join(lines(overlay, V6))
    assert not re.search(r"tun_(src|dst)|IPV4", text)
    back = text.replace("ff05::1", "239.0.0.1").replace("fd00::1", "10.0.0.1")
    back = back.replace("tun_ipv6_", "tun_").replace("TUN_IPV6", "TUN_IPV4")
    ours = [line for line in back.splitlines() if not line.startswith("0 106 ")]
    assert ours == [line for line in four if not line.startswith("0 106 ")]
    assert "0 106 tun_ipv6_src=::/127,in_port=2 = drop" in text
    assert "0 106 tun_ipv6_src=ff00::/8,in_port=2 = drop" in text


def test_the_pipeline_that_keeps_inner_tags_and_hears_peers_alone() -> None:
    overlay = overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1"))
    options = overlay.replace(inner_vlan="keep", peers=["10.0.0.2", "10.1.0.0/16"], only_peers=True)
    assert lines(options, V4)[1:13] == [
        "0 100 in_port=1,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 = "
        "set_field:10.0.0.1->tun_src,goto_table:30",
        "0 90 in_port=1 = set_field:10.0.0.1->tun_src,goto_table:20",
        "0 106 tun_src=0.0.0.0/8,in_port=2 = drop",
        "0 106 tun_src=127.0.0.0/8,in_port=2 = drop",
        "0 106 tun_src=224.0.0.0/3,in_port=2 = drop",
        "0 95 tun_src=10.0.0.2,in_port=2 = goto_table:6",
        "0 95 tun_src=10.1.0.0/16,in_port=2 = goto_table:6",
        "0 94 in_port=2 = drop",
        "0 100 tun_src=10.0.0.1,in_port=2 = drop",
        "6 90 tun_dst=10.0.0.1 = goto_table:15",
        "6 80 any = goto_table:10",
        "20 0 any = goto_table:30",
    ]


def carrying(target: Target) -> list[Flow]:
    """Return the flows of the underlay's bridge that the overlay needs, less those that count."""
    return [flow for flow in pipeline.underlay_flows(target) if "counted" not in flow.summary]


def test_the_underlay_bridge_of_the_userspace_datapath() -> None:
    """Group frames go to LOCAL's Ethernet address too, ARP is answered, our own frames go on."""
    overlay = overlay_of(
        Segment(vni=1, group="239.0.0.1"), Segment(vni=2, group="239.0.0.1"), datapath="netdev"
    )
    own, group, arp = carrying(on(overlay, V4))
    assert {own.bridge, group.bridge, arp.bridge} == {"br-phy"}
    assert own.priority > group.priority == arp.priority == pipeline.UNDERLAY_PRIORITY
    assert own.match == "udp,reg13=0/0x1,in_port=LOCAL,tp_dst=4789"
    assert group.match == "udp,reg13=0/0x1,nw_dst=239.0.0.1,tp_dst=4789"
    assert group.actions == (
        f"load:0x1->NXM_NX_REG13[0],clone(set_field:{MAC}->eth_dst,resubmit(,0)),resubmit(,0)"
    )
    assert arp.match.startswith("arp,")
    assert arp.match.endswith("in_port=LOCAL,arp_tpa=239.0.0.1,arp_op=1")
    assert "set_field:01:00:5e:00:00:01->arp_sha" in arp.actions
    assert "set_field:239.0.0.1->arp_spa" in arp.actions


def test_the_underlay_bridge_of_the_userspace_datapath_with_ipv6() -> None:
    """The source is written in any case; neighbour discovery is answered with 33:33 and 32 bits."""
    overlay = overlay_of(Segment(vni=1, group="ff05::a:1"), datapath="netdev")
    own, source, group, solicited, advertised = carrying(on(overlay, V6))
    number = f"{0x80000 | ownership.number('default'):#x}"
    assert source.priority > own.priority > group.priority == pipeline.UNDERLAY_PRIORITY
    assert own.match == "udp6,reg13=0/0x1,in_port=LOCAL,tp_dst=4789"
    assert source.match == "udp6,reg13=0/0x1,in_port=LOCAL,ipv6_src=fd00::1,tp_dst=4789"
    assert source.actions == (
        "set_field:::->ipv6_src,check_pkt_larger(65535)->NXM_NX_REG13[1],"
        f"set_field:fd00::1->ipv6_src,{own.actions}"
    )
    assert group.match == "udp6,reg13=0/0x1,ipv6_dst=ff05::a:1,tp_dst=4789"
    assert group.actions == (
        f"load:0x1->NXM_NX_REG13[0],clone(set_field:{MAC}->eth_dst,resubmit(,0)),resubmit(,0)"
    )
    assert solicited.match == (
        f"icmp6,reg13=0/{number},in_port=LOCAL,icmp_type=135,icmp_code=0,nd_target=ff05::a:1"
    )
    assert solicited.actions == (
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:ff05::a:1->ipv6_src,"
        "set_field:fd00::1->ipv6_dst,set_field:136->icmpv6_type,set_field:2->nd_options_type,"
        f"load:{number}->NXM_NX_REG13[],resubmit(,0)"
    )
    assert advertised.match == f"icmp6,reg13={number},in_port=LOCAL,icmp_type=136,icmp_code=0"
    assert advertised.actions == (
        "move:NXM_NX_ND_TARGET[0..31]->NXM_NX_ND_TLL[0..31],"
        "load:0x3333->NXM_NX_ND_TLL[32..47],IN_PORT"
    )


@pytest.mark.parametrize(
    ("group", "udp_port", "matches"),
    [
        ("239.0.0.1", 4789, ("udp", "nw_dst=10.0.0.1,nw_frag=first",
                             "nw_dst=224.0.0.0/4,nw_frag=first", "nw_dst=224.0.0.0/4,tp_dst=8472")),
        ("239.0.0.1", 8472, ("udp", "nw_dst=10.0.0.1,nw_frag=first",
                             "nw_dst=224.0.0.0/4,nw_frag=first", "nw_dst=224.0.0.0/4,tp_dst=4789")),
        ("ff05::1", 4789, ("udp6",)),
    ],
)  # fmt: skip
def test_what_no_tunnel_takes_is_counted(
    group: str, udp_port: int, matches: tuple[str, ...]
) -> None:
    """With IPv4 fragments, and VXLAN on the other usual port, go their usual way past a counter."""
    overlay = Overlay(
        datapath="netdev",
        underlay=Underlay(device="br-phy", udp_port=udp_port),
        segments=[Segment(vni=1, group=group)],
    )
    target = on(overlay, V6 if ":" in group else V4)
    counting = [flow for flow in pipeline.underlay_flows(target) if "counted" in flow.summary]
    udp, *rest = matches
    assert [re.sub(r"reg13=0/0x[0-9a-f]+,", "", flow.match) for flow in counting] == [
        f"{udp},{match}" for match in rest
    ]
    assert {flow.actions for flow in counting} <= {"load:0x1->NXM_NX_REG13[0],resubmit(,0)"}


@pytest.mark.parametrize("group", ["239.0.0.1", "ff05::a:1"])
def test_an_internal_port_as_the_underlay(group: str) -> None:
    """The flows are on the bridge that has the port, and match its number in place of LOCAL."""
    vtep = "fd00::1" if ":" in group else "10.0.0.1"
    overlay = Overlay(
        datapath="netdev",
        underlay=Underlay(device="vtep0"),
        segments=[Segment(vni=1, group=group)],
    )
    observed = Observed(
        bridges={"br-ex": Bridge("br-ex", "netdev")},
        ports={"vtep0": Port("br-ex", "vtep0", "internal", ofport=7)},
        links={"vtep0": Link("vtep0", 1600, MAC, True)},
        addresses=(Address("vtep0", vtep, 24),),
    )
    flows = carrying(resolve(overlay, observed))
    assert {flow.bridge for flow in flows} == {"br-ex"}
    assert not any("LOCAL" in flow.match + flow.actions for flow in flows)
    [classify] = [flow for flow in flows if f"{group}," in f"{flow.match}," and "udp" in flow.match]
    assert "in_port" not in classify.match
    assert all("in_port=7" in flow.match for flow in flows if flow != classify)


def test_no_group_needs_no_flow_on_the_underlay_bridge() -> None:
    """An overlay without segments leaves the bridge that holds the NIC alone."""
    assert not list(pipeline.underlay_flows(on(overlay_of(datapath="netdev"), V4)))


@given(overlays())
def test_every_flow_is_marked_and_no_two_are_one(overlay: Overlay) -> None:
    """Flows have our cookie, each its own key, and segments' flows name VNI and VLAN in it."""
    made = everything(overlay)
    assert len({flow.key for flow in made}) == len(made)
    wanted = {(segment.vni, segment.vlan) for segment in overlay.segments}
    for flow in made:
        assert ownership.is_cookie(flow.cookie, overlay.name)
        assert not ownership.is_learned(flow.cookie)
        assert ownership.segment_of(flow.cookie) in wanted | {(0, 0)}
        assert flow.summary
    for segment in overlay.segments:
        own = list(pipeline.segment_flows(on(overlay, V4), segment))
        assert {flow.table for flow in own} == {
            GROUP,
            DELIVER,
            FLOOD,
        }
        assert {ownership.segment_of(flow.cookie) for flow in own} == {(segment.vni, segment.vlan)}


@given(overlays())
def test_frames_only_go_forward(overlay: Overlay) -> None:
    """Every table that a flow sends to is a later one, and has flows of its own."""
    made = list(pipeline.tunnel_flows(on(overlay, V4)))
    tables = {flow.table for flow in made} | {
        GROUP,
        DELIVER,
        FLOOD,
    }
    for flow in made:
        for found in re.findall(r"goto_table:(\d+)", flow.actions):
            assert flow.table < int(found)
            assert int(found) in tables


@given(overlays())
def test_segments_are_learned_apart(overlay: Overlay) -> None:
    """Each segment learns under a cookie of its own: a limit and a removal are its own too."""
    for segment in overlay.segments:
        [deliver] = (
            flow
            for flow in pipeline.segment_flows(on(overlay, V4), segment)
            if flow.table == DELIVER
        )
        learned = ownership.cookie(overlay.name, vlan=segment.vlan, vni=segment.vni, learned=True)
        assert f"cookie={learned:#x}," in deliver.actions
        assert f"limit={overlay.learned_limit}," in deliver.actions
        assert f"hard_timeout={overlay.aging}," in deliver.actions
        assert "delete_learned," in deliver.actions


@given(overlays(("tenants",)), overlays((RIVAL,), 4800))
def test_no_flow_of_one_overlay_replaces_one_of_another(one: Overlay, other: Overlay) -> None:
    """Flows of two overlays on one NIC's bridge never share a key, even with a group in common."""
    keys = [{flow.key for flow in everything(overlay)} for overlay in (one, other)]
    assert not keys[0] & keys[1]


@pytest.mark.parametrize(("group", "vtep"), [("239.0.0.1", V4), ("ff05::1", V6)])
def test_the_answers_of_two_overlays_are_two(group: str, vtep: IPAddress) -> None:
    """The ARP and ND answers of two overlays for a group in common are distinct flows."""
    segment = Segment(vni=1, group=group)
    keys = [
        {flow.key for flow in pipeline.underlay_flows(on(overlay, vtep))}
        for overlay in (
            Overlay(name="one", datapath="netdev", segments=[segment],
                    underlay=Underlay(device="br-phy", udp_port=4789)),
            Overlay(name="two", datapath="netdev", segments=[segment],
                    underlay=Underlay(device="br-phy", udp_port=4790)),
        )
    ]  # fmt: skip
    assert not keys[0] & keys[1]


def test_only_flood_flows_carry_a_segment_out() -> None:
    """A flow of another table that names a group, or one without a segment, does not count."""
    overlay = overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1"))
    [flood] = (flow for flow in pipeline.tunnel_flows(on(overlay, V4)) if flow.table == FLOOD)
    assert flow_text.segments_of([flood]) == {100: (10, IPAddress("239.0.0.1"))}
    assert flow_text.segments_of([replace(flood, table=UNICAST)]) == {}
    assert flow_text.segments_of([replace(flood, cookie=ownership.cookie("default"))]) == {}
    assert flow_text.segments_of([replace(flood, actions="drop")]) == {}


@pytest.mark.parametrize(("vlan", "inner", "named"), [
    ("100", "drop", True), ("100", "keep", False), ("7", "drop", False),
])  # fmt: skip
def test_a_dot1q_tunnel_port_whose_tags_are_dropped_is_named(
    vlan: str, inner: str, named: bool
) -> None:
    """Of a port that carries a segment alone."""
    overlay = overlay_of(Segment(vni=100, group="239.0.0.1")).replace(inner_vlan=inner)
    port = Port("br-int", "w1", "", vlans=(vlan, "dot1q-tunnel"), ofport=5)
    target = on(overlay, V4)
    there = replace(target, observed=replace(target.observed, ports={"w1": port}))
    found = [str(one) for one in admission.warnings(there)]
    said = "w1 is a dot1q-tunnel port, and the tags of its workload are dropped: "
    assert found == [f"{said}set inner_vlan: keep, here and on all hosts"] * named
