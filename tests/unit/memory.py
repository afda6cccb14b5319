"""A machine in memory that obeys plans to the letter: Linux and Open vSwitch of ovs_mcast.testing.

A change must describe what is there, also where the adapters are tolerant. Marks of ownership are
judged by rules of their own, so that no test asks the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Bridge, Flow, GroupMembership, Item, Port, Route
from ovs_mcast.core.observed import Limits, Lookups, Observed
from ovs_mcast.testing.linux import Linux
from ovs_mcast.testing.openvswitch import OpenVSwitch

_MARK = 0x6D
_KERNEL = 2  # RTPROT_KERNEL
_KEEPER = "keeper"  # who holds the sockets


class RefusedError(AssertionError):
    """The machine would answer a change with an error."""


# What is whose


def marked(item: Item, name: str) -> bool:
    """Whether the item bears the mark of the overlay; learned flows do not count."""
    if isinstance(item, Bridge | Port):
        return item.owner == name
    if isinstance(item, Flow):
        return item.cookie >> 36 == (_MARK << 19 | ownership.number(name)) << 1
    if isinstance(item, GroupMembership):
        return True  # a machine has one keeper here
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
        *([machine.held] if machine.held else []),
    ]


def ours(machine: Observed, name: str) -> set[Item]:
    """The items that are marked as the overlay's."""
    return {item for item in items(machine) if marked(item, name)}


def others(machine: Observed, name: str) -> set[Item]:
    """The items that are not, nor made by the kernel for an address that is."""
    mine = ours(machine, name)
    addresses = {(item.device, item.address) for item in mine if isinstance(item, Address)}
    return {
        item
        for item in items(machine)
        if item not in mine
        and not (
            isinstance(item, Route)
            and item.protocol == _KERNEL
            and (item.device, item.destination) in addresses
        )
    }


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
                or machine.bridges[flow.bridge].openflow
            )
        ),
    )


# What happens to it


def after(machine: Observed, changes: Iterable[Change]) -> Observed:
    """The machine once the changes are made, in their order.

    RefusedError if a change does not fit what is there: its key is taken, its place missing.
    """
    state = _State(machine)
    for change in changes:
        state.make(change)
    return state.seen()


def without(machine: Observed, *lost: Item) -> Observed:
    """The machine without these items: a bridge goes with its ports, flows and device."""
    return after(machine, [Change("remove", item, "lost") for item in lost])


def having(machine: Observed, *more: Item) -> Observed:
    """The machine with these items too, those of the same key replaced; RefusedError as `after`."""
    state = _State(machine)
    for item in more:
        state.put(item)
    return state.seen()


def gone_down(machine: Observed, device: str) -> Observed:
    """The machine after `ip link set down`."""
    state = _State(machine)
    state.linux.set_link(device, up=False)
    return state.seen()


def loses_groups(machine: Observed, device: str) -> bool:
    """Whether the device loses groups for good when it goes down: those of IPv6 by autojoin.

    The kernel removes the address, keeps the membership, and refuses the address from then on.
    """
    return any(
        item.autojoin and item.device == device and ":" in item.address
        for item in machine.addresses
    )


def link_cycled(machine: Observed, device: str) -> Observed:
    """The machine after `ip link set down; ip link set up`, its own IPv6 addresses put back."""
    assert not loses_groups(machine, device)
    state = _State(machine)
    state.linux.set_link(device, up=False)
    state.linux.set_link(device, up=True)
    for item in machine.addresses:
        if item.device == device and ":" in item.address:
            state.linux.add_address(item)
    return state.seen()


# What is seen by looking it up


def joined(machine: Observed, device: str) -> frozenset[str]:
    """The groups that the device is a member of."""
    return _State(machine).linux.joined(device)


def looked_up(machine: Observed, device: str) -> Lookups:
    """Return memberships and route look-ups, those of tunnels as for the kernel's datapath."""
    linux = _State(machine).linux
    groups = sorted(linux.joined(device))
    vtep = next(item.address for item in machine.addresses if item.device == device)
    return Lookups(
        joined=frozenset(groups),
        sends={group: linux.send_path(group) for group in groups},
        tunnels={group: linux.send_path(group, vtep) for group in groups},
    )


def hijacked(machine: Observed, group: str) -> bool:
    """Whether an ordinary datagram to the group goes to lo."""
    return _State(machine).linux.send_path(group).device == "lo"


class _State:
    """A machine in the course of changing."""

    def __init__(self, machine: Observed) -> None:
        self._first, self._held = machine, machine.held
        self.linux = _linux(machine)
        self._switch = OpenVSwitch(self.linux)
        self._switch.bridges, self._switch.ports = dict(machine.bridges), dict(machine.ports)
        self._switch.flows = {flow.key: flow for flow in machine.flows}
        self._switch.follow()
        self._remade: set[str] = set()  # bridges whose datapath changed, and their flows with it

    def seen(self) -> Observed:
        return replace(
            self._first,
            bridges=self._switch.bridges,
            ports=self._switch.ports,
            flows=tuple(self._switch.flows.values()),
            addresses=tuple(self.linux.addresses.values()),
            routes=self.linux.routes,
            links=self.linux.links,
            held=self._held,
        )

    def make(self, change: Change) -> None:
        item, there = change.item, self._get(change.item)
        if isinstance(item, Flow) and item.bridge in self._remade:
            pass  # to ovs-ofctl, removing what is gone is no error, and adding replaces
        elif change.action == "add":
            self._need(there is None, change, "File exists")
        elif change.action == "update":
            self._need(there is not None and there == change.before, change, "not what is there")
        else:
            self._need(_describes(item, there), change, "not there")
        if isinstance(item, Flow):
            self._need(item.bridge in self._switch.bridges, change, "no such bridge")
        if isinstance(item, Bridge) and change.action == "add":
            free = item.name not in self._switch.ports and item.name not in self.linux.links
            self._need(free, change, "a port or device has its name")
        if isinstance(item, Port) and change.action == "add":
            self._need(item.name not in self._switch.bridges, change, "a bridge has its name")
        self._apply(change)

    def put(self, item: Item) -> None:
        there = self._get(item)
        self._apply(Change("update" if there else "add", item, "put there", there))

    def _get(self, item: Item) -> Item | None:
        if isinstance(item, Bridge):
            return self._switch.bridges.get(item.name)
        if isinstance(item, Port):
            return self._switch.ports.get(item.name)
        if isinstance(item, Flow):
            return self._switch.flows.get(item.key)
        if isinstance(item, Address):
            return self.linux.addresses.get(item.key)
        if isinstance(item, Route):
            return next((one for one in self.linux.routes if one.key == item.key), None)
        return self._held

    def _apply(self, change: Change) -> None:
        try:
            self._carry_out(change)
        except (OSError, KeyError) as error:
            raise RefusedError(f"{change}: {error}") from error

    def _carry_out(self, change: Change) -> None:
        item = change.item
        if isinstance(item, Bridge | Port):
            old = self._switch.bridges.get(item.name)
            self._switch.commit([change])
            if isinstance(item, Bridge) and old is not None and old.datapath != item.datapath:
                self._remade.add(item.name)
        elif isinstance(item, Flow):
            self._switch.bundle(item.bridge, [change])
        elif isinstance(item, GroupMembership):
            self._hold(None if change.action == "remove" else item)
        else:
            replaced = item if change.action == "remove" else change.before
            if isinstance(replaced, Address):
                self.linux.remove_address(replaced)
            elif isinstance(replaced, Route):
                self.linux.remove_route(replaced)
            if change.action == "remove":
                return
            if isinstance(item, Address):
                self.linux.add_address(item)
            else:
                self.linux.add_route(item)

    def _hold(self, membership: GroupMembership | None) -> None:
        self.linux.leave(_KEEPER)
        self._held = membership
        if membership is not None:
            self.linux.join(_KEEPER, membership.device, membership.groups)

    @staticmethod
    def _need(holds: bool, change: Change, error: str) -> None:
        if not holds:
            raise RefusedError(f"{change}: {error}")


def _describes(item: Item, there: Item | None) -> bool:
    """Whether the item to be removed exists; a kernel's local route may leave its source open."""
    if isinstance(item, Route) and isinstance(there, Route) and item.by_address:
        return replace(there, source=item.source) == item
    return there == item


def _linux(machine: Observed) -> Linux:
    """A Linux as the machine was observed, with exactly these routes."""
    linux = Linux()
    linux.remove_link("lo")
    linux.limits = Limits(None, None)
    for link in machine.links.values():
        linux.add_link(replace(link, up=True))
    for address in machine.addresses:
        linux.add_address(address)
        linux.addresses[address.key] = address
    linux.host_routes.drop(lambda _route: True)
    for route in machine.routes:
        linux.host_routes.append(route)
    if machine.held is not None:
        linux.join(_KEEPER, machine.held.device, machine.held.groups)
    linux.links.update(machine.links)
    linux.limits = machine.limits
    return linux
