"""A machine in memory: what a plan does to it, as strict as Linux and Open vSwitch are.

Pure. Says on its own what is marked as ours, so that no test asks the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Bridge, Flow, GroupMembership, Item, Port, Route
from ovs_mcast.core.observed import Link, Lookups, Observed, RoutePath

_MARK = 0x6D
T = TypeVar("T", Flow, Address, Route)


class RefusedError(AssertionError):
    """The machine would answer a change with an error."""


def marked(item: Item, name: str) -> bool:
    """Whether the item bears the mark of the overlay; learned flows do not count."""
    if isinstance(item, Bridge | Port):
        return item.owner == name
    if isinstance(item, Flow):
        return item.cookie >> 36 == (_MARK << 19 | ownership.number(name)) << 1
    assert not isinstance(item, GroupMembership), "no sockets in this machine"
    # Kernels before 5.18 show no protocol of an address; every kernel shows that of a route.
    protocols = {109} if isinstance(item, Route) else {None, 109}
    return item.metric == (_MARK << 24 | ownership.number(name)) and item.protocol in protocols


def items(machine: Observed) -> list[Item]:
    """Everything that could be in a plan."""
    return [
        *machine.bridges.values(),
        *machine.ports.values(),
        *machine.addresses,
        *machine.routes,
        *machine.flows,
    ]


def ours(machine: Observed, name: str) -> set[Item]:
    """The items that are marked as the overlay's."""
    return {item for item in items(machine) if marked(item, name)}


def others(machine: Observed, name: str) -> set[Item]:
    """The items that are not."""
    return {item for item in items(machine) if not marked(item, name)}


def whole(machine: Observed) -> object:
    """The machine as one comparable value."""
    return (frozenset(items(machine)), frozenset(machine.links))


def visible(machine: Observed, name: str) -> Observed:
    """What Host.observe shows of the machine: flows of our marks, on bridges that can have them."""
    return replace(
        machine,
        flows=tuple(
            flow
            for flow in machine.flows
            if marked(flow, name)
            and (
                machine.bridges[flow.bridge].owner == name
                or machine.bridges[flow.bridge].datapath == "netdev"
            )
        ),
    )


def after(machine: Observed, changes: Iterable[Change], *, remake: bool = False) -> Observed:
    """The machine once the changes are made, in their order.

    With ``remake`` a bridge whose datapath changes loses its flows, as in ovs-vswitchd.
    RefusedError if a change does not fit what is there: its key is taken, its place missing.
    """
    state = _State(machine, remake)
    for change in changes:
        state.make(change)
    return state.seen()


def without(machine: Observed, *lost: Item) -> Observed:
    """The machine without these items: a bridge goes with its ports, flows and device."""
    return after(machine, [Change("remove", item, "lost") for item in lost])


def having(machine: Observed, *more: Item) -> Observed:
    """The machine with these items too, those of the same key replaced."""
    state = _State(machine, False)
    for item in more:
        state.put(item)
    return state.seen()


def gone_down(machine: Observed, device: str) -> Observed:
    """The machine after `ip link set down`: the kernel takes the device's routes, no addresses."""
    link = replace(machine.links[device], up=False)
    routes = tuple(route for route in machine.routes if route.device != device)
    return replace(machine, links={**machine.links, device: link}, routes=routes)


def looked_up(machine: Observed, device: str) -> Lookups:
    """Memberships and route look-ups as the machine's autojoin addresses leave them."""
    joined = [item for item in machine.addresses if item.autojoin and item.device == device]
    return Lookups(
        joined=frozenset(item.address for item in joined),
        sends={item.address: RoutePath("lo", item.address) for item in joined},
        tunnels={item.address: RoutePath(device) for item in joined},
    )


class _State:
    """A machine in the course of changing."""

    def __init__(self, machine: Observed, remake: bool) -> None:
        self._first, self._remake = machine, remake
        self._anew: set[str] = set()
        self._bridges, self._ports = dict(machine.bridges), dict(machine.ports)
        self._links = dict(machine.links)
        self._addresses = {item.key: item for item in machine.addresses}
        self._routes = {item.key: item for item in machine.routes}
        self._flows = {item.key: item for item in machine.flows}
        self._keyed: Mapping[type[Item], dict[tuple[str, ...], Item]] = {
            Address: self._addresses,  # type: ignore[dict-item]
            Route: self._routes,  # type: ignore[dict-item]
            Flow: self._flows,  # type: ignore[dict-item]
        }

    def seen(self) -> Observed:
        return replace(
            self._first,
            bridges=self._bridges,
            ports=self._ports,
            flows=tuple(self._flows.values()),
            addresses=tuple(self._addresses.values()),
            routes=tuple(self._routes.values()),
            links=self._links,
        )

    def make(self, change: Change) -> None:
        here = self._get(change.item)
        if isinstance(change.item, Flow) and change.item.bridge in self._anew:
            # To ovs-ofctl, removing what is gone is no error, and adding replaces.
            if change.action != "remove":
                self.put(change.item)
            return
        if change.action == "add":
            self._need(here is None, change, "File exists")
            self._free(change)
            self._has_room(change)
            self.put(change.item)
        elif change.action == "update":
            self._need(here is not None and here == change.before, change, "not what is there")
            self._has_room(change)
            self.put(change.item)
        else:
            self._need(here == change.item, change, "not there")
            self._drop(change.item)
        self._within_limits(change)

    @staticmethod
    def _need(holds: bool, change: Change, error: str) -> None:
        if not holds:
            raise RefusedError(f"{change}: {error}")

    def _get(self, item: Item) -> Item | None:
        if isinstance(item, Bridge):
            return self._bridges.get(item.name)
        if isinstance(item, Port):
            return self._ports.get(item.name)
        return self._keyed[type(item)].get(item.key)

    def _has_room(self, change: Change) -> None:
        item = change.item
        if isinstance(item, Port | Flow):
            self._need(item.bridge in self._bridges, change, "no such bridge")
        if isinstance(item, Address | Route):
            self._need(item.device in self._links, change, "no such device")
        if isinstance(item, Route):
            self._need(self._links[item.device].up, change, "Network is down")

    def _free(self, change: Change) -> None:
        item = change.item
        if isinstance(item, Bridge):
            free = item.name not in self._ports and item.name not in self._links
            self._need(free, change, "a port or device has its name")
        elif isinstance(item, Port):
            self._need(item.name not in self._bridges, change, "a bridge has its name")
        if isinstance(item, Route):
            # fib_table_insert() with NLM_F_EXCL looks at neither device nor source.
            rivals = [
                route
                for route in self._routes.values()
                if (route.table, route.destination, route.metric)
                == (item.table, item.destination, item.metric)
            ]
            self._need(not rivals, change, "RTNETLINK answers: File exists")

    def _within_limits(self, change: Change) -> None:
        limit = self._first.limits.igmp_max_memberships
        if isinstance(change.item, Address) and change.action != "remove" and limit is not None:
            held = [item for item in self._addresses.values() if item.autojoin]
            self._need(len(held) <= limit, change, "No buffer space available")

    def put(self, item: Item) -> None:
        if isinstance(item, Bridge):
            old = self._bridges.get(item.name)
            if self._remake and old is not None and old.datapath != item.datapath:
                self._forget(self._flows, lambda flow: flow.bridge == item.name)
                self._anew.add(item.name)
            self._bridges[item.name] = item
            self._links.setdefault(item.name, Link(item.name, 1500, "02:00:00:00:00:99", False))
        elif isinstance(item, Port):
            self._ports[item.name] = replace(item, ofport=self._ofport(item), error=None)
        else:
            self._keyed[type(item)][item.key] = item

    def _ofport(self, item: Port) -> int:
        if item.ofport_request is not None:
            return item.ofport_request
        taken = [port.ofport or 0 for port in self._ports.values() if port.bridge == item.bridge]
        return max(taken, default=0) + 100

    def _drop(self, item: Item) -> None:
        if isinstance(item, Bridge):
            del self._bridges[item.name]
            self._links.pop(item.name, None)
            for name in [port.name for port in self._ports.values() if port.bridge == item.name]:
                del self._ports[name]
            self._forget(self._flows, lambda flow: flow.bridge == item.name)
            self._forget(self._addresses, lambda address: address.device == item.name)
            self._forget(self._routes, lambda route: route.device == item.name)
        elif isinstance(item, Port):
            del self._ports[item.name]
        else:
            del self._keyed[type(item)][item.key]
        if isinstance(item, Flow) and "delete_learned" in item.actions:
            learned = item.cookie | 1 << 36
            self._forget(
                self._flows, lambda flow: flow.bridge == item.bridge and flow.cookie == learned
            )

    @staticmethod
    def _forget(among: dict[tuple[str, ...], T], gone: Callable[[T], bool]) -> None:
        for key in [key for key, item in among.items() if gone(item)]:
            del among[key]
