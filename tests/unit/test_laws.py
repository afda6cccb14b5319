"""The laws of the design, searched for exceptions. A machine in memory obeys the plans."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change, Plan
from ovs_mcast.core.health import faults
from ovs_mcast.core.items import Address, Bridge, Flow, Item, Port
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan, plan_removal
from ovs_mcast.core.target import resolve
from ovs_mcast.errors import ConfigurationError

from . import simulate
from .simulate import after, looked_up, ours, visible, whole
from .simulate_joining import Joining
from .strategies import (
    NAMES,
    OTHER_PROTOCOLS,
    RIVAL,
    Scene,
    alterations,
    bare_machine,
    built,
    scenes,
)

_MANY = 300
_ROUNDS = 3  # as many as Host.reconcile makes


def planned(scene: Scene) -> Plan:
    """The plan, of a scene that is not refused."""
    try:
        made = plan(scene.overlay, visible(scene.machine, scene.overlay.name))
    except ConfigurationError as refusal:
        event(f"refused: {refusal.field}")
        assume(False)
        raise
    event("changes: " + ("none" if not made else "some"))
    return made


# Law 1


@given(scenes())
def test_what_was_applied_needs_no_change(scene: Scene) -> None:
    """Law 1: planning on the machine that a plan was applied to gives an empty plan."""
    end = after(scene.machine, planned(scene))
    again = plan(scene.overlay, visible(end, scene.overlay.name))
    assert not again.changes
    assert not again.neighbours
    assert not plan(scene.overlay, end).changes


@given(scenes())
def test_a_bridge_that_is_made_anew_needs_few_more_rounds(scene: Scene) -> None:
    """Law 1 where a change of datapath costs a bridge its flows: a few rounds end it."""
    machine = after(scene.machine, planned(scene), remake=True)
    for _ in range(_ROUNDS - 1):
        again = plan(scene.overlay, visible(machine, scene.overlay.name))
        machine = after(machine, again, remake=True)
    assert not plan(scene.overlay, visible(machine, scene.overlay.name))


@given(scenes())
def test_what_was_removed_needs_no_removal(scene: Scene) -> None:
    """Law 1 for teardown: afterwards nothing bears the mark, and there is nothing to remove."""
    name = scene.overlay.name
    end = after(scene.machine, plan_removal(name, visible(scene.machine, name)))
    assert not ours(end, name)
    assert not plan_removal(name, end)


# Law 2


@given(scenes(), st.data())
def test_one_lost_item_is_repaired_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """Law 2: take one item of ours away, and the plan adds exactly what went with it."""
    name = scene.overlay.name
    whole_ = after(scene.machine, planned(scene))
    lost = data.draw(st.sampled_from(sorted(ours(whole_, name), key=repr)))
    machine = simulate.without(whole_, lost)
    repair = plan(scene.overlay, visible(machine, name))
    assert {change.action for change in repair} == {"add"}
    assert _repaired(repair) == ours(whole_, name) - ours(machine, name)
    assert len(repair) == len(_repaired(repair))
    event(f"lost a {lost.kind}")


@given(scenes(), st.data())
def test_one_altered_item_is_updated_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """Law 2: alter one item of ours, and the plan is its one update."""
    name = scene.overlay.name
    whole_ = after(scene.machine, planned(scene))
    right = data.draw(st.sampled_from(sorted(ours(whole_, name), key=repr)))
    wrong = data.draw(alterations(right, whole_))
    machine = simulate.having(whole_, wrong)
    [repair] = plan(scene.overlay, visible(machine, name))
    assert (repair.action, repair.item, repair.before) == ("update", right, wrong)
    assert "differ" in repair.reason
    event(f"altered a {right.kind}")


def _repaired(changes: Plan) -> set[Item]:
    return {change.item for change in changes}


@pytest.mark.parametrize(("datapath", "device"), [("system", "eth0"), ("netdev", "br-phy")])
@pytest.mark.parametrize("method", ["repaired", "socket"])
def test_each_lost_flow_or_port_of_ipv6_is_put_back(
    datapath: str, device: str, method: str
) -> None:
    """Laws 1 and 2 with IPv6 groups; their addresses and routes are test_joining's."""
    overlay = Overlay(
        datapath=datapath,
        membership=method,
        underlay={"device": device, "vtep": "fd00::1"},
        segments=[Segment(vni=1, group="ff05::1"), Segment(vni=2, group="ff05::2")],
    )
    bare = simulate.having(bare_machine(), Address(device, "fd00::1", 64))
    wanted = [c for c in plan(overlay, bare) if not isinstance(c.item, Joining)]
    built = after(bare, wanted)
    assert {type(c.item) for c in wanted} == {Bridge, Port, Flow}
    assert not [c for c in plan(overlay, built) if not isinstance(c.item, Joining)]
    for change in wanted:
        if isinstance(change.item, Flow | Port):
            left = plan(overlay, simulate.without(built, change.item))
            again = [c for c in left if not isinstance(c.item, Joining)]
            assert [(c.action, c.item) for c in again] == [("add", change.item)]
    assert not ours(after(built, plan_removal(overlay.name, built)), overlay.name)


# Law 3


@given(scenes())
def test_nothing_of_others_is_in_a_plan_or_changed_by_it(scene: Scene) -> None:
    """Law 3: what lacks our mark is in no plan, and after the plan it is as it was before."""
    planned(scene)
    made = plan(scene.overlay, scene.machine)  # all was seen, flows of others too
    assert made == planned(scene)
    _only_ours(made, scene.machine, scene.overlay.name)


@given(scenes())
def test_nothing_of_others_is_removed(scene: Scene) -> None:
    """Law 3 for teardown, where only marks are known: whatever else is there stays."""
    for name in (*NAMES, RIVAL, "never-built"):
        removal = plan_removal(name, scene.machine)
        assert all(change.action != "add" for change in removal)
        _only_ours(removal, scene.machine, name)


@given(scenes(), OTHER_PROTOCOLS, st.data())
def test_our_metric_under_another_protocol_is_a_strangers(
    scene: Scene, protocol: int, data: st.DataObject
) -> None:
    """Law 3: refusals, plans and faults are those of an address that has no metric at all."""
    name, device = scene.overlay.name, scene.overlay.underlay.device
    machine = built(scene.overlay, scene.machine)
    groups = [item for item in machine.addresses if IPAddress(item.address).is_multicast()]
    assume(groups)
    some = data.draw(st.lists(st.sampled_from(sorted(groups, key=repr)), min_size=1, unique=True))
    marked = {
        item: replace(item, metric=ownership.metric(name), protocol=protocol) for item in some
    }
    plain = {item: replace(item, metric=None, protocol=None) for item in some}
    theirs, bare = (
        replace(machine, addresses=tuple(which.get(item, item) for item in machine.addresses))
        for which in (marked, plain)
    )
    assert _answer(scene.overlay, theirs) == _answer(scene.overlay, bare)
    assert plan_removal(name, theirs) == plan_removal(name, bare)
    seen_of = [
        list(faults(resolve(scene.overlay, host), looked_up(host, device)))
        for host in (theirs, bare)
    ]
    assert seen_of[0] == seen_of[1]
    made = plan_removal(name, theirs)
    with suppress(ConfigurationError):
        made = Plan(name, (*made, *plan(scene.overlay, theirs)))
    keys = {item.key for item in marked}
    assert not [change for change in made if change.item.key in keys]


def _answer(overlay: Overlay, machine: Observed) -> Plan | tuple[str, str]:
    try:
        return plan(overlay, machine)
    except ConfigurationError as refusal:
        return (refusal.field, refusal.reason)


def _only_ours(made: Plan, machine: Observed, name: str) -> None:
    mine = ours(machine, name)
    end = after(machine, made)
    removed = {item.name for item in mine if isinstance(item, Bridge)} - end.bridges.keys()
    for change in made:
        assert change.action == "add" or (change.before or change.item) in mine
        assert simulate.marked(change.item, name) or _handed_on(change)
    guests = [item for item in simulate.others(machine, name) if isinstance(item, Port)]
    assert not any(port.bridge in removed for port in guests)
    handed_on = {change.item for change in made if _handed_on(change)}
    for bridge in handed_on:
        owners = {port.owner for port in guests if port.bridge == bridge.target}
        assert isinstance(bridge, Bridge)
        assert bridge.owner in owners
        assert bridge.owner is None or None not in owners
    assert simulate.others(end, name) - handed_on == {
        item
        for item in simulate.others(machine, name)
        if _place(item) not in removed and not _flushed(item, made)
    }


def _handed_on(change: Change) -> bool:
    """Whether a bridge of ours is kept for those whose ports it holds."""
    item, before = change.item, change.before
    return isinstance(item, Bridge) and isinstance(before, Bridge) and item.owner != before.owner


def _place(item: Item) -> str | None:
    if isinstance(item, Port | Flow):
        return item.bridge
    return item.name if isinstance(item, Bridge) else item.device


def _flushed(item: Item, made: Plan) -> bool:
    """Whether it was learned for a segment that goes: delete_learned takes it along."""
    return isinstance(item, Flow) and any(
        change.action == "remove"
        and isinstance(change.item, Flow)
        and "delete_learned" in change.item.actions
        and change.item.bridge == item.bridge
        and change.item.cookie | 1 << 36 == item.cookie
        for change in made
    )


# Law 4

_MAKING = ["bridge", "port", "address", "route", "flow"]
_BREAKING = ["flow", "route", "address", "port", "bridge"]


@given(scenes())
def test_a_plan_makes_before_it_breaks(scene: Scene) -> None:
    """Law 4: bridges, ports, addresses, routes, flows are made; the reverse is removed after."""
    made = planned(scene).changes
    _in_order(made)
    _flows_in_one_bundle_per_bridge(made)


@given(scenes())
def test_a_removal_is_in_reverse(scene: Scene) -> None:
    """Law 4 for teardown: flows, routes, addresses, ports and bridges last, unmarked or gone."""
    name = scene.overlay.name
    removal = plan_removal(name, scene.machine).changes
    _in_order(removal)
    _flows_in_one_bundle_per_bridge(removal)


def _in_order(changes: tuple[Change, ...]) -> None:
    places = [
        _MAKING.index(change.kind)
        if not _breaks(change) or change.kind == "flow"
        else len(_MAKING) + _BREAKING.index(change.kind)
        for change in changes
    ]
    assert places == sorted(places)
    gone = {change.item.target for change in changes if _breaks(change) and change.kind == "bridge"}
    for change in itertools.dropwhile(
        lambda one: one.kind != "bridge" or not _breaks(one), changes
    ):
        assert not (isinstance(change.item, Address) and change.item.device in gone)


def _breaks(change: Change) -> bool:
    """Whether it takes something away; a mark is what the next run finds its own by."""
    return change.action == "remove" or _handed_on(change)


def _flows_in_one_bundle_per_bridge(changes: tuple[Change, ...]) -> None:
    flows = [change for change in changes if isinstance(change.item, Flow)]
    runs = [(bridge, list(run)) for bridge, run in itertools.groupby(flows, key=_bridge_of)]
    assert len({bridge for bridge, _ in runs}) == len(runs)
    for _, run in runs:
        removals = [change.action == "remove" for change in run]
        assert removals == sorted(removals, reverse=True)


def _bridge_of(change: Change) -> str:
    assert isinstance(change.item, Flow)
    return change.item.bridge


@given(scenes())
def test_batches_are_the_plan_cut_in_few_pieces(scene: Scene) -> None:
    """Law 4: batches are the plan in its order, at most four and one for each bridge's flows."""
    made = planned(scene)
    cut = made.batches()
    assert [change for batch in cut for change in batch.changes] == list(made)
    bridges = {change.item.bridge for change in made if isinstance(change.item, Flow)}
    assert len(cut) <= 4 + len(bridges)
    for one, following in itertools.pairwise(cut):
        assert (one.destination, one.bridge) != (following.destination, following.bridge)
    for batch in cut:
        assert batch.changes
        for change in batch.changes:
            assert _destination(change) == (batch.destination, batch.bridge)


def _destination(change: Change) -> tuple[str, str | None]:
    if isinstance(change.item, Flow):
        return "openflow", change.item.bridge
    return {"bridge": "ovsdb", "port": "ovsdb"}.get(change.kind, "netlink"), None


@pytest.mark.parametrize("datapath", ["system", "netdev"])
def test_the_number_of_batches_does_not_grow_with_the_segments(datapath: str) -> None:
    """Hundreds of segments go out in as many batches as one, for every way to change them."""
    device = {"system": "eth0", "netdev": "br-phy"}[datapath]

    def destinations(before: int, wanted: int) -> list[list[str]]:
        machine = bare_machine()
        if before:
            machine = after(machine, plan(_sized(datapath, device, before), machine))
        change = plan(_sized(datapath, device, wanted), machine)
        removal = plan_removal("default", after(machine, change))
        return [list(map(str, made.batches())) for made in (change, removal)]

    assert destinations(0, 1) == destinations(0, _MANY)
    assert destinations(1, 2) == destinations(1, _MANY)
    assert destinations(2, 1) == destinations(_MANY, 1)
    assert len(destinations(0, _MANY)[0]) == {"system": 3, "netdev": 4}[datapath]


def _sized(datapath: str, device: str, count: int) -> Overlay:
    return Overlay(
        datapath=datapath,
        membership="autojoin",
        underlay={"device": device},
        groups="239.1.0.0/16",
        segments=[Segment(vni=vni) for vni in range(1, count + 1)],
    )


# Law 5


@given(scenes(), st.data())
def test_an_interrupted_plan_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Law 5: killed after any change, the next run ends where the first would have ended."""
    made = planned(scene)
    machine = _interrupted(scene.machine, made, data)
    rest = plan(scene.overlay, visible(machine, scene.overlay.name))
    assert whole(after(machine, rest)) == whole(after(scene.machine, made))


@given(scenes(), st.data())
def test_an_interrupted_removal_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Law 5 for teardown, killed after any change."""
    name = scene.overlay.name
    removal = plan_removal(name, visible(scene.machine, name))
    machine = _interrupted(scene.machine, removal, data)
    rest = plan_removal(name, visible(machine, name))
    assert whole(after(machine, rest)) == whole(after(scene.machine, removal))


@given(scenes(clean=True), st.data())
def test_an_interrupted_plan_can_be_torn_down(scene: Scene, data: st.DataObject) -> None:
    """Law 5: from wherever building stopped, teardown gives the machine back exactly."""
    name = scene.overlay.name
    machine = _interrupted(scene.machine, planned(scene), data)
    back = after(machine, plan_removal(name, visible(machine, name)))
    assert whole(back) == whole(scene.machine)


@given(scenes(), st.data())
def test_a_partly_refused_netlink_batch_is_taken_up_again(
    scene: Scene, data: st.DataObject
) -> None:
    """Law 5: the kernel may refuse some addresses and routes of a batch and take the others."""
    made = planned(scene)
    cut = made.batches()
    partial = [index for index, batch in enumerate(cut) if batch.destination == "netlink"]
    assume(partial)
    stop = data.draw(st.sampled_from(partial))
    batch = cut[stop].changes
    some = data.draw(st.lists(st.sampled_from(batch), unique=True))
    taken = [change for change in batch if change in some]
    done = [change for earlier in cut[:stop] for change in earlier.changes] + taken
    machine = after(scene.machine, done)
    rest = plan(scene.overlay, visible(machine, scene.overlay.name))
    assert whole(after(machine, rest)) == whole(after(scene.machine, made))


def _interrupted(machine: Observed, made: Plan, data: st.DataObject) -> Observed:
    cut = data.draw(st.integers(0, len(made)), label="changes made")
    return after(machine, made.changes[:cut])
