"""The law of ownership: what does not bear our mark never appears in a plan."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Plan
from ovs_mcast.core.health import faults
from ovs_mcast.core.items import Address, Bridge, Flow, Item, Port, Route
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan, plan_removal
from ovs_mcast.core.target import resolve
from ovs_mcast.errors import ConfigurationError

from . import memory
from .laws import diverted, handed_on, planned, remade
from .memory import after, looked_up, ours
from .scenes import Scene, scenes
from .strategies import NAMES, OTHER_PROTOCOLS, RIVAL, built


@given(scenes())
def test_nothing_of_others_is_in_a_plan_or_changed_by_it(scene: Scene) -> None:
    """What lacks our mark is in no plan, and after the plan it is as it was before."""
    planned(scene)
    made = plan(scene.overlay, scene.machine)  # all was seen, flows of others too
    assert made == planned(scene)
    _only_ours(made, scene.machine, scene.overlay.name)


@given(scenes())
def test_nothing_of_others_is_removed(scene: Scene) -> None:
    """Teardown knows only marks: all else on the machine stays."""
    for name in (*NAMES, RIVAL, "never-built"):
        removal = plan_removal(name, scene.machine)
        assert all(change.action != "add" for change in removal)
        _only_ours(removal, scene.machine, name)


@given(scenes(), OTHER_PROTOCOLS, st.data())
def test_our_metric_under_another_protocol_is_a_strangers(
    scene: Scene, protocol: int, data: st.DataObject
) -> None:
    """Refusals, plans and faults are those of an address that has no metric at all."""
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
    changed = {(item.device, item.address) for item in mine if isinstance(item, Address)} | {
        (item.device, item.address) for item in (change.item for change in made)
        if isinstance(item, Address)
    }  # fmt: skip
    for change in made:
        if isinstance(change.item, Route) and diverted(change):
            assert (change.item.device, change.item.destination) in changed
            continue
        assert change.action == "add" or (change.before or change.item) in mine
        assert memory.marked(change.item, name) or handed_on(change)
    guests = [item for item in memory.others(machine, name) if isinstance(item, Port)]
    assert not any(port.bridge in removed for port in guests)
    kept = {change.item for change in made if handed_on(change)}
    for bridge in kept:
        owners = {port.owner for port in guests if port.bridge == bridge.target}
        assert isinstance(bridge, Bridge)
        assert bridge.owner in owners
        assert bridge.owner is None or None not in owners
    assert memory.others(end, name) - kept == {
        item
        for item in memory.others(machine, name)
        if _place(item) not in removed and not _flushed(item, made)
        if not (isinstance(item, Flow) and item.bridge in remade(made))
    }


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
