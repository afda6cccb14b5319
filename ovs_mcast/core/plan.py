"""plan(overlay, observed) -> Plan: the ordered changes that make a host as desired.

A plan is the difference between the desired items and those of ours:

| desired | ours, as observed | change |
|---|---|---|
| item | missing | add |
| item | same key, other value | update |
| item | equal | none |
| – | item | remove; a bridge that holds others' ports is kept, unmarked |
| – or item | not marked as ours | none, ever |

Laws of a plan, tested for every overlay and every host:

1. A plan made after a plan was applied is empty.
2. With any one item taken away, the plan is exactly its repair.
3. Items without our mark never appear in a plan (ownership.py).
4. Make before break, removal in reverse; an address goes before its device. Addresses come in one
   run before all flows, since Open vSwitch revalidates its flows after each address.
5. A plan can be interrupted after any change; the next plan converges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from . import (
    guard,
    methods,
    overlay_notes,
    ownership,
    pipeline,
    pipeline_tables,
    tunnel_port,
    udp_port,
)
from .changes import Change, Neighbour, Plan
from .errors import ConfigurationError, UnavailableError
from .groups import ethernet_of
from .items import Address, Bridge, Flow, Item, Key, Options, Port, Route
from .model import Overlay
from .observed import Observed
from .preflight import check
from .target import Target, decides, tunnel_bridge_of

DIVERTED = "it takes what programs send to lo"  # why a local route is removed

# A bridge that snoops (mcast_snooping_enable) sends multicast and reports only to ports where it
# has heard a member or a router. Members on other hosts are behind this one.
_FLOOD: Options = (("mcast-snooping-flood", "true"), ("mcast-snooping-flood-reports", "true"))

# Sockets join before an address of the same group is changed, which ends its own membership.
_ORDER = ("bridge", "port", "membership", "address", "route", "flow")
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


def plan(overlay: Overlay, observed: Observed) -> Plan:
    """Return the changes that make the overlay on the observed host as desired.

    Empty when nothing differs. ConfigurationError for an overlay that this host cannot have without
    touching items of others: the device is missing, a port conflicts; UnavailableError where it has
    no address yet. Pure:
    ``observed`` comes from Host.observe, or from a test.

    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"))
    >>> try:
    ...     om.plan(overlay, om.Observed())
    ... except om.ConfigurationError as error:
    ...     print(error.field)
    underlay.device
    """
    return plan_for(check(overlay, observed))


def plan_for(target: Target) -> Plan:
    """Return the changes for a target; preflight has passed."""
    items = {item.key: item for item in desired(target)}
    changes = list(_difference(target.overlay.name, items, target.observed))
    changing = [
        change.item
        for change in changes
        if isinstance(change.item, Address) and change.action != "remove"
    ]
    changes += [
        Change("remove", route, DIVERTED) for route in methods.local_routes(target, changing)
    ]
    return Plan(target.overlay.name, ordered(changes), neighbours(target, changes))


def plan_removal(name: str, observed: Observed) -> Plan:
    """Return the removal of one overlay; bridges that hold others' ports are kept, unmarked."""
    return Plan(name, ordered(_difference(name, {}, observed)))


def expected_flows(overlay: Overlay, observed: Observed) -> tuple[Flow, ...]:
    """Return the flows of a host that is as desired; empty where preflight refuses the overlay."""
    try:
        return tuple(desired_flows(check(overlay, observed)))
    except (ConfigurationError, UnavailableError):
        return ()


def neighbours(target: Target, changes: Iterable[Change]) -> tuple[Neighbour, ...]:
    """Return the groups' Ethernet addresses, if flows that answer ARP for them are changed."""
    bridge = target.underlay_bridge
    if not target.userspace or not any(
        isinstance(change.item, Flow) and change.item.bridge == bridge for change in changes
    ):
        return ()
    return tuple(
        Neighbour(bridge, str(group), ethernet_of(group)) for group in target.overlay.flood_groups
    )


def desired(target: Target) -> Iterator[Item]:
    """Yield the items that make up the overlay on this host."""
    yield from _bridges(target)
    yield from _ports(target)
    yield from methods.items(target)
    yield from desired_flows(target)


def desired_flows(target: Target) -> Iterator[Flow]:
    """Yield the flows alone: those of others' bridges first."""
    yield from guard.flows(target)
    if target.userspace:
        yield from pipeline.underlay_flows(target)
    yield from pipeline.tunnel_flows(target)


def _bridges(target: Target) -> Iterator[Bridge]:
    overlay, decision = target.overlay, target.observed.decision
    existing = target.observed.bridges.get(overlay.bridge)
    if existing is None or existing.owner == overlay.name:
        yield Bridge(overlay.bridge, overlay.datapath, _fail_mode(target, existing), overlay.name)
    notes = overlay_notes.notes(overlay)
    if overlay.membership == "auto" and decision is not None and decides(decision, overlay):
        notes += decision.to_notes()
    yield Bridge(
        overlay.tunnel_bridge, overlay.datapath, "secure", overlay.name, tuple(sorted(notes))
    )


def _fail_mode(target: Target, existing: Bridge | None) -> str:
    """Return the fail_mode of the bridge for workloads: the one that an operator set.

    A change of it makes ovs-vswitchd delete the flows of the bridge, an operator's too. A former
    tunnel bridge has our own fail_mode, secure, which is removed.
    """
    former = tunnel_bridge_of(target.overlay.name, target.observed)
    return existing.fail_mode if existing is not None and existing != former else ""


def _ports(target: Target) -> Iterator[Port]:
    overlay = target.overlay
    to_bridge, to_tunnel, vxlan = ownership.port_names(overlay.name)
    ports = (
        Port(
            overlay.tunnel_bridge, to_bridge, "patch", (("peer", to_tunnel),),
            ofport_request=pipeline_tables.PATCH, owner=overlay.name,
        ),
        Port(
            overlay.bridge, to_tunnel, "patch", (("peer", to_bridge),), snooping=_FLOOD,
            owner=overlay.name,
        ),
        Port(
            overlay.tunnel_bridge, vxlan, "vxlan",
            tuple(sorted(tunnel_port.options(target).items())),
            ofport_request=pipeline_tables.TUNNEL,
            configured=tuple(sorted(tunnel_port.configured(overlay))), owner=overlay.name,
        ),
    )  # fmt: skip
    for port in ports:
        if port.type == "patch" or not udp_port.kept_away(target):
            yield tunnel_port.with_operators(port, target)


def _ours(name: str, observed: Observed) -> dict[Key, Item]:
    seen: Iterable[Iterable[Item]] = (
        observed.bridges.values(), observed.ports.values(), observed.addresses,
        observed.routes, observed.flows, () if observed.held is None else (observed.held,),
    )  # fmt: skip
    return {item.key: item for items in seen for item in items if ownership.is_ours(item, name)}


def _difference(name: str, items: Mapping[Key, Item], observed: Observed) -> Iterator[Change]:
    ours = _ours(name, observed)
    for key, item in items.items():
        before = ours.get(key)
        if before is None:
            yield Change("add", item, "missing")
        elif before != item:
            yield Change("update", item, _differs(before, item), before)
    unwanted = [item for key, item in ours.items() if key not in items]
    removed = {item.name for item in unwanted if isinstance(item, Bridge)}
    for item in unwanted:
        if isinstance(item, Bridge):
            kept = _others_on(item.name, name, observed)
            if kept:
                removed.discard(item.name)
                names = ", ".join(port.name for port in kept)
                left = Bridge(item.name, item.datapath, item.fail_mode, _next_owner(kept))
                yield Change("update", left, f"kept, it holds {names}", item)
                continue
        if not (isinstance(item, Flow) and item.bridge in removed):
            yield Change("remove", item, "not wanted")


def _others_on(bridge: str, name: str, observed: Observed) -> list[Port]:
    ports = (port for port in observed.ports.values() if port.bridge == bridge)
    return sorted((port for port in ports if port.owner != name), key=lambda port: port.name)


def _next_owner(kept: Iterable[Port]) -> str | None:
    """Return the overlay that owns a bridge of ours next, if all ports left on it are overlays'."""
    owners = [port.owner for port in kept]
    return None if None in owners else min(owner for owner in owners if owner is not None)


def _differs(before: Item, after: Item) -> str:
    names = [
        part
        for name in after.__dataclass_fields__
        if after.__dataclass_fields__[name].compare
        for part in _differing(name, getattr(before, name), getattr(after, name))
    ]
    return f"{', '.join(names)} differ" + ("s" if len(names) == 1 else "")


def _differing(name: str, before: object, after: object) -> list[str]:
    """Return the name of a field if it differs, and of options each one that does."""
    if before == after:
        return []
    if name == "notes":
        former, desired_ = (cast(Options, noted) for noted in (before, after))
        return ["decision" if overlay_notes.same(former, desired_) else "desired overlay"]
    if name != "options":
        return [name]
    changed = set(cast(Options, before)) ^ set(cast(Options, after))
    return sorted({f"option {key}" for key, _ in changed})


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes make before break, then removal in reverse."""
    bridges: dict[str, int] = {}
    changes = list(changes)
    routes = any(change.kind == "route" and change.action != "remove" for change in changes)

    def place(change: Change) -> tuple[int, int, int]:
        rank = _RANK[change.kind]
        if isinstance(change.item, Flow):
            # One bundle per bridge, where removal comes first: it may be of the same match.
            nth = bridges.setdefault(change.item.bridge, len(bridges))
            return (rank, nth, change.action != "remove")
        if isinstance(change.item, Route) and change.item.by_address:
            return (_RANK["route"], 1, 0)  # a repair: right after the address that made it
        if isinstance(change.item, Address) and change.action == "remove" and change.item.local:
            # The kernel removes the peer form's route with it: make room for the route that comes.
            return (_RANK["address"], 1, 0) if routes else (2 * len(_RANK) - rank, 0, 0)
        # Release ownership of a bridge last, like a removal.
        goes = change.action == "remove" or _is_released(change)
        return (2 * len(_RANK) - rank if goes else rank, 0, 0)

    return tuple(sorted(changes, key=place))


def _is_released(change: Change) -> bool:
    before, after = change.before, change.item
    return isinstance(before, Bridge) and isinstance(after, Bridge) and before.owner != after.owner
