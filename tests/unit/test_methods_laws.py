"""The laws of plans for each method of joining, on machines with a past."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import assume, event, given
from hypothesis import strategies as st

from ovs_mcast.core.items import Address, GroupMembership, Route
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan_removal

from . import memory
from .methods import (
    DEVICES,
    GROUPS,
    KINDS,
    bare,
    joining,
    lines,
    made,
    overlay,
    planned,
    settled,
)


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
        seen = memory.after(seen, earlier[: cut if cut < 8 else None])
        device = DEVICES[datapath]
        if draw(st.booleans()) and not memory.loses_groups(seen, device):
            seen = memory.link_cycled(seen, device)
    for item in sorted(memory.ours(seen, "default"), key=repr):
        if not draw(_cut):
            seen = memory.without(seen, item)
    return Scene(some(method), seen)


@given(scenes())
def test_what_was_applied_needs_no_change(scene: Scene) -> None:
    """One round is enough, from any method to any other, and sends go where they should."""
    changes = planned(*scene)
    event("changes: " + ("none" if not changes else "some"))
    end = memory.after(scene.seen, changes)
    assert lines(planned(scene.wanted, end)) == []
    device = scene.wanted.underlay.device
    groups = {str(group) for group in scene.wanted.flood_groups}
    assert memory.joined(end, device) == groups
    # autojoin minds no local route; one that `repaired` deleted is not made again.
    if scene.wanted.membership != "autojoin":
        assert not any(memory.hijacked(end, group) for group in groups)


@given(scenes(), st.data())
def test_one_lost_item_is_repaired_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """A lost item comes back; the local route of its address is removed again where it must be."""
    whole = settled(*scene)
    lost = data.draw(st.sampled_from(sorted(memory.ours(whole, "default"), key=repr)))
    seen = memory.without(whole, lost)
    repair = planned(scene.wanted, seen)
    event(f"lost: {lost.kind}")
    local = [c for c in repair if isinstance(c.item, Route) and c.item.by_address]
    rest = [change for change in repair if change not in local]
    assert [(change.action, change.item) for change in rest] == [("add", lost)]
    assert all(c.action == "remove" and isinstance(lost, Address) for c in local)
    assert memory.whole(memory.after(seen, repair)) == memory.whole(whole)


@given(scenes())
def test_what_the_link_took_is_put_back(scene: Scene) -> None:
    """After the link was down only routes are repaired; the peer form needs nothing."""
    whole, device = settled(*scene), scene.wanted.underlay.device
    assume(not memory.loses_groups(whole, device))
    seen = memory.link_cycled(whole, device)
    repair = planned(scene.wanted, seen)
    assert {change.kind for change in repair} <= {"route"}
    assert bool(repair) == (scene.wanted.membership != "peer")
    assert memory.whole(memory.after(seen, repair)) == memory.whole(whole)


@given(scenes(), st.data())
def test_an_interrupted_plan_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Killed after any change, the next run ends where the first would have ended."""
    changes = planned(*scene)
    cut = data.draw(st.integers(0, len(changes)), label="changes made")
    seen = memory.after(scene.seen, changes[:cut])
    end = memory.after(seen, planned(scene.wanted, seen))
    assert memory.whole(end) == memory.whole(memory.after(scene.seen, changes))


@given(scenes(), st.data())
def test_an_interrupted_removal_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Teardown, killed or not, leaves nothing of ours and no membership."""
    seen = made(*scene)
    removal = joining(plan_removal("default", seen))
    cut = data.draw(st.integers(0, len(removal)), label="changes made")
    seen = memory.after(seen, removal[:cut])
    end = memory.after(seen, joining(plan_removal("default", seen)))
    assert memory.whole(end) == memory.whole(bare())
    assert joining(plan_removal("default", end)) == []


@given(scenes())
def test_no_group_that_stays_is_left(scene: Scene) -> None:
    """After each single change all groups that were joined and are wanted are joined."""
    device = scene.wanted.underlay.device
    wanted = {str(group) for group in scene.wanted.flood_groups}
    kept = memory.joined(scene.seen, device) & wanted
    assume(kept)
    seen = scene.seen
    for change in planned(*scene):
        seen = memory.after(seen, [change])
        assert kept <= memory.joined(seen, device), change


@given(scenes())
def test_sockets_join_first_and_let_go_last(scene: Scene) -> None:
    """A membership is added before any address changes, and removed after all of them."""
    changes = planned(*scene)
    places = [n for n, change in enumerate(changes) if isinstance(change.item, GroupMembership)]
    assert len(places) <= 1
    for place in places:
        first = changes[place].action != "remove"
        assert place == (0 if first else len(changes) - 1)
