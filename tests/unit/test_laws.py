"""The laws of plans, searched for exceptions on a machine in memory that obeys the plans.

1. Idempotence: a plan made after a plan was applied is empty.
2. Repair: with any one item taken away or altered, the plan is exactly its repair.
3. Ownership: what does not bear our mark never appears in a plan (test_laws_ownership.py).
4. Order: make before break, removal in reverse (test_laws_order.py).
5. Interruption: a plan can be interrupted after any change; the next run converges.
6. Success is read back: only what was seen is reported (test_health.py).
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from ovs_mcast.core.changes import Plan
from ovs_mcast.core.items import Address, Bridge, Flow, Port
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan, plan_removal

from . import memory
from .laws import diverted, planned, remade, settled
from .memory import after, ours, visible, whole
from .methods import Joining
from .scenes import Scene, alterations, scenes
from .strategies import bare_machine


@given(scenes())
def test_what_was_applied_needs_no_change(scene: Scene) -> None:
    """Planning on the machine that a plan was applied to gives an empty plan."""
    event("bridges made anew: " + ("some" if remade(planned(scene)) else "none"))
    end = settled(scene.overlay, scene.machine)
    again = plan(scene.overlay, visible(end, scene.overlay.name))
    assert not again.changes
    assert not again.neighbours
    assert not plan(scene.overlay, end).changes


@given(scenes())
def test_what_was_removed_needs_no_removal(scene: Scene) -> None:
    """After teardown nothing bears the mark, and nothing is left to remove."""
    name = scene.overlay.name
    end = after(scene.machine, plan_removal(name, visible(scene.machine, name)))
    assert not ours(end, name)
    assert not plan_removal(name, end)


# Repair


@given(scenes(), st.data())
def test_one_lost_item_is_repaired_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """Take one item of ours away, and the plan adds exactly what went with it."""
    name = scene.overlay.name
    planned(scene)
    whole_ = settled(scene.overlay, scene.machine)
    lost = data.draw(st.sampled_from(sorted(ours(whole_, name), key=repr)))
    machine = memory.without(whole_, lost)
    repair = plan(scene.overlay, visible(machine, name))
    put_back = [change for change in repair if not diverted(change)]
    assert {change.action for change in put_back} == {"add"}
    assert {change.item for change in put_back} == ours(whole_, name) - ours(machine, name)
    assert len(put_back) == len({change.item for change in put_back})
    assert ours(after(machine, repair), name) == ours(whole_, name)
    event(f"lost a {lost.kind}")


@given(scenes(), st.data())
def test_one_altered_item_is_updated_and_no_more(scene: Scene, data: st.DataObject) -> None:
    """Alter one item of ours, and the plan is its one update."""
    name = scene.overlay.name
    planned(scene)
    whole_ = settled(scene.overlay, scene.machine)
    right = data.draw(st.sampled_from(sorted(ours(whole_, name), key=repr)))
    wrong = data.draw(alterations(right, whole_))
    try:
        machine = memory.having(whole_, wrong)
    except memory.RefusedError:  # an address with autojoin where all slots are taken
        assume(False)
        raise
    [repair] = [c for c in plan(scene.overlay, visible(machine, name)) if not diverted(c)]
    assert (repair.action, repair.item, repair.before) == ("update", right, wrong)
    assert "differ" in repair.reason
    event(f"altered a {right.kind}")


@pytest.mark.parametrize(("datapath", "device"), [("system", "eth0"), ("netdev", "br-phy")])
@pytest.mark.parametrize("method", ["repaired", "socket"])
def test_each_lost_flow_or_port_of_ipv6_is_put_back(
    datapath: str, device: str, method: str
) -> None:
    """Idempotence and repair with IPv6 groups; test_methods_laws has their addresses and routes."""
    overlay = Overlay(
        datapath=datapath,
        membership=method,
        underlay={"device": device, "vtep": "fd00::1"},
        segments=[Segment(vni=1, group="ff05::1"), Segment(vni=2, group="ff05::2")],
    )
    bare = memory.having(bare_machine(), Address(device, "fd00::1", 64))
    wanted = [c for c in plan(overlay, bare) if not isinstance(c.item, Joining)]
    built = after(bare, wanted)
    assert {type(c.item) for c in wanted} == {Bridge, Port, Flow}
    assert not [c for c in plan(overlay, built) if not isinstance(c.item, Joining)]
    for change in wanted:
        if isinstance(change.item, Flow | Port):
            left = plan(overlay, memory.without(built, change.item))
            again = [c for c in left if not isinstance(c.item, Joining)]
            assert [(c.action, c.item) for c in again] == [("add", change.item)]
    assert not ours(after(built, plan_removal(overlay.name, built)), overlay.name)


# Interruption


@given(scenes(), st.data())
def test_an_interrupted_plan_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Killed after any change, the next run ends where the first would have ended."""
    made = planned(scene)
    machine = _interrupted(scene.machine, made, data)
    assert whole(settled(scene.overlay, machine)) == whole(settled(scene.overlay, scene.machine))


@given(scenes(), st.data())
def test_an_interrupted_removal_is_taken_up_again(scene: Scene, data: st.DataObject) -> None:
    """Teardown killed after any change ends where the first would have ended."""
    name = scene.overlay.name
    removal = plan_removal(name, visible(scene.machine, name))
    machine = _interrupted(scene.machine, removal, data)
    rest = plan_removal(name, visible(machine, name))
    assert whole(after(machine, rest)) == whole(after(scene.machine, removal))


@given(scenes(clean=True), st.data())
def test_an_interrupted_plan_can_be_torn_down(scene: Scene, data: st.DataObject) -> None:
    """From wherever building stopped, teardown gives the machine back exactly."""
    name = scene.overlay.name
    machine = _interrupted(scene.machine, planned(scene), data)
    back = after(machine, plan_removal(name, visible(machine, name)))
    assert whole(back) == whole(scene.machine)


@given(scenes(), st.data())
def test_a_partly_refused_netlink_batch_is_taken_up_again(
    scene: Scene, data: st.DataObject
) -> None:
    """The kernel may refuse some addresses and routes of a batch and take the others."""
    made = planned(scene)
    cut = made.batches()
    partial = [index for index, batch in enumerate(cut) if batch.destination == "netlink"]
    assume(partial)
    stop = data.draw(st.sampled_from(partial))
    batch = cut[stop].changes
    some = data.draw(st.lists(st.sampled_from(batch), unique=True))
    machine = after(scene.machine, [one for earlier in cut[:stop] for one in earlier.changes])
    for change in batch:
        if change in some:
            with suppress(memory.RefusedError):  # as the kernel does, without what was refused
                machine = after(machine, [change])
    assert whole(settled(scene.overlay, machine)) == whole(settled(scene.overlay, scene.machine))


def _interrupted(machine: Observed, made: Plan, data: st.DataObject) -> Observed:
    cut = data.draw(st.integers(0, len(made)), label="changes made")
    return after(machine, made.changes[:cut])
