"""Scenes: an overlay that is wanted, and a machine that has a past of earlier runs and others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from hypothesis import strategies as st

from ovs_mcast.core import ownership, pipeline_tables
from ovs_mcast.core.items import Address, Bridge, Flow, GroupMembership, Item, Options, Port, Route
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Limits, Observed
from ovs_mcast.core.plan import plan
from ovs_mcast.errors import ConfigurationError

from . import memory
from .strategies import (
    DEVICES,
    RIVAL,
    built,
    foreign_machines,
    learned_flow,
    overlays,
    with_possible,
)


class Scene(NamedTuple):
    """An overlay that is wanted, on a machine as it is."""

    overlay: Overlay
    machine: Observed


@st.composite
def alterations(draw: st.DrawFn, item: Item, machine: Observed) -> Item:
    """Return the item with the same key and mark, and one other difference."""
    if isinstance(item, Bridge):
        # The fail_mode of the bridge for workloads is the operator's.
        other: Options = (("ovs-mcast-evidence", "of another program"),)
        return replace(item, fail_mode="") if item.fail_mode else replace(item, notes=other)
    if isinstance(item, Address):
        return replace(item, autojoin=not item.autojoin)
    if isinstance(item, Route):
        return replace(item, source=DEVICES["eth0"][0] if item.source is None else None)
    if isinstance(item, GroupMembership):
        return replace(item, groups=(*item.groups[1:], "239.88.0.1"))
    nth = draw(_nth)
    if isinstance(item, Flow):
        actions = f"{item.actions},output:9"
        return replace(item, actions=actions) if nth % 2 else replace(item, cookie=item.cookie ^ 1)
    assert isinstance(item, Port)
    bridges = sorted(set(machine.bridges) - {item.bridge})
    choices = [
        replace(item, options=tuple(sorted((*item.options, ("in_key", "7"))))),
        replace(item, options=()),
        replace(item, ofport_request=77),
        replace(item, type="internal"),
        replace(item, vlans=("5",)),
        replace(item, bridge=bridges[nth % len(bridges)]),
    ]
    return choices[nth % len(choices)]


def _leftovers(name: str, machine: Observed) -> list[Item]:
    """Things that bear our mark and that no overlay wants any more."""
    metric = ownership.metric(name)
    group = "239.77.0.1"
    return [
        *(Address(device, group, 32, True, metric) for device in DEVICES),
        Route("eth0", group, None, metric, protocol=ownership.PROTOCOL),
        *(Port(bridge, f"old-{bridge}", "patch", owner=name) for bridge in sorted(machine.bridges)),
        Bridge("br-old", "system", "secure", name),
        *(
            Flow(bridge, table, 5, "dl_vlan=7", "drop", ownership.cookie(name, vlan=7, vni=7))
            for bridge in _owned(name, machine)
            for table in (0, pipeline_tables.FLOOD)
        ),
    ]


def _guests(name: str, machine: Observed) -> list[Item]:
    """Return ports and flows of others on bridges of ours, and learned flows."""
    return [
        item
        for bridge in _owned(name, machine)
        for item in (
            Port(bridge, f"vm-{bridge}", "internal"),
            Flow(bridge, 0, 7, "in_port=7", "drop", 0),
            learned_flow(bridge, 7, 7, name),
        )
    ]


def _owned(name: str, machine: Observed) -> list[str]:
    return sorted(bridge.name for bridge in machine.bridges.values() if bridge.owner == name)


_nth = st.integers(0, 255)
_past = st.tuples(_nth, st.lists(st.tuples(st.booleans(), _nth), max_size=2))
_few = st.lists(_nth, max_size=2, unique=True)


@st.composite
def pasts(draw: st.DrawFn, name: str, machine: Observed) -> Observed:
    """What earlier runs for the overlay, complete or killed, and passers-by made of a machine."""
    for earlier in draw(_earlier(name)):
        try:
            changes = plan(earlier, machine).changes
        except ConfigurationError:
            continue
        stop, mischief = draw(_past)
        machine = memory.after(machine, changes[: stop % 64 if stop >= 128 else None])
        for lose, nth in mischief:
            mine = sorted(memory.ours(machine, name), key=repr)
            if mine:
                item = mine[nth % len(mine)]
                with suppress(memory.RefusedError):
                    machine = (
                        memory.without(machine, item)
                        if lose
                        else memory.having(machine, draw(alterations(item, machine)))
                    )
    for kinds in (_leftovers, _guests):
        for nth in draw(_few):
            choices = kinds(name, machine)
            if choices:
                machine = with_possible(machine, [choices[nth % len(choices)]])
    return machine


@cache
def _earlier(name: str) -> st.SearchStrategy[list[Overlay]]:
    return st.lists(overlays((name,)), max_size=2)


_rivals = st.none() | overlays((RIVAL,), 4800)


@st.composite
def scenes(draw: st.DrawFn, *, clean: bool = False) -> Scene:
    """An overlay and a machine; ``clean`` where nothing on it is the overlay's yet."""
    overlay = draw(overlays())
    machine = draw(foreign_machines(overlay))
    rival = draw(_rivals)
    if rival is not None:
        machine = built(rival, machine)
    if not clean:
        machine = draw(pasts(overlay.name, machine))
    held = sum(address.autojoin for address in machine.addresses)
    limit, down = draw(_limits)
    if down:
        machine = memory.gone_down(machine, overlay.underlay.device)
    igmp = None if limit is None else max(1, held + limit)  # 0 is no group for sockets either
    return Scene(overlay, replace(machine, limits=Limits(igmp, 131072)))


_limits = st.tuples(st.none() | st.integers(0, 6), st.integers(0, 7).map(lambda nth: nth == 7))
