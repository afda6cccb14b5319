"""A machine in memory that joins groups: what Linux does of itself with addresses and routes.

Pure. Only addresses, routes to groups and the memberships that a keeper holds; the rest of a plan
passes it by. It is as tolerant as the adapters: what is there already, or gone, is as wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ovs_mcast.core.changes import Change, Plan
from ovs_mcast.core.items import Address, Bridge, GroupMembership, Route
from ovs_mcast.core.observed import Limits, Link, Observed

DEVICES = {"system": "eth0", "netdev": "br-phy"}
VTEPS = {4: "10.0.0.1", 6: "fd00::1"}
_KERNEL = 2  # RTPROT_KERNEL
Joining = Address | Route | GroupMembership


class RefusedError(AssertionError):
    """The machine would answer a change with an error."""


def bare(*, limit: int | None = 20) -> Observed:
    """The devices of both datapaths, with their own addresses."""
    return Observed(
        bridges={"br-phy": Bridge("br-phy", "netdev")},
        addresses=tuple(
            Address(device, address, 24 if family == 4 else 64)
            for device in DEVICES.values()
            for family, address in VTEPS.items()
        ),
        links={
            device: Link(device, 1600, "02:00:00:00:00:01", True) for device in DEVICES.values()
        },
        limits=Limits(limit),
    )


def joining(plan: Plan) -> list[Change]:
    """The changes of a plan that are about joining."""
    return [change for change in plan if isinstance(change.item, Joining)]


def joined(machine: Observed, device: str) -> set[str]:
    """The groups that the device is a member of."""
    held = machine.held
    by_sockets = set(held.groups) if held is not None and held.device == device else set()
    by_kernel = {a.address for a in machine.addresses if a.autojoin and a.device == device}
    return by_sockets | by_kernel


def hijacked(machine: Observed, group: str) -> bool:
    """Whether an ordinary datagram to the group goes to lo."""
    return any(route.by_address and route.destination == group for route in machine.routes)


def after(machine: Observed, changes: Iterable[Change]) -> Observed:
    """The machine once the changes are made, in their order; RefusedError past the slots."""
    for change in changes:
        if change.action == "remove":
            machine = _gone(machine, change.item)
            continue
        if change.before is not None and not isinstance(change.before, GroupMembership):
            machine = _gone(machine, change.before)
        machine = _come(machine, change.item)
    return machine


def link_cycled(machine: Observed, device: str) -> Observed:
    """After `ip link set down; ip link set up`: addresses have their own routes back, no others."""
    kept = tuple(route for route in machine.routes if route.device != device)
    own = [route for item in machine.addresses if item.device == device for route in _own(item)]
    return replace(machine, routes=(*kept, *own))


def without(machine: Observed, item: object) -> Observed:
    """The machine after somebody took an item away."""
    return after(machine, [Change("remove", item, "lost")])  # type: ignore[arg-type]


def whole(machine: Observed) -> object:
    """The machine as one comparable value."""
    return (frozenset(machine.addresses), frozenset(machine.routes), machine.held)


def _own(item: Address) -> list[Route]:
    """The routes that an address makes for itself."""
    if item.local is not None:
        return [Route(item.device, item.address, item.local, item.metric, protocol=_KERNEL)]
    if not item.address.startswith(("2", "ff")):
        return []  # routes to unicast addresses are not looked at
    source = None if ":" in item.address else item.address
    return [Route(item.device, item.address, source, None, "local", _KERNEL)]


def _come(machine: Observed, item: object) -> Observed:
    if isinstance(item, GroupMembership):
        return replace(machine, held=item)
    if isinstance(item, Address):
        if any(there.key == item.key for there in machine.addresses):
            return machine
        if ":" in item.address and not item.autojoin:  # ipv6_add_addr()
            raise RefusedError(f"{item.target}: Cannot assign requested address")
        addresses = (*machine.addresses, item)
        slots = [a for a in addresses if a.autojoin and ":" not in a.address]
        limit = machine.limits.igmp_max_memberships
        if item.autojoin and limit is not None and len(slots) > limit:
            raise RefusedError(f"{item.target}: No buffer space available")
        # fib_add_ifaddr() appends its routes whatever is there.
        return replace(machine, addresses=addresses, routes=(*machine.routes, *_own(item)))
    if isinstance(item, Route):
        # NLM_F_EXCL looks at neither device nor source nor protocol.
        if any(_place(there) == _place(item) for there in machine.routes):
            return machine
        return replace(machine, routes=(*machine.routes, item))
    return machine


def _gone(machine: Observed, item: object) -> Observed:
    if isinstance(item, GroupMembership):
        return replace(machine, held=None)
    if isinstance(item, Address):
        addresses = tuple(there for there in machine.addresses if there.key != item.key)
        own = {(_place(route), route.device) for route in _own(item)}
        routes = tuple(
            route
            for route in machine.routes
            if route.protocol != _KERNEL or (_place(route), route.device) not in own
        )
        return replace(machine, addresses=addresses, routes=routes)
    if isinstance(item, Route):
        return replace(machine, routes=tuple(r for r in machine.routes if not _is(r, item)))
    return machine


def _is(there: Route, item: Route) -> bool:
    """What a request to delete a route matches: protocol only where it is named."""
    named = item.protocol in {None, there.protocol}
    return (_place(there), there.device) == (_place(item), item.device) and named


def _place(route: Route) -> tuple[str, str, int | None]:
    return route.table, route.destination, route.metric
