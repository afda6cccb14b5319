"""What rules of nftables do with a packet: the documents are those that nft 1.0.6 prints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.core.firewall import packets, warnings
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.packet_filter import Packet, RuleSet
from ovs_mcast.core.target import resolve

from .plan_overlays import G1, overlay_of
from .strategies import bare_machine, built

HOOKS = ("ingress", "prerouting", "input")
VXLAN = Packet(
    "VXLAN", HOOKS, 4, "eth0", frozenset({"ip", "udp"}),
    {"ip daddr": G1, "ip protocol": "udp", "udp dport": 4789, "th dport": 4789,
     "meta l4proto": "udp", "meta iifname": "eth0", "meta pkttype": "multicast", "ct state": "new"},
)  # fmt: skip


def chain(name: str = "input", family: str = "inet", **more: object) -> dict[str, Any]:
    """A base chain of the hook of its name; `sub` is none."""
    base = {} if name == "sub" else {"type": "filter", "hook": name, "prio": 0, "policy": "accept"}
    return {"chain": {"family": family, "table": "t", "name": name, "handle": 1, **base, **more}}


def rule(*expr: object, on: str = "input", handle: int = 7) -> dict[str, Any]:
    return {
        "rule": {"family": "inet", "table": "t", "chain": on, "handle": handle, "expr": [*expr]}
    }


def match(kind: str, name: str, right: object, op: str = "==") -> dict[str, Any]:
    left: dict[str, Any] = {kind: {"key": name}}
    if kind not in {"meta", "ct"}:
        left = {"payload": {"protocol": kind, "field": name}}
    return {"match": {"op": op, "left": left, "right": right}}


def vmap(kind: str, name: str, data: object) -> dict[str, Any]:
    return {"vmap": {"key": match(kind, name, 0)["match"]["left"], "data": data}}


DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}
PORT = match("udp", "dport", 4789)
ANY = match("ip", "saddr", {"prefix": {"addr": "10.0.0.0", "len": 8}})  # the source is unknown here
COUNTER: dict[str, Any] = {"counter": {"packets": 0, "bytes": 0}}
FIB = {"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "x"}}


def dropped(*entries: dict[str, Any], packet: Packet = VXLAN) -> str:
    return RuleSet.read({"nftables": [{"metainfo": {}}, *entries]}).dropped_by(packet)


@pytest.mark.parametrize(
    "matches",
    [
        (PORT,),
        (COUNTER, PORT, COUNTER),
        (match("udp", "dport", {"set": [53, 4789]}),),
        (match("udp", "dport", {"range": [4000, 5000]}),),
        (match("udp", "dport", 53, "!="),),
        (match("th", "dport", 4789),),
        (match("ip", "daddr", {"prefix": {"addr": "224.0.0.0", "len": 4}}),),
        (match("ip", "daddr", {"set": [{"range": ["239.0.0.0", "239.0.0.9"]}]}),),
        (match("meta", "pkttype", "multicast"),),
        (match("meta", "iifname", "eth*"), match("meta", "l4proto", {"set": ["udp", "tcp"]})),
        (match("ct", "state", ["established", "related", "new"], "in"),),
        ({"xt": {"type": "match", "name": "comment"}}, PORT),
    ],
)
@pytest.mark.parametrize("verdict", ["drop", "reject"])
def test_what_drops_for_certain_is_named(matches: tuple[dict[str, Any], ...], verdict: str) -> None:
    found = dropped(chain(), rule(*matches, {verdict: None}))
    assert found == "rule 7 of chain input in table inet t"


@pytest.mark.parametrize(
    "matches",
    [
        (match("udp", "dport", 4790),),
        (match("udp", "dport", 4789, "!="),),
        (match("tcp", "dport", 4789, "!="),),
        (match("ip6", "daddr", "::1", "!="),),
        (match("ip", "daddr", "239.0.0.9"),),
        (match("meta", "iifname", "lo"),),
        (match("ct", "state", ["established", "related"], "in"),),
        # Not known here.
        (ANY,),
        (PORT, ANY),
        (match("ip", "daddr", "@groups"),),
        (match("meta", "mark", 7),),
        (match("udp", "dport", 4000, ">"),),
        (match("udp", "dport", "domain"),),
        ({"limit": {"rate": 5, "per": "second"}}, PORT),
        ({"xt": {"type": "match", "name": "multiport"}}, PORT),
        (FIB,),
    ],
)
def test_what_may_not_drop_is_not_named(matches: tuple[dict[str, Any], ...]) -> None:
    assert dropped(chain(), rule(*matches, DROP)) == ""


POLICY = chain(policy="drop")
BY_POLICY = "the policy of chain input in table inet t"
SUB = chain("sub")
JUMP, GOTO = ({kind: {"target": "sub"}} for kind in ("jump", "goto"))


@pytest.mark.parametrize(
    ("rules", "by"),
    [
        ([], BY_POLICY),
        ([rule(PORT, ACCEPT)], ""),
        ([rule(match("tcp", "dport", 22), ACCEPT)], BY_POLICY),
        ([rule(COUNTER)], BY_POLICY),
        ([rule(ANY, ACCEPT)], ""),
        ([rule({"xt": {"type": "target", "name": "ACCEPT"}})], ""),
        ([rule({"queue": None})], ""),
        ([rule({"return": None}), rule(ACCEPT)], BY_POLICY),
        ([rule(vmap("udp", "dport", {"set": [[53, DROP], [4789, ACCEPT]]}))], ""),
        ([rule(vmap("udp", "dport", {"set": [[53, ACCEPT]]}))], BY_POLICY),
        ([rule(vmap("meta", "mark", {"set": [[1, ACCEPT]]}))], ""),
        ([rule(vmap("meta", "iifname", "@ports"))], ""),
        ([SUB, rule(JUMP), rule(ACCEPT, on="sub")], ""),
        ([SUB, rule(JUMP), rule(DROP, on="sub")], "rule 7 of chain sub in table inet t"),
        ([SUB, rule(JUMP), rule(PORT, ACCEPT), rule({"return": None}, on="sub")], ""),
        ([SUB, rule(GOTO), rule(PORT, ACCEPT)], BY_POLICY),
        ([SUB, rule(JUMP, on="sub"), rule(JUMP)], ""),
    ],
)
def test_a_policy_that_drops(rules: list[dict[str, Any]], by: str) -> None:
    """It drops what no rule decides, and nothing where a rule may have accepted."""
    assert dropped(POLICY, *rules) == by


def test_every_chain_of_the_way_must_accept() -> None:
    """In the order of hooks and priorities; chains of other families and devices do not count."""
    late = chain("late", hook="input", prio=10, policy="drop")
    assert dropped(chain(), rule(ACCEPT), late) == "the policy of chain late in table inet t"
    assert dropped(chain("output", policy="drop"), chain("forward", policy="drop")) == ""
    assert dropped(chain(family="ip6", policy="drop"), chain(family="bridge", policy="drop")) == ""
    assert dropped(chain(family="ip", policy="drop")) == "the policy of chain input in table ip t"


@pytest.mark.parametrize(("device", "drops"), [("eth0", True), ("eth1", False)])
def test_a_chain_of_a_device(device: str, drops: bool) -> None:
    for named in (device, ["lo", device]):
        found = dropped(chain("ingress", family="netdev", dev=named, policy="drop"))
        assert found == ("the policy of chain ingress in table netdev t" if drops else "")


@pytest.mark.parametrize("document", [None, [], {}, {"nftables": []}])
def test_no_rule_set_drops_nothing(document: object) -> None:
    assert RuleSet.read(document).dropped_by(VXLAN) == ""


def drops_of(overlay: Overlay, *entries: dict[str, Any]) -> list[str]:
    target = resolve(overlay, built(overlay, bare_machine()))
    return [str(one) for one in warnings(target, RuleSet.read({"nftables": [*entries]}))]


def test_what_is_said() -> None:
    """One sentence for each rule or policy, with all that it drops."""
    said = drops_of(overlay_of({100: G1}), POLICY, rule(match("ip", "protocol", "igmp"), ACCEPT))
    assert said == [
        f"nftables drops VXLAN to {G1} and VXLAN to 10.0.0.1: {BY_POLICY}: "
        "nft --handle list ruleset shows it"
    ]
    [said_of_all] = drops_of(overlay_of({100: G1}), chain("output", policy="drop"))
    for what in (f"VXLAN from this host to {G1}", "VXLAN from this host to peers", "IGMP reports"):
        assert what in said_of_all


def test_the_userspace_datapath_passes_the_filter_by() -> None:
    """Only IGMP is Linux's there."""
    userspace = Overlay(
        datapath="netdev", underlay={"device": "br-phy"}, membership="repaired",
        segments=[{"vni": 1, "group": G1}],
    )  # fmt: skip
    target = resolve(userspace, built(userspace, bare_machine()))
    assert [packet.what for packet in packets(target)] == ["IGMP queries", "IGMP reports"]


_rules = st.tuples(
    st.lists(
        st.sampled_from([DROP, ACCEPT, PORT, ANY, COUNTER, {"return": None}, JUMP, GOTO]),
        max_size=4,
    ),
    st.sampled_from(["input", "sub"]),
)


@given(st.lists(_rules, max_size=6))
def test_every_rule_set_has_an_answer(rows: list[tuple[list[dict[str, Any]], str]]) -> None:
    """Whatever jumps there are; and a rule that accepts all, in front, is the end of it."""
    rules = [rule(*expr, on=on) for expr, on in rows]
    dropped(POLICY, SUB, *rules)
    assert dropped(POLICY, SUB, rule(ACCEPT), *rules) == ""
