"""What other programs print, whatever it is: it is read, or passed over, and nothing is raised."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.core import flow_text, traffic
from ovs_mcast.core.flow_trace import Trace
from ovs_mcast.core.packet_filter import RuleSet
from ovs_mcast.core.workload_bridge import samples

from .test_workload_bridge import W1, target

# Pieces of what ovs-ofctl, ovs-appctl and nft print, in any order, and anything between them.
_PIECES = st.sampled_from([
    " cookie=0x6d1dd82000000000, ", "cookie=0x", "table=20, ", "n_packets=1, n_bytes=2, ",
    "priority=1", ",in_port=2", "dl_dst=02:00:00:00:00:01 ", "actions=", "drop", "NORMAL",
    "load:0x1->NXM_NX_TUN_IPV4_DST[],", "set_field:10.0.0.1->tun_dst", "learn(", "delete_learned,",
    '\nbridge("br-int")\n', " 0. priority 0\n", "    NORMAL\n", "\nFinal flow: ", "\nMegaflow: eth",
    "\nDatapath actions: ", ",", "=", "/", "(", ")", "\n",
])  # fmt: skip
_printed = st.lists(_PIECES | st.text(max_size=5), max_size=20).map("".join)


@given(st.lists(_printed, max_size=5))
def test_flows(lines: list[str]) -> None:
    traffic.read("default", lines)
    learned, others = flow_text.split_learned(lines)
    assert sorted(learned + others) == sorted(lines)
    flow_text.read("br-mcast", lines, ())
    samples(target(W1), lines)


@given(_printed)
def test_traces(printed: str) -> None:
    trace = Trace.read(printed)
    assert trace.stopped_by({"dl_dst"}) in {
        "", *(f"table {table}: {match}" for table, match in trace.steps),
        *(f"table {table}: no flow matches" for table, _match in trace.steps),
    }  # fmt: skip


_KEYS = st.sampled_from([
    "nftables", "table", "chain", "rule", "family", "name", "hook", "prio", "policy", "expr",
    "match", "left", "right", "op", "payload", "protocol", "field", "drop", "jump", "target", "set",
])  # fmt: skip
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | _KEYS
    | st.sampled_from(["ip", "inet", "input", "udp", "dport", "==", 4789]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_values | st.builds(lambda items: {"nftables": items}, st.lists(_values, max_size=4)))
def test_rule_sets(printed: object) -> None:
    RuleSet.read(printed)
