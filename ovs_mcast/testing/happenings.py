"""External events by name: what operators and crashes do to a host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from ..core import ownership
from ..core.changes import Change
from ..core.items import Address, Flow, Route
from ..core.pipeline_tables import FLOOD
from .linux import Linux
from .openvswitch import OpenVSwitch
from .system import FakeSystem

Happening = Literal[
    "link-down",
    "link-up",
    "link-flap",
    "underlay-replaced",
    "address-deleted",
    "route-deleted",
    "local-route-back",
    "vtep-deleted",
    "vtep-back",
    "vswitchd-restarts",
    "flows-deleted",
    "flow-deleted",
    "flow-changed",
    "port-deleted",
    "patch-deleted",
    "bridge-deleted",
    "keeper-killed",
]
_Marked = TypeVar("_Marked", Address, Route)


class Underlay:
    """The underlay device of a machine, and the addresses that it had at first."""

    def __init__(self, system: FakeSystem, device: str, own: tuple[Address, ...]) -> None:
        self.system, self.device, self.own = system, device, own
        self.linux: Linux = system.linux
        self.switch: OpenVSwitch = system.switch

    def readdress(self) -> None:
        """Add the missing own addresses, as the operator does."""
        for item in self.own:
            with suppress(FileExistsError):
                self.linux.add_address(item)

    def groups(self, there: Iterable[_Marked]) -> list[_Marked]:
        """Return addresses or routes of ours, in the order of their groups."""
        mine = (item for item in there if ownership.is_metric(item.metric))
        return sorted(mine, key=lambda item: item.target)

    def tunnel_bridges(self) -> list[str]:
        """Return the bridges that are wholly ours."""
        return [name for name, b in self.switch.bridges.items() if b.owner and b.fail_mode]

    def flows(self) -> list[Flow]:
        """Return the flows on them."""
        there = self.tunnel_bridges()
        return [flow for flow in self.switch.flows.values() if flow.bridge in there]

    def floods(self) -> list[Flow]:
        """Return the flows that send to groups, in the order of their VLANs."""
        return sorted((f for f in self.flows() if f.table == FLOOD), key=lambda f: f.cookie)


def _link_down(on: Underlay) -> None:
    """`ip link set DEVICE down`: its routes go, and its IPv6 addresses."""
    on.linux.set_link(on.device, up=False)


def _link_up(on: Underlay) -> None:
    """`ip link set DEVICE up`: local routes are back; the own IPv6 addresses are put back too."""
    on.linux.set_link(on.device, up=True)
    on.readdress()


def _link_flap(on: Underlay) -> None:
    """Down and up."""
    _link_down(on)
    _link_up(on)


def _underlay_replaced(on: Underlay) -> None:
    """The underlay device is removed and made again, with its own addresses."""
    link = on.linux.links[on.device]
    bridge = on.switch.bridges.get(on.device)
    if bridge is None:
        on.linux.remove_link(on.device)
    else:
        ports = [port for port in on.switch.ports.values() if port.bridge == on.device]
        on.switch.commit([Change("remove", bridge, "lost")])
        on.switch.commit([Change("add", bridge, "back")])
        on.switch.commit([Change("add", port, "back") for port in ports])
        on.linux.remove_link(on.device)
    on.linux.add_link(replace(link, up=True))
    on.readdress()


def _address_deleted(on: Underlay) -> None:
    """`ip address del` of the first group that is an address of ours."""
    for item in on.groups(on.linux.addresses.values())[:1]:
        on.linux.remove_address(item)


def _route_deleted(on: Underlay) -> None:
    """`ip route del` of the first of our routes."""
    for route in on.groups(on.linux.routes)[:1]:
        on.linux.remove_route(route)


def _local_route_back(on: Underlay) -> None:
    """The local route of the first group that is an address of ours is there again."""
    for item in on.groups(on.linux.addresses.values())[:1]:
        on.linux.make_own_routes(item)


def _vtep_deleted(on: Underlay) -> None:
    """The own addresses are taken off the device, and with them go the routes that have them."""
    for item in on.own:
        with suppress(OSError):
            on.linux.remove_address(item)


def _vtep_back(on: Underlay) -> None:
    """The own addresses are put back."""
    on.readdress()


def _vswitchd_restarts(on: Underlay) -> None:
    """ovs-vswitchd is killed and started: flows and neighbours are lost."""
    on.switch.restart()


def _flows_deleted(on: Underlay) -> None:
    """`ovs-ofctl del-flows` on the tunnel bridge."""
    on.switch.forget(on.flows())


def _flow_deleted(on: Underlay) -> None:
    """The flood flow of the first segment is deleted."""
    on.switch.forget(on.floods()[:1])


def _flow_changed(on: Underlay) -> None:
    """The flood flow of the first segment drops."""
    for flow in on.floods()[:1]:
        on.switch.flows[flow.key] = replace(flow, actions="drop")


def _ports_deleted(on: Underlay, kind: str) -> None:
    there = on.tunnel_bridges()
    ports = [p for p in on.switch.ports.values() if p.bridge in there and p.type == kind]
    on.switch.commit([Change("remove", port, "lost") for port in ports])


def _port_deleted(on: Underlay) -> None:
    """`ovs-vsctl del-port` of the VXLAN port."""
    _ports_deleted(on, "vxlan")


def _patch_deleted(on: Underlay) -> None:
    """`ovs-vsctl del-port` of the tunnel bridge's patch port."""
    _ports_deleted(on, "patch")


def _bridge_deleted(on: Underlay) -> None:
    """`ovs-vsctl del-br` of the tunnel bridge."""
    bridges = [on.switch.bridges[name] for name in on.tunnel_bridges()]
    on.switch.commit([Change("remove", bridge, "lost") for bridge in bridges])


def _keeper_killed(on: Underlay) -> None:
    """The process that holds the sockets is killed; its groups are left."""
    for overlay in list(on.system.keepers):
        on.system.kill_keeper(overlay)


_ALL = (
    _link_down, _link_up, _link_flap, _underlay_replaced, _address_deleted, _route_deleted,
    _local_route_back, _vtep_deleted, _vtep_back, _vswitchd_restarts, _flows_deleted,
    _flow_deleted, _flow_changed, _port_deleted, _patch_deleted, _bridge_deleted, _keeper_killed,
)  # fmt: skip
_WHAT: Mapping[str, Callable[[Underlay], None]] = {
    what.__name__.strip("_").replace("_", "-"): what for what in _ALL
}
HAPPENINGS: Mapping[Happening, str] = MappingProxyType(
    {name: " ".join((_WHAT[name].__doc__ or "").split()) for name in get_args(Happening)}
)


def happen(name: Happening, on: Underlay) -> None:
    """Let an event happen; ValueError, which lists the names, for an unknown one."""
    if name not in HAPPENINGS:
        raise ValueError(f"{name!r} is no happening: there are {', '.join(HAPPENINGS)}")
    _WHAT[name](on)
