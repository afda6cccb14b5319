"""How groups are joined, by each method on each datapath: the items and their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Route
from ovs_mcast.core.observed import Decision
from ovs_mcast.core.plan import plan, plan_removal
from ovs_mcast.errors import ConfigurationError

from . import memory
from .methods import (
    DEVICES,
    GROUPS,
    KINDS,
    METRIC,
    VTEPS,
    bare,
    joining,
    lines,
    made,
    overlay,
    planned,
)

_JOIN = "add address 239.0.0.1/32 dev {} autojoin"
_MAIN = "add route 239.0.0.1 dev {} src 10.0.0.1"
_MAIN_OF_OVS = "add route 239.0.0.1 dev {}"
_BACK = "remove route local 239.0.0.1 dev {} table local"
_HOLD = "add membership 239.0.0.1 dev {} by sockets"
_JOIN_6 = "add address ff05::7:1/128 dev {} autojoin"
_LOCAL_6 = "add route ff05::7:1 dev {} table local src fd00::1"
_LOCAL_6_OF_OVS = "add route ff05::7:1 dev {} table local"
_BACK_6 = "remove route local ff05::7:1 dev {} table local"
_HOLD_6 = "add membership ff05::7:1 dev {} by sockets"
_FIRST = {
    ("system", 4, "autojoin"): [_JOIN, _MAIN],
    ("system", 4, "repaired"): [_JOIN, _MAIN, _BACK],
    ("system", 4, "peer"): ["add address 10.0.0.1 peer 239.0.0.1/32 dev eth0 autojoin"],
    ("system", 4, "socket"): [_HOLD, _MAIN],
    ("system", 6, "repaired"): [_JOIN_6, _LOCAL_6, _BACK_6],
    ("system", 6, "socket"): [_HOLD_6, _LOCAL_6],
    ("netdev", 4, "autojoin"): [_JOIN, _MAIN_OF_OVS],
    ("netdev", 4, "repaired"): [_JOIN, _MAIN_OF_OVS, _BACK],
    ("netdev", 4, "socket"): [_HOLD, "add address 239.0.0.1/32 dev {}", _MAIN_OF_OVS, _BACK],
    ("netdev", 6, "repaired"): [_JOIN_6, _LOCAL_6_OF_OVS, _BACK_6],
    ("netdev", 6, "socket"): [_HOLD_6, _JOIN_6, _LOCAL_6_OF_OVS, _BACK_6],
}


@pytest.mark.parametrize(("kind", "changes"), _FIRST.items(), ids=map("-".join, [
    (datapath, str(family), method) for datapath, family, method in _FIRST
]))  # fmt: skip
def test_what_a_method_does_and_undoes(kind: tuple[str, int, str], changes: list[str]) -> None:
    """Sockets join, then the address, its host route, and away with its local route; and back."""
    datapath, family, method = kind
    wanted = overlay(datapath, family, method, GROUPS[family][:1])
    first = planned(wanted, bare())
    assert lines(first) == [line.format(DEVICES[datapath]) for line in changes]
    # The kernel tells its own route from ours by the protocol alone, while its own is late.
    gone = [c.item for c in first if c.action == "remove"]
    assert all(isinstance(item, Route) and item.protocol == 2 for item in gone)
    built = memory.after(bare(), first)
    assert memory.joined(built, DEVICES[datapath]) == {GROUPS[family][0]}
    assert memory.hijacked(built, GROUPS[family][0]) == (method == "autojoin")
    removal = joining(plan_removal("default", built))
    order = ["route", "address", "membership"]
    assert [c.kind for c in removal] == sorted((c.kind for c in removal), key=order.index)
    assert memory.whole(memory.after(built, removal)) == memory.whole(bare())


@pytest.mark.parametrize("family", [4, 6])
def test_no_route_is_waited_for_that_a_link_which_is_down_does_not_make(family: int) -> None:
    """An IPv6 address has its own route when the link is up, an IPv4 one at once."""
    links = {name: replace(link, up=False) for name, link in bare().links.items()}
    wanted = overlay("system", family, "repaired", GROUPS[family][:1])
    first = planned(wanted, replace(bare(), links=links))
    assert [c.action for c in first] == (["add", "remove"] if family == 4 else ["add"])


def test_the_local_route_of_a_strangers_address_stays() -> None:
    """It stays even if the address has our metric: its protocol is another's."""
    [group] = GROUPS[4][:1]
    theirs = Address("eth0", group, 32, True, METRIC, protocol=4)
    seen = bare()
    seen = replace(
        seen,
        addresses=(*seen.addresses, theirs),
        routes=(Route("eth0", group, group, None, "local", 2),),
    )
    wanted = overlay("system", 4, "repaired", [group])
    assert lines(planned(wanted, seen)) == [_MAIN.format("eth0")]


def test_auto_is_what_was_decided_for_the_device_and_family() -> None:
    """A decision for another device, or for another family, is none: sockets, until it is made."""
    wanted = overlay("system", 4, "auto", GROUPS[4])
    for decision, kinds in [
        (None, {"membership", "route"}),
        (Decision("autojoin", "eth0", 4, ""), {"address", "route"}),
        (Decision("autojoin", "eth1", 4, ""), {"membership", "route"}),
        (Decision("autojoin", "eth0", 6, ""), {"membership", "route"}),
        (Decision("socket", "eth0", 4, ""), {"membership", "route"}),
    ]:
        changes = planned(wanted, replace(bare(), decision=decision))
        assert {change.kind for change in changes} == kinds


@pytest.mark.parametrize("method", ["autojoin", "repaired", "peer"])
def test_slots_are_counted_beforehand(method: str) -> None:
    """The 21st group is refused with its number and a remedy; sockets need no slot."""
    groups = [f"239.1.0.{n}" for n in range(1, 22)]
    taken = Address("eth0", "239.9.9.9", 32, autojoin=True)
    seen = replace(bare(), addresses=(*bare().addresses, taken))
    made(overlay("system", 4, method, groups[:19]), seen)
    with pytest.raises(ConfigurationError, match=r"igmp_max_memberships=21.*--membership socket"):
        plan(overlay("system", 4, method, groups[:20]), seen)
    made(overlay("system", 4, "socket", groups), seen)


def test_a_group_that_somebody_else_joined_is_used_as_it_is() -> None:
    """An autojoin address that is not ours is neither added nor changed, nor is its local route."""
    theirs = Address("eth0", "239.0.0.1", 32, autojoin=True)
    seen = memory.after(bare(), [Change("add", theirs, "theirs")])
    for method in ("autojoin", "repaired", "peer"):
        changes = planned(overlay("system", 4, method, GROUPS[4][:1]), seen)
        assert {change.kind for change in changes} <= {"route"}
        assert not any(change.action == "remove" for change in changes)


_PAIRS = [(one, other) for one in KINDS for other in KINDS if one[:2] == other[:2] and one != other]


@pytest.mark.parametrize(("before", "after"), _PAIRS, ids=lambda kind: "-".join(map(str, kind)))
def test_each_method_becomes_each_other_in_one_round(
    before: tuple[str, int, str], after: tuple[str, int, str]
) -> None:
    """The groups stay joined at every step, and one plan is enough; the routes are those wanted."""
    groups = GROUPS[before[1]][:2]
    old, new = overlay(*before, groups), overlay(*after, groups)
    seen = made(old, bare())
    for change in planned(new, seen):
        seen = memory.after(seen, [change])
        assert memory.joined(seen, DEVICES[before[0]]) == set(groups), change
    assert lines(planned(new, seen)) == []
    if after[2] != "autojoin":  # which minds no local route that another deleted
        assert memory.whole(seen) == memory.whole(made(new, bare()))


def test_a_route_that_moves_goes_after_the_peer_form_that_has_its_place() -> None:
    """A route of ours, left by a killed change to `peer`, moves to another device in one round."""
    groups = GROUPS[4][:1]
    seen = made(overlay("system", 4, "repaired", groups), bare())
    killed, *_left = planned(overlay("system", 4, "peer", groups), seen)
    seen = memory.after(seen, [killed])
    moved = overlay("system", 4, "repaired", groups).replace(
        underlay={"device": DEVICES["netdev"], "vtep": VTEPS[4]}
    )
    assert [change.action for change in planned(moved, seen)].count("update") == 1
    assert lines(planned(moved, made(moved, seen))) == []
