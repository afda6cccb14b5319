"""Segments to flows and back, and what ovs-ofctl prints to the flows that it means."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core import flow_text, ownership, pipeline
from ovs_mcast.core.items import Flow
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Link, Observed
from ovs_mcast.core.target import Target

from .strategies import RIVAL, learned_flow, overlays

V4 = IPAddress("10.0.0.1")
V6 = IPAddress("fd00::1")
MAC = "02:00:00:00:00:01"


def printed(flow: Flow) -> str:
    """The line of `ovs-ofctl -O OpenFlow14 dump-flows --no-stats`."""
    match = f",{flow.match}" if flow.match else ""
    return (
        f" cookie={flow.cookie:#x}, table={flow.table}, priority={flow.priority}{match}"
        f" actions={flow.actions}"
    )


def overlay_of(*segments: Segment, datapath: str = "system") -> Overlay:
    return Overlay(underlay=Underlay(device="br-phy"), datapath=datapath, segments=segments)


def on(overlay: Overlay, vtep: IPAddress) -> Target:
    """Return the overlay resolved on a host whose underlay device has the address MAC."""
    device = overlay.underlay.device
    host = Observed(links={device: Link(device, 1500, MAC, True)})
    groups = tuple(map(str, overlay.flood_groups))
    return Target(overlay, host, vtep, "socket", frozenset(), groups)


def everything(overlay: Overlay, vtep: IPAddress = V4) -> list[Flow]:
    made = list(pipeline.tunnel_flows(on(overlay, vtep)))
    if overlay.datapath == "netdev":
        made += pipeline.underlay_flows(on(overlay, vtep))
    return made


def lines(overlay: Overlay, vtep: IPAddress) -> list[str]:
    return [
        f"{flow.table} {flow.priority} {flow.match or 'any'} = {flow.actions}"
        for flow in pipeline.tunnel_flows(on(overlay, vtep))
    ]


def test_the_pipeline_of_one_segment() -> None:
    """VNI 100 on VLAN 10 and group 239.0.0.1, from 10.0.0.1: every flow, as ovs-ofctl says it."""
    overlay = overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1"))
    assert lines(overlay, V4) == [
        "0 110 in_port=2,dl_src=01:00:00:00:00:00/01:00:00:00:00:00 = drop",
        "0 100 in_port=1,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 = "
        "set_field:10.0.0.1->tun_src,goto_table:30",
        "0 90 in_port=1 = set_field:10.0.0.1->tun_src,goto_table:20",
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
    """With IPv6 groups the tunnel's IPv6 fields, everywhere and nothing else."""
    overlay = overlay_of(Segment(vni=100, vlan=10, group="ff05::1"))
    four = lines(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")), V4)
    text = "\n".join(lines(overlay, V6))
    assert not re.search(r"tun_(src|dst)|IPV4", text)
    back = text.replace("ff05::1", "239.0.0.1").replace("fd00::1", "10.0.0.1")
    back = back.replace("tun_ipv6_", "tun_").replace("TUN_IPV6", "TUN_IPV4")
    assert back.splitlines() == four


def test_the_underlay_bridge_of_the_userspace_datapath() -> None:
    """Group frames to LOCAL under its address, ARP answered, our own frames left to go."""
    overlay = overlay_of(
        Segment(vni=1, group="239.0.0.1"), Segment(vni=2, group="239.0.0.1"), datapath="netdev"
    )
    own, group, arp = pipeline.underlay_flows(on(overlay, V4))
    assert {own.bridge, group.bridge, arp.bridge} == {"br-phy"}
    assert own.priority > group.priority == arp.priority == pipeline.UNDERLAY_PRIORITY
    assert own.match == "udp,reg13=0/0x1,in_port=LOCAL,tp_dst=4789"
    assert group.match == "udp,reg13=0/0x1,nw_dst=239.0.0.1,tp_dst=4789"
    assert group.actions == (
        f"clone(set_field:{MAC}->eth_dst,LOCAL),load:0x1->NXM_NX_REG13[0],resubmit(,0)"
    )
    assert arp.match.startswith("arp,")
    assert arp.match.endswith("in_port=LOCAL,arp_tpa=239.0.0.1,arp_op=1")
    assert "set_field:01:00:5e:00:00:01->arp_sha" in arp.actions
    assert "set_field:239.0.0.1->arp_spa" in arp.actions


def test_the_underlay_bridge_of_the_userspace_datapath_with_ipv6() -> None:
    """The source is written in any case; neighbour discovery is answered with 33:33 and 32 bits."""
    overlay = overlay_of(Segment(vni=1, group="ff05::a:1"), datapath="netdev")
    own, source, group, solicited, advertised = pipeline.underlay_flows(on(overlay, V6))
    number = f"{0x80000 | ownership.number('default'):#x}"
    assert source.priority > own.priority > group.priority == pipeline.UNDERLAY_PRIORITY
    assert own.match == "udp6,reg13=0/0x1,in_port=LOCAL,tp_dst=4789"
    assert source.match == "udp6,reg13=0/0x1,in_port=LOCAL,ipv6_src=fd00::1,tp_dst=4789"
    assert source.actions == (
        "set_field:::->ipv6_src,check_pkt_larger(65535)->NXM_NX_REG13[1],"
        f"set_field:fd00::1->ipv6_src,{own.actions}"
    )
    assert group.match == "udp6,reg13=0/0x1,ipv6_dst=ff05::a:1,tp_dst=4789"
    assert group.actions == f"clone(set_field:{MAC}->eth_dst,LOCAL),{own.actions}"
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
        assert {flow.table for flow in own} == {pipeline.GROUP, pipeline.DELIVER, pipeline.FLOOD}
        assert {ownership.segment_of(flow.cookie) for flow in own} == {(segment.vni, segment.vlan)}


@given(overlays())
def test_frames_only_go_forward(overlay: Overlay) -> None:
    """Every table that a flow sends to is a later one, and has flows of its own."""
    made = list(pipeline.tunnel_flows(on(overlay, V4)))
    tables = {flow.table for flow in made} | {pipeline.GROUP, pipeline.DELIVER, pipeline.FLOOD}
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
            if flow.table == pipeline.DELIVER
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
    [flood] = (
        flow for flow in pipeline.tunnel_flows(on(overlay, V4)) if flow.table == pipeline.FLOOD
    )
    assert flow_text.segments_of([flood]) == {100: (10, IPAddress("239.0.0.1"))}
    assert flow_text.segments_of([replace(flood, table=pipeline.UNICAST)]) == {}
    assert flow_text.segments_of([replace(flood, cookie=ownership.cookie("default"))]) == {}
    assert flow_text.segments_of([replace(flood, actions="drop")]) == {}


def test_what_tells_flows_apart() -> None:
    """Bridge, table, priority and match, as OpenFlow has it; not cookie and actions."""
    flow = Flow("b", 0, 1, "in_port=1", "drop", 5)
    others = (
        replace(flow, bridge="c"),
        replace(flow, table=1),
        replace(flow, priority=2),
        replace(flow, match="in_port=2"),
    )
    assert len({flow.key, *(other.key for other in others)}) == 5
    assert replace(flow, actions="NORMAL", cookie=6).key == flow.key


@given(overlays(), st.booleans())
def test_flows_say_which_segments_they_carry(overlay: Overlay, through_text: bool) -> None:
    """Segments to flows and back, also by way of what ovs-ofctl prints, gives them all again."""
    made = everything(overlay)
    if through_text:
        made = list(flow_text.read(overlay.tunnel_bridge, map(printed, made), ()))
    assert flow_text.segments_of(made) == {
        segment.vni: (segment.vlan, segment.flood_group) for segment in overlay.segments
    }


def test_ipv6_flows_say_which_segments_they_carry() -> None:
    """The same with IPv6 groups."""
    overlay = overlay_of(Segment(vni=70000, vlan=10, group="ff05::1:2"))
    found = flow_text.segments_of(pipeline.tunnel_flows(on(overlay, V6)))
    assert found == {70000: (10, IPAddress("ff05::1:2"))}


@given(overlays())
def test_what_is_printed_is_read_as_what_was_meant(overlay: Overlay) -> None:
    """The flows of a bridge, printed in any order, are the expected ones themselves."""
    made = everything(overlay)
    for bridge in {flow.bridge for flow in made}:
        here = [flow for flow in made if flow.bridge == bridge]
        read = flow_text.read(bridge, map(printed, reversed(here)), made)
        assert list(read) == here[::-1]
        assert [flow.summary for flow in read] == [flow.summary for flow in here[::-1]]


def _decimal(text: str) -> str:
    """Every hexadecimal number that is not a cookie's, as a decimal."""
    return re.sub(r"(?<![=x\w])0x[0-9a-f]+|(?<=tun_id=)0x[0-9a-f]+",
                  lambda found: str(int(found[0], 16)), text)  # fmt: skip


def _longhand(text: str) -> str:
    """Numbers that ovs-ofctl prints in decimal, in hexadecimal with zeros in front."""
    return re.sub(r"set_field:(\d+)->vlan_vid", lambda found: f"set_field:{int(found[1]):#06x}->vlan_vid", text)  # fmt: skip  # noqa: E501


def _reordered(line: str) -> str:
    """The match with its fields the other way round."""
    head, _, tail = line.partition(" actions=")
    start, comma, match = head.rpartition("priority=")
    priority, _, fields = match.partition(",")
    fields = ",".join(reversed(fields.split(","))) if fields else ""
    return f"{start}{comma}{priority}{',' if fields else ''}{fields} actions={tail}"


SPELLINGS = [
    pytest.param(_decimal, id="decimal"),
    pytest.param(_longhand, id="hexadecimal"),
    pytest.param(_reordered, id="reordered"),
    pytest.param(lambda line: line.replace("load:0->", "load:0x0->"), id="zero"),
    pytest.param(lambda line: line.replace("load:0x", "load:0x000"), id="leading-zeros"),
    pytest.param(lambda line: _reordered(_longhand(_decimal(line))), id="all"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("group", "vtep"), [("239.0.0.1", V4), ("ff05::1", V6)])
def test_what_is_printed_differently_means_the_same(
    group: str, vtep: IPAddress, spelling: object
) -> None:
    """Other numbers, another order of fields: read as the expected flow, so not sent again."""
    assert callable(spelling)
    overlay = overlay_of(Segment(vni=100, vlan=10, group=group), datapath="netdev")
    made = everything(overlay, vtep)
    texts = [spelling(printed(flow)) for flow in made]
    for bridge in ("br-mcast", "br-phy"):
        here = [(flow, text) for flow, text in zip(made, texts, strict=True)
                if flow.bridge == bridge]  # fmt: skip
        read = flow_text.read(bridge, [text for _, text in here], made)
        assert list(read) == [flow for flow, _ in here]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tun_id=0x64", "tun_id=0x65"),
        ("tun_dst=239.0.0.1", "tun_dst=239.0.0.2"),
        ("priority=1,", "priority=2,"),
        ("->tun_id", "->reg1"),
        ("output:2", "output:3"),
        ("goto_table:15", "goto_table:30"),
        ("load:0x64->", "load:0x65->"),
        ("delete_learned,", ""),
        ("hard_timeout=300", "hard_timeout=301"),
        ("limit=1024", "limit=1023"),
        ("TUN_IPV4_SRC", "TUN_IPV4_DST"),
        ("[0..11]", "[0..10]"),
        ("cookie=0x6d1dd8200a000064", "cookie=0x6d1dd8200a000065"),
    ],
)
def test_what_means_something_else_is_not_taken_for_it(old: str, new: str) -> None:
    """A flow that differs in one place of match, actions or cookie is not the expected one."""
    made = everything(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")))
    texts = [printed(flow) for flow in made]
    changed = [text.replace(old, new) for text in texts]
    assert changed != texts
    read = flow_text.read("br-mcast", changed, made)
    for flow, text, other in zip(read, texts, changed, strict=True):
        assert (flow in made) == (text == other)


GARBAGE = [
    "",
    "NXST_FLOW reply (xid=0x4):",
    "OFPST_FLOW reply (OF1.4) (xid=0x2):",
    " cookie=0x0 table=0 actions=drop",
    " cookie=0xzz, table=0, priority=1 actions=drop",
    "cookie",
    "ovs-ofctl: br-mcast is not a bridge or a socket",
    " cookie=0x0, table=0, priority=1,in_port=1",
]


@pytest.mark.parametrize("line", GARBAGE)
def test_what_is_not_a_flow_is_passed_over(line: str) -> None:
    """Headings and messages among the lines are no flows."""
    assert flow_text.read("br-mcast", [line], ()) == ()


@given(st.lists(st.text(max_size=40) | st.sampled_from(GARBAGE)), overlays())
def test_reading_never_raises(text: list[str], overlay: Overlay) -> None:
    """Whatever the lines, the flows among them are found and the rest passed over."""
    made = list(pipeline.tunnel_flows(on(overlay, V4)))
    mixed = [*text, *map(printed, made)]
    assert list(flow_text.read(overlay.tunnel_bridge, mixed, made))[-len(made) :] == made


@given(st.text(st.sampled_from("x0123,=:>-()[]abcdefnoprst_/."), max_size=30))
def test_what_cannot_be_understood_is_itself(actions: str) -> None:
    """Actions that the parser does not know are kept as text, and are equal to nothing else."""
    line = f" cookie=0x5, table=3, priority=7,in_port=9 actions={actions}"
    made = everything(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")))
    [flow] = flow_text.read("br-mcast", [line], made)
    assert flow == Flow("br-mcast", 3, 7, "in_port=9", actions, 5)


@pytest.mark.parametrize(
    ("line", "flow"),
    [
        (" cookie=0x0, priority=0 actions=NORMAL", Flow("b", 0, 0, "", "NORMAL", 0)),
        ("cookie=5, table=3, in_port=1 actions=drop", Flow("b", 3, 32768, "in_port=1", "drop", 5)),
        (" cookie=0x5, table=20, hard_timeout=300, priority=1,dl_dst=02:00:00:00:00:01 "
         "actions=drop",
         Flow("b", 20, 1, "dl_dst=02:00:00:00:00:01", "drop", 5)),
        (" cookie=0x5, duration=1.2s, table=0, n_packets=0, n_bytes=0, idle_age=7, "
         "priority=3,udp,tp_dst=4789 actions=output:1,output:2",
         Flow("b", 0, 3, "udp,tp_dst=4789", "output:1,output:2", 5)),
        (" cookie=0x5, table=0, reset_counts priority=3,ip actions=drop",
         Flow("b", 0, 3, "ip", "drop", 5)),
        (" cookie=0x5, table=0, ip,priority=3,tp_dst=1 actions=a b=c",
         Flow("b", 0, 3, "ip,tp_dst=1", "a b=c", 5)),
    ],
)  # fmt: skip
def test_the_forms_of_a_printed_flow(line: str, flow: Flow) -> None:
    """Statistics, timeouts and flags are left out; no priority is 32768 and no table is 0."""
    assert flow_text.read("b", [line], ()) == (flow,)


def test_learned_flows_are_nobodys_expectation() -> None:
    """A learned flow is read as itself, and neither hides nor stands for an expected one."""
    made = everything(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")))
    for learned in (learned_flow("br-mcast", 10, 100, "default"),
                    learned_flow("br-mcast", 10, 100, RIVAL)):  # fmt: skip
        read = flow_text.read("br-mcast", map(printed, [learned, *made]), made)
        assert list(read) == [learned, *made]
        assert flow_text.segments_of([learned]) == {}


def test_flows_of_another_bridge_are_not_expected_here() -> None:
    """What is expected on one bridge and printed by another is the other's."""
    made = everything(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")))
    read = flow_text.read("br-else", map(printed, made), made)
    assert {flow.bridge for flow in read} == {"br-else"}
    assert not any(flow in made for flow in read)
