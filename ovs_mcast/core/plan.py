"""plan(overlay, observed) -> Plan: ordered changes. No I/O, no clock, no logging.

A plan is the difference between the items that are wanted and those that are ours. The order is
make before break: bridges, ports, addresses, routes, flows; then removal in reverse. Addresses come
in one run before all flows, since Open vSwitch looks at its flows anew after each address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from netaddr import IPAddress

from ..errors import ConfigurationError
from . import methods, ownership, pipeline, target
from .changes import Change, Neighbour, Plan
from .groups import ethernet_of
from .items import Address, Bridge, Flow, GroupMembership, Item, Key, Options, Port, Route
from .model import Overlay
from .observed import Observed
from .preflight import refuse

# Sockets join before an address of the same group is changed, which lets go of it for a moment.
_ORDER = ("bridge", "port", "membership", "address", "route", "flow")
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


def plan(overlay: Overlay, observed: Observed) -> Plan:
    """What must change on the machine that was observed so that the overlay is as wanted.

    Empty when nothing differs. ConfigurationError for an overlay that this machine cannot have
    without touching what is not ours: the device or address is missing, a port is in the way.
    Pure: ``observed`` is what Host.observe has seen, or what a test makes up.

    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"))
    >>> try:
    ...     om.plan(overlay, om.Observed())
    ... except om.ConfigurationError as error:
    ...     print(error.field)
    underlay.device
    """
    vtep = refuse(overlay, observed)
    desired = {item.key: item for item in wanted(overlay, observed, vtep)}
    changes = list(_difference(overlay.name, desired, observed))
    changing = [
        change.item
        for change in changes
        if isinstance(change.item, Address) and change.action != "remove"
    ]
    for route in methods.local_routes(overlay, observed, changing):
        changes.append(Change("remove", route, "it takes what programs send to lo"))
    return Plan(overlay.name, ordered(changes), neighbours(overlay, changes))


def plan_removal(name: str, observed: Observed) -> Plan:
    """Everything of one overlay, removed; bridges that hold others' ports are kept, unmarked."""
    return Plan(name, ordered(_difference(name, {}, observed)))


def expected_flows(overlay: Overlay, observed: Observed) -> tuple[Flow, ...]:
    """The flows that this machine would show if all were as wanted; none if it cannot be."""
    try:
        return tuple(wanted_flows(overlay, observed, refuse(overlay, observed)))
    except ConfigurationError:
        return ()


def neighbours(overlay: Overlay, changes: Iterable[Change]) -> tuple[Neighbour, ...]:
    """Groups whose ARP is about to be answered: told beforehand, no first frame waits for it."""
    bridge = overlay.underlay.device
    if overlay.datapath != "netdev" or not any(
        isinstance(change.item, Flow) and change.item.bridge == bridge for change in changes
    ):
        return ()
    return tuple(
        Neighbour(bridge, str(group), ethernet_of(group)) for group in overlay.flood_groups
    )


def wanted(overlay: Overlay, observed: Observed, vtep: IPAddress) -> Iterator[Item]:
    """The items that make up the overlay on this machine."""
    yield from _bridges(overlay, observed)
    yield from _ports(overlay, vtep)
    yield from methods.items(overlay, observed, vtep)
    yield from wanted_flows(overlay, observed, vtep)


def wanted_flows(overlay: Overlay, observed: Observed, vtep: IPAddress) -> Iterator[Flow]:
    """The flows alone; with the userspace datapath those of the underlay's bridge come first."""
    if overlay.datapath == "netdev":
        mac = observed.links[overlay.underlay.device].mac
        yield from pipeline.underlay_flows(overlay, mac, vtep)
    yield from pipeline.tunnel_flows(overlay, vtep)


def _bridges(overlay: Overlay, observed: Observed) -> Iterator[Bridge]:
    existing = observed.bridges.get(overlay.bridge)
    if existing is None or existing.owner == overlay.name:
        yield Bridge(overlay.bridge, overlay.datapath, owner=overlay.name)
    notes: Options = ()
    if overlay.membership == "auto" and target.decided(overlay, observed) and observed.decision:
        notes = observed.decision.to_notes()
    yield Bridge(overlay.tunnel_bridge, overlay.datapath, "secure", overlay.name, notes)


def _ports(overlay: Overlay, vtep: IPAddress) -> Iterator[Port]:
    suffix = ownership.suffix(overlay.name)
    to_bridge, to_tunnel = f"patch-int-{suffix}", f"patch-tun-{suffix}"
    yield Port(
        overlay.tunnel_bridge, to_bridge, "patch", (("peer", to_tunnel),),
        ofport_request=pipeline.PATCH, owner=overlay.name,
    )  # fmt: skip
    yield Port(overlay.bridge, to_tunnel, "patch", (("peer", to_bridge),), owner=overlay.name)
    options = {
        "remote_ip": "flow", "local_ip": "flow", "key": "flow",
        "dst_port": str(overlay.underlay.udp_port), "ttl": str(overlay.underlay.ttl),
    }  # fmt: skip
    if vtep.version == 6:
        # A Linux vxlan device drops IPv6 packets without a UDP checksum (noudp6zerocsumrx).
        options["csum"] = "true"
    yield Port(
        overlay.tunnel_bridge, f"vxlan-{suffix}", "vxlan", tuple(sorted(options.items())),
        ofport_request=pipeline.TUNNEL, owner=overlay.name,
    )  # fmt: skip


def _ours(name: str, observed: Observed) -> dict[Key, Item]:
    seen: Iterable[Iterable[Item]] = (
        observed.bridges.values(), observed.ports.values(), observed.addresses,
        observed.routes, observed.flows, () if observed.held is None else (observed.held,),
    )  # fmt: skip
    return {item.key: item for items in seen for item in items if ownership.is_ours(item, name)}


def _difference(name: str, desired: Mapping[Key, Item], observed: Observed) -> Iterator[Change]:
    ours = _ours(name, observed)
    for key, item in desired.items():
        before = ours.get(key)
        if before is None:
            yield Change("add", item, "missing")
        elif before != item:
            yield Change("update", item, _differs(before, item), before)
    unwanted = [item for key, item in ours.items() if key not in desired]
    gone = {item.name for item in unwanted if isinstance(item, Bridge)}
    for item in unwanted:
        if isinstance(item, Bridge):
            kept = _others_on(item.name, name, observed)
            if kept:
                gone.discard(item.name)
                names = ", ".join(port.name for port in kept)
                left = Bridge(item.name, item.datapath, item.fail_mode, _heir(kept))
                yield Change("update", left, f"kept, it holds {names}", item)
                continue
        if not (isinstance(item, Flow) and item.bridge in gone):
            yield Change("remove", item, "not wanted")


def _others_on(bridge: str, name: str, observed: Observed) -> list[Port]:
    ports = (port for port in observed.ports.values() if port.bridge == bridge)
    return sorted((port for port in ports if port.owner != name), key=lambda port: port.name)


def _heir(kept: Iterable[Port]) -> str | None:
    """Who has a bridge of ours next: another overlay, if all that it holds is of others of ours."""
    owners = [port.owner for port in kept]
    return None if None in owners else min(owner for owner in owners if owner is not None)


def _differs(before: Item, after: Item) -> str:
    names = [
        name
        for name in after.__dataclass_fields__
        if after.__dataclass_fields__[name].compare
        and getattr(before, name) != getattr(after, name)
    ]
    return f"{', '.join(names)} differ" + ("s" if len(names) == 1 else "")


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes make before break, then removal in reverse."""
    bridges: dict[str, int] = {}
    changes = list(changes)
    routes = any(change.kind == "route" and change.action == "add" for change in changes)

    def place(change: Change) -> tuple[int, int, int]:
        rank = _RANK[change.kind]
        if isinstance(change.item, Flow):
            # One bundle per bridge, where removal comes first: it may be of the same match.
            nth = bridges.setdefault(change.item.bridge, len(bridges))
            return (rank, nth, change.action != "remove")
        if isinstance(change.item, Route) and change.item.by_address:
            return (_RANK["route"], 1, 0)  # a repair: right after the address that made it
        if isinstance(change.item, Address) and change.action == "remove" and change.item.local:
            # The peer form takes its route along, which has the place of the one that comes.
            return (_RANK["address"], 1, 0) if routes else (2 * len(_RANK) - rank, 0, 0)
        # A bridge that is let go of is let go of last, as one that is removed.
        goes = change.action == "remove" or _is_let_go(change)
        return (2 * len(_RANK) - rank if goes else rank, 0, 0)

    return tuple(sorted(changes, key=place))


def _is_let_go(change: Change) -> bool:
    before, after = change.before, change.item
    return isinstance(before, Bridge) and isinstance(after, Bridge) and before.owner != after.owner


def batches(plan: Plan) -> list[tuple[str, tuple[Change, ...]]]:
    """The plan cut, in its order, into what goes out at once, each with where it goes.

    ``ovsdb`` is one transaction, ``netlink`` one batch, ``keeper`` one process replaced, ``flow
    BRIDGE`` one bundle of that bridge.
    Their number does not depend on the number of segments.
    """
    return [(where, tuple(group)) for where, group in groupby(plan.changes, key=_destination)]


def _destination(change: Change) -> str:
    if isinstance(change.item, Flow):
        return f"flow {change.item.bridge}"
    if isinstance(change.item, GroupMembership):
        return "keeper"
    return "ovsdb" if isinstance(change.item, Bridge | Port) else "netlink"
