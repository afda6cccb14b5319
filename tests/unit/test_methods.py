"""How groups are joined, by each method on each datapath: the items, their order, and the laws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, GroupMembership, Item, Route
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.observed import Decision, Observed
from ovs_mcast.core.plan import plan, plan_removal
from ovs_mcast.errors import ConfigurationError

from . import simulate_joining as machine
from .simulate_joining import DEVICES, VTEPS, bare, joining

GROUPS = {4: [f"239.0.0.{n}" for n in range(1, 5)], 6: [f"ff05::7:{n}" for n in range(1, 5)]}
# (datapath, family, method): all that there is.
KINDS = [
    ("system", 4, "autojoin"), ("system", 4, "repaired"), ("system", 4, "peer"),
    ("system", 4, "socket"), ("system", 6, "repaired"), ("system", 6, "socket"),
    ("netdev", 4, "autojoin"), ("netdev", 4, "repaired"), ("netdev", 4, "socket"),
    ("netdev", 6, "repaired"), ("netdev", 6, "socket"),
]  # fmt: skip
METRIC = ownership.metric("default")


def overlay(datapath: str, family: int, method: str, groups: Iterable[str]) -> Overlay:
    return Overlay(
        datapath=datapath,
        membership=method,
        underlay={"device": DEVICES[datapath], "vtep": VTEPS[family]},
        segments=[Segment(vni=n, group=group) for n, group in enumerate(groups, 1)],
    )


def planned(wanted: Overlay, seen: Observed) -> list[Change]:
    return joining(plan(wanted, seen))


def made(wanted: Overlay, seen: Observed) -> Observed:
    return machine.after(seen, planned(wanted, seen))


def settled(wanted: Overlay, seen: Observed) -> Observed:
    """The machine with the overlay, and each address of autojoin with its local route."""
    built = made(wanted, seen)
    if wanted.membership != "autojoin":
        return built
    return made(wanted, machine.link_cycled(built, wanted.underlay.device))


def lines(changes: Iterable[Change]) -> list[str]:
    return [f"{change.action} {change.kind} {change.item.target}" for change in changes]


# Items and their order

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
    built = machine.after(bare(), first)
    assert machine.joined(built, DEVICES[datapath]) == {GROUPS[family][0]}
    assert machine.hijacked(built, GROUPS[family][0]) == (method == "autojoin")
    removal = joining(plan_removal("default", built))
    order = ["route", "address", "membership"]
    assert [c.kind for c in removal] == sorted((c.kind for c in removal), key=order.index)
    assert machine.whole(machine.after(built, removal)) == machine.whole(bare())


@pytest.mark.parametrize("family", [4, 6])
def test_no_route_is_waited_for_that_a_link_which_is_down_does_not_make(family: int) -> None:
    """An IPv6 address has its own route when the link is up, an IPv4 one at once."""
    links = {name: replace(link, up=False) for name, link in bare().links.items()}
    wanted = overlay("system", family, "repaired", GROUPS[family][:1])
    first = planned(wanted, replace(bare(), links=links))
    assert [c.action for c in first] == (["add", "remove"] if family == 4 else ["add"])


def test_the_local_route_of_a_strangers_address_stays() -> None:
    """Also where the address has our metric: its protocol says that it is somebody else's."""
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
    """The 21st group is refused, by number and with the way out; sockets need no slot."""
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
    seen = machine.after(bare(), [Change("add", theirs, "theirs")])
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
        seen = machine.after(seen, [change])
        assert machine.joined(seen, DEVICES[before[0]]) == set(groups), change
    assert lines(planned(new, seen)) == []
    if after[2] != "autojoin":  # which minds no local route that another deleted
        assert machine.whole(seen) == machine.whole(made(new, bare()))


# The laws, on machines with a past


class Scene(NamedTuple):
    """An overlay that is wanted, on a machine as it is."""

    wanted: Overlay
    seen: Observed


_kinds = st.sampled_from(KINDS)
_groups = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)
_cut = st.integers(0, 30)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """What earlier runs on one device left, whole or killed; the link was down; things are lost."""
    datapath, family, method = draw(_kinds)
    same = [kind for kind in KINDS if kind[:2] == (datapath, family)]

    def some(named: str) -> Overlay:
        return overlay(datapath, family, named, [GROUPS[family][n] for n in draw(_groups)])

    seen = bare()
    for _ in range(draw(st.integers(0, 3))):
        earlier = planned(some(draw(st.sampled_from(same))[2]), seen)
        cut = draw(_cut)
        seen = machine.after(seen, earlier[: cut if cut < 8 else None])
        if draw(st.booleans()):
            seen = machine.link_cycled(seen, DEVICES[datapath])
    for item in _ours(seen):
        if not draw(_cut):
            seen = machine.without(seen, item)
    return Scene(some(method), seen)


def _ours(seen: Observed) -> list[Item]:
    found: list[Item] = [a for a in seen.addresses if a.metric == METRIC]
    found += [r for r in seen.routes if r.metric == METRIC and r.protocol == ownership.PROTOCOL]
    return found if seen.held is None else [*found, seen.held]


@given(scenes())
def test_what_was_applied_needs_no_change(scene: Scene) -> None:
    """Law 1: one round is enough, from any method to any other, and sends go where they should."""
    changes = planned(*scene)
    event("changes: " + ("none" if not changes else "some"))
    end = machine.after(scene.seen, changes)
    assert lines(planned(scene.wanted, end)) == []
    device = scene.wanted.underlay.device
    groups = {str(group) for group in scene.wanted.flood_groups}
    assert machine.joined(end, device) == groups
    # autojoin minds no local route; one that `repaired` deleted is not made again.
    if scene.wanted.membership != "autojoin":
        assert not any(machine.hijacked(end, group) for group in groups)


@given(scenes(), st.data())
def test_one_lost_item_is_repaired_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """Law 2: the item comes back, of an address its local route goes again where it must."""
    whole = settled(*scene)
    lost = data.draw(st.sampled_from(sorted(_ours(whole), key=repr)))
    seen = machine.without(whole, lost)
    repair = planned(scene.wanted, seen)
    event(f"lost: {lost.kind}")
    local = [c for c in repair if isinstance(c.item, Route) and c.item.by_address]
    rest = [change for change in repair if change not in local]
    assert [(change.action, change.item) for change in rest] == [("add", lost)]
    assert all(c.action == "remove" and isinstance(lost, Address) for c in local)
    assert machine.whole(machine.after(seen, repair)) == machine.whole(whole)


@given(scenes())
def test_what_the_link_took_is_put_back(scene: Scene) -> None:
    """Law 2 for a link that was down: routes alone are repaired; the peer form needs nothing."""
    whole = settled(*scene)
    seen = machine.link_cycled(whole, scene.wanted.underlay.device)
    repair = planned(scene.wanted, seen)
    assert {change.kind for change in repair} <= {"route"}
    assert bool(repair) == (scene.wanted.membership != "peer")
    assert machine.whole(machine.after(seen, repair)) == machine.whole(whole)


@given(scenes(), st.data())
def test_an_interrupted_plan_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Law 5: killed after any change, the next run ends where the first would have ended."""
    changes = planned(*scene)
    cut = data.draw(st.integers(0, len(changes)), label="changes made")
    seen = machine.after(scene.seen, changes[:cut])
    end = machine.after(seen, planned(scene.wanted, seen))
    assert machine.whole(end) == machine.whole(machine.after(scene.seen, changes))


@given(scenes(), st.data())
def test_an_interrupted_removal_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Laws 1 and 5 for teardown: from anywhere, nothing of ours is left, nor a membership."""
    seen = made(*scene)
    removal = joining(plan_removal("default", seen))
    cut = data.draw(st.integers(0, len(removal)), label="changes made")
    seen = machine.after(seen, removal[:cut])
    end = machine.after(seen, joining(plan_removal("default", seen)))
    assert machine.whole(end) == machine.whole(bare())
    assert joining(plan_removal("default", end)) == []


@given(scenes())
def test_no_group_that_stays_is_left(scene: Scene) -> None:
    """Law 4: after each single change all groups that were joined and are wanted are joined."""
    device = scene.wanted.underlay.device
    wanted = {str(group) for group in scene.wanted.flood_groups}
    kept = machine.joined(scene.seen, device) & wanted
    assume(kept)
    seen = scene.seen
    for change in planned(*scene):
        seen = machine.after(seen, [change])
        assert kept <= machine.joined(seen, device), change


@given(scenes())
def test_sockets_join_first_and_let_go_last(scene: Scene) -> None:
    """Law 4: a membership is added before any address changes, and removed after all of them."""
    changes = planned(*scene)
    places = [n for n, change in enumerate(changes) if isinstance(change.item, GroupMembership)]
    assert len(places) <= 1
    for place in places:
        first = changes[place].action != "remove"
        assert place == (0 if first else len(changes) - 1)
