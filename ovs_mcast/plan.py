"""plan(overlay, observed) -> Plan: ordered changes. No I/O, no clock, no logging.

A plan is the difference between the items that are wanted and those that are ours. The order is
make before break: bridges, ports, addresses, routes, flows; then removal in reverse. Addresses come
in one run before all flows, since Open vSwitch looks at its flows anew after each address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from netaddr import IPAddress

from . import flows, marks
from .checks import refuse
from .errors import ConfigurationError
from .groups import ethernet_of
from .model import Overlay
from .state import Address, Bridge, Change, Flow, Item, Key, Neighbour, Observed, Plan, Port, Route

_RANK = {kind: rank for rank, kind in enumerate(("bridge", "port", "address", "route", "flow"))}


def plan(overlay: Overlay, observed: Observed) -> Plan:
    """What must change on the machine that was observed so that the overlay is as wanted.

    Empty when nothing differs. ConfigurationError for an overlay that this machine cannot have
    without touching what is not ours: the device or address is missing, a port is in the way.
    """
    vtep = refuse(overlay, observed)
    desired = {item.key: item for item in wanted(overlay, observed, vtep)}
    changes = _ordered(_difference(overlay.name, desired, observed))
    return Plan(overlay.name, changes, _neighbours(overlay, changes))


def plan_removal(name: str, observed: Observed) -> Plan:
    """Everything of one overlay, removed; bridges that hold others' ports are kept, unmarked."""
    return Plan(name, _ordered(_difference(name, {}, observed)))


def expected_flows(overlay: Overlay, observed: Observed) -> tuple[Flow, ...]:
    """The flows that this machine would show if all were as wanted; none if it cannot be."""
    try:
        return tuple(wanted_flows(overlay, observed, refuse(overlay, observed)))
    except ConfigurationError:
        return ()


def _neighbours(overlay: Overlay, changes: Iterable[Change]) -> tuple[Neighbour, ...]:
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
    yield from _memberships(overlay, observed, vtep)
    yield from wanted_flows(overlay, observed, vtep)


def wanted_flows(overlay: Overlay, observed: Observed, vtep: IPAddress) -> Iterator[Flow]:
    """The flows alone; with the userspace datapath those of the underlay's bridge come first."""
    if overlay.datapath == "netdev":
        yield from flows.underlay_flows(overlay, observed.links[overlay.underlay.device].mac)
    yield from flows.tunnel_flows(overlay, vtep)


def _bridges(overlay: Overlay, observed: Observed) -> Iterator[Bridge]:
    existing = observed.bridges.get(overlay.bridge)
    if existing is None or existing.owner == overlay.name:
        yield Bridge(overlay.bridge, overlay.datapath, owner=overlay.name)
    yield Bridge(overlay.tunnel_bridge, overlay.datapath, "secure", overlay.name)


def _ports(overlay: Overlay, vtep: IPAddress) -> Iterator[Port]:
    suffix = marks.suffix(overlay.name)
    to_bridge, to_tunnel = f"patch-int-{suffix}", f"patch-tun-{suffix}"
    yield Port(
        overlay.tunnel_bridge, to_bridge, "patch", (("peer", to_tunnel),),
        ofport_request=flows.PATCH, owner=overlay.name,
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
        ofport_request=flows.TUNNEL, owner=overlay.name,
    )  # fmt: skip


def _memberships(
    overlay: Overlay, observed: Observed, vtep: IPAddress
) -> Iterator[Address | Route]:
    device, metric = overlay.underlay.device, marks.metric(overlay.name)
    not_ours = {
        (address.device, address.address)
        for address in observed.addresses
        if not is_ours(address, overlay.name)
    }
    for group in map(str, overlay.flood_groups):
        if (device, group) not in not_ours:
            bits = 32 if vtep.version == 4 else 128
            yield Address(device, group, bits, True, metric, marks.PROTOCOL)
        if observed.links[device].up:  # the kernel takes a device's routes when it goes down
            yield Route(device, group, str(vtep), metric, marks.PROTOCOL)


def is_ours(item: Item, name: str) -> bool:
    """Whether an observed item bears the overlay's mark; only such items are ever changed."""
    if isinstance(item, Bridge | Port):
        return item.owner == name
    if isinstance(item, Flow):
        return marks.is_cookie(item.cookie, name) and not marks.is_learned(item.cookie)
    return item.metric == marks.metric(name) and item.protocol in {None, marks.PROTOCOL}


def _ours(name: str, observed: Observed) -> dict[Key, Item]:
    seen: Iterable[Iterable[Item]] = (
        observed.bridges.values(), observed.ports.values(), observed.addresses,
        observed.routes, observed.flows,
    )  # fmt: skip
    return {item.key: item for items in seen for item in items if is_ours(item, name)}


def _difference(name: str, desired: Mapping[Key, Item], observed: Observed) -> Iterator[Change]:
    ours = _ours(name, observed)
    stale = _patch_error(ours.values())
    for key, item in desired.items():
        before = ours.get(key)
        if before is None:
            yield Change("add", item, "missing")
        elif before != item:
            yield Change("update", item, _differs(before, item), before)
        elif stale and isinstance(item, Port) and item.type == "patch":
            yield Change("update", item, stale, before)
    unwanted = [item for key, item in ours.items() if key not in desired]
    gone = {item.name for item in unwanted if isinstance(item, Bridge)}
    for item in unwanted:
        if isinstance(item, Bridge):
            kept = _others_on(item.name, name, observed)
            if kept:
                gone.discard(item.name)
                freed = Bridge(item.name, item.datapath, item.fail_mode)
                yield Change("update", freed, f"kept, it holds {', '.join(kept)}", item)
                continue
        if not (isinstance(item, Flow) and item.bridge in gone):
            yield Change("remove", item, "not wanted")


def _patch_error(ours: Iterable[Item]) -> str:
    """What is said of a patch port of ours. Open vSwitch keeps it after the peer is back.

    Both ends made anew in one transaction are free of it.
    """
    errors = (item.error for item in ours if isinstance(item, Port) and item.type == "patch")
    return next((error for error in errors if error), "")


def _others_on(bridge: str, name: str, observed: Observed) -> list[str]:
    return sorted(
        port.name
        for port in observed.ports.values()
        if port.bridge == bridge and port.owner != name
    )


def _differs(before: Item, after: Item) -> str:
    names = [
        name
        for name in after.__dataclass_fields__
        if after.__dataclass_fields__[name].compare
        and getattr(before, name) != getattr(after, name)
    ]
    return f"{', '.join(names)} differ" + ("s" if len(names) == 1 else "")


def _ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    bridges: dict[str, int] = {}

    def place(change: Change) -> tuple[int, int, int]:
        rank = _RANK[change.kind]
        if isinstance(change.item, Flow):
            # One bundle per bridge, where removal comes first: it may be of the same match.
            nth = bridges.setdefault(change.item.bridge, len(bridges))
            return (rank, nth, change.action != "remove")
        return (2 * len(_RANK) - rank if change.action == "remove" else rank, 0, 0)

    return tuple(sorted(changes, key=place))


def batches(plan: Plan) -> list[tuple[str, tuple[Change, ...]]]:
    """The plan cut, in its order, into what goes out at once, each with where it goes.

    ``ovsdb`` is one transaction, ``netlink`` one batch, ``flow BRIDGE`` one bundle of that bridge.
    Their number does not depend on the number of segments.
    """
    return [(where, tuple(group)) for where, group in groupby(plan.changes, key=_destination)]


def _destination(change: Change) -> str:
    if isinstance(change.item, Flow):
        return f"flow {change.item.bridge}"
    return "ovsdb" if isinstance(change.item, Bridge | Port) else "netlink"
