"""The law of order: make before break, removal in reverse, in as few batches as possible."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given

from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Flow
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.plan import plan, plan_removal

from .laws import diverted, handed_on, planned
from .memory import after
from .scenes import Scene, scenes
from .strategies import bare_machine

_MANY = 300
_MAKING = ["bridge", "port", "membership", "address", "route", "flow"]
_BREAKING = ["flow", "route", "address", "membership", "port", "bridge"]


@given(scenes())
def test_a_plan_makes_before_it_breaks(scene: Scene) -> None:
    """Bridges, ports, addresses, routes, flows are made; the reverse is removed after."""
    made = planned(scene).changes
    _in_order(made)
    _flows_in_one_bundle_per_bridge(made)


@given(scenes())
def test_a_removal_is_in_reverse(scene: Scene) -> None:
    """Teardown removes flows, routes, addresses, ports and bridges last, unmarked or gone."""
    name = scene.overlay.name
    removal = plan_removal(name, scene.machine).changes
    _in_order(removal)
    _flows_in_one_bundle_per_bridge(removal)


def _in_order(changes: tuple[Change, ...]) -> None:
    for place, change in enumerate(changes):
        if diverted(change):  # right after the routes are made, so once its address is there
            rest = [one.kind for one in changes[place:] if not (diverted(one) or _breaks(one))]
            assert set(rest) <= {"flow"}
    changes = tuple(change for change in changes if not (diverted(change) or _makes_room(change)))
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
    """Return whether the change removes something, or releases a bridge of ours."""
    return change.action == "remove" or handed_on(change)


def _makes_room(change: Change) -> bool:
    """Return whether an address goes early: the peer form, whose route is in another's place."""
    return isinstance(change.item, Address) and change.item.local is not None and _breaks(change)


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
    """Batches are the plan in its order, at most five and one for each bridge's flows."""
    made = planned(scene)
    cut = made.batches()
    assert [change for batch in cut for change in batch.changes] == list(made)
    bridges = {change.item.bridge for change in made if isinstance(change.item, Flow)}
    assert len(cut) <= 5 + len(bridges)
    for one, following in itertools.pairwise(cut):
        assert (one.destination, one.bridge) != (following.destination, following.bridge)
    for batch in cut:
        assert batch.changes
        for change in batch.changes:
            assert _destination(change) == (batch.destination, batch.bridge)


def _destination(change: Change) -> tuple[str, str | None]:
    if isinstance(change.item, Flow):
        return "openflow", change.item.bridge
    return {"bridge": "ovsdb", "port": "ovsdb", "membership": "keeper"}.get(
        change.kind, "netlink"
    ), None


@pytest.mark.parametrize("datapath", ["system", "netdev"])
def test_the_number_of_batches_does_not_grow_with_the_segments(datapath: str) -> None:
    """Hundreds of segments need as many batches as one, for every kind of change."""
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
    assert len(destinations(0, _MANY)[0]) == {"system": 4, "netdev": 5}[datapath]


def _sized(datapath: str, device: str, count: int) -> Overlay:
    return Overlay(
        datapath=datapath,
        membership="autojoin",
        underlay={"device": device},
        groups="239.1.0.0/16",
        segments=[Segment(vni=vni) for vni in range(1, count + 1)],
    )
