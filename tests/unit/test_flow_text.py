"""Printed flows are parsed back to their meaning, whatever the spelling."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core import flow_text, pipeline
from ovs_mcast.core.items import Flow
from ovs_mcast.core.model import Overlay, Segment

from .pipeline_flows import V4, V6, everything, on, overlay_of, printed
from .strategies import RIVAL, learned_flow, overlays


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
    """Segments become flows and are recovered from them, also from ovs-ofctl's output."""
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
    """Return the match with its fields in reverse order."""
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
    """Actions that the parser does not know are kept as text, and equal nothing else."""
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
    """A flow expected on one bridge and printed by another is not ours."""
    made = everything(overlay_of(Segment(vni=100, vlan=10, group="239.0.0.1")))
    read = flow_text.read("br-else", map(printed, made), made)
    assert {flow.bridge for flow in read} == {"br-else"}
    assert not any(flow in made for flow in read)
