"""An overlay is read back from its marks such that asking for it again would change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, event, given

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Bridge
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.plan import plan
from ovs_mcast.core.recovery import recover
from ovs_mcast.errors import ConfigurationError

from . import memory
from .methods import GROUPS, KINDS, bare, overlay, settled
from .scenes import Scene, scenes
from .strategies import built


def whole(wanted: Overlay, machine: Observed) -> Observed:
    """The machine with bridges, ports and flows too, as an earlier version left it: unnoted."""
    changes = [change for change in plan(wanted, machine) if change.kind in _ROWS]
    return unnoted(memory.after(machine, changes))


def unnoted(machine: Observed) -> Observed:
    """The machine without what keeps the wanted overlay."""
    bridges = {
        name: replace(bridge, notes=tuple(
            (key, value) for key, value in bridge.notes
            if not key.startswith(("ovs-mcast-overlay", "ovs-mcast-segments-"))
        ))
        for name, bridge in machine.bridges.items()
    }  # fmt: skip
    return replace(machine, bridges=bridges)


_ROWS = {"bridge", "port", "flow"}


@pytest.mark.parametrize(("datapath", "family", "method"), KINDS)
def test_every_method_is_told_by_what_it_leaves(datapath: str, family: int, method: str) -> None:
    wanted = overlay(datapath, family, method, GROUPS[family][:3])
    machine = whole(wanted, settled(wanted, bare()))
    assert recover("default", machine) == wanted


@given(scenes(clean=True))
def test_asking_again_for_what_was_found_changes_nothing(scene: Scene) -> None:
    wanted, machine = scene
    machine = built(wanted, machine)
    assume(wanted.segments)
    assume(any(bridge.owner == wanted.name for bridge in machine.bridges.values()))
    event(wanted.membership)
    assert recover(wanted.name, machine) == wanted


@given(scenes(clean=True))
def test_so_without_notes_but_for_the_guard_and_inner_tags(scene: Scene) -> None:
    """An earlier version had neither."""
    wanted, machine = scene
    wanted = wanted.replace(guard=None, inner_vlan=None)
    machine = unnoted(built(wanted, machine))
    assume(wanted.segments)
    assume(any(bridge.owner == wanted.name for bridge in machine.bridges.values()))
    found = recover(wanted.name, machine)
    event(wanted.membership)
    assert found.segments == wanted.segments
    changes = [change for change in plan(found, machine) if change.kind != "bridge"]
    assert changes == [change for change in plan(wanted, machine) if change.kind != "bridge"]


@pytest.mark.parametrize("name", ["s1", "br-int"])
def test_a_bridge_for_workloads_that_was_deleted_is_named(name: str) -> None:
    """An operator's bridge took our patch port with it."""
    wanted = overlay("system", 4, "socket", GROUPS[4][:1]).replace(bridge=name)
    machine = replace(bare(), bridges={name: Bridge(name, "system")})
    machine = built(wanted, settled(wanted, machine))
    left = {key: port for key, port in machine.ports.items() if port.bridge != name}
    bridges = {key: bridge for key, bridge in machine.bridges.items() if key != name}
    assert recover("default", replace(machine, bridges=bridges, ports=left)).bridge == name


@pytest.mark.parametrize(("metric", "protocol"), [(None, None), (ownership.metric("default"), 4)])
def test_somebody_elses_addresses_leave_none_of_ours(
    metric: int | None, protocol: int | None
) -> None:
    """Groups that the device has joined already are autojoin's without an address, or a keeper."""
    wanted = overlay("system", 4, "autojoin", GROUPS[4][:2])
    theirs = [
        Address("eth0", group, 32, True, metric, protocol=protocol) for group in GROUPS[4][:2]
    ]
    seen = bare()
    machine = whole(wanted, settled(wanted, replace(seen, addresses=(*seen.addresses, *theirs))))
    assert recover("default", machine) == wanted


def test_a_flow_that_is_missing_is_missed() -> None:
    """Either of the two flows that name the group is enough to recover the segment."""
    wanted = overlay("system", 4, "socket", GROUPS[4][:2])
    machine = whole(wanted, settled(wanted, bare()))
    for flow in machine.flows:
        without = replace(machine, flows=tuple(one for one in machine.flows if one != flow))
        changes = list(plan(recover("default", without), without))
        assert changes[1:] == [Change("add", flow, "missing")], flow


def test_the_name_alone_tells_nothing() -> None:
    with pytest.raises(ConfigurationError, match="tunnel bridge is missing"):
        recover("default", bare())


def test_two_segments_of_one_vlan_contradict_each_other() -> None:
    """As after a run that was killed between two of its bundles."""
    one = overlay("system", 4, "socket", GROUPS[4][:1])
    two = one.replace(segments=[Segment(vni=9, vlan=1, group="239.0.0.9")])
    machine = whole(one, settled(one, bare()))
    both = replace(machine, flows=machine.flows + whole(two, machine).flows)
    with pytest.raises(ConfigurationError, match="VLAN 1"):
        recover("default", both)
