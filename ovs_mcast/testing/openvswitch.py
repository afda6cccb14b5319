"""One Open vSwitch in memory: rows of OVSDB, ovs-vswitchd that follows them, flows. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from netaddr import IPAddress, IPNetwork

from ..core.changes import Change, Neighbour
from ..core.items import Bridge, Flow, Key, Port
from ..core.observed import Link, RoutePath
from ..core.ownership import LEARNED
from .linux import Linux


class OpenVSwitch:
    """The rows, and the ovs-vswitchd that follows them."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        self.bridges: dict[str, Bridge] = {}
        self.ports: dict[str, Port] = {}
        self.flows: dict[Key, Flow] = {}
        self.neighbours: dict[tuple[str, str], str] = {}
        self._notified = -1
        self._routes: dict[str, RoutePath] = {}
        self._followed: dict[str, str] = {}  # bridge to the datapath that it has been made on

    # OVSDB

    def commit(self, changes: Sequence[Change]) -> None:
        """Commit one transaction, all or nothing; ovs-vswitchd follows.

        KeyError, and no change, if the bridge of a port is missing.
        """
        bridges, ports = dict(self.bridges), dict(self.ports)
        for change in changes:
            item = change.item
            if isinstance(item, Bridge):
                if change.action == "remove":
                    bridges.pop(item.name, None)
                else:
                    old = bridges.get(item.name)
                    bridges[item.name] = replace(item, protocols=old.protocols if old else ())
            elif isinstance(item, Port):
                if change.action == "remove":
                    ports.pop(item.name, None)
                else:
                    if item.bridge not in bridges:
                        raise KeyError(item.bridge)
                    old_port = ports.get(item.name)
                    kept = old_port is not None and old_port.bridge == item.bridge
                    ofport = old_port.ofport if old_port is not None and kept else None
                    options = tuple(sorted(item.options))
                    ports[item.name] = replace(item, options=options, ofport=ofport)
        self.bridges = bridges
        self.ports = {name: port for name, port in ports.items() if port.bridge in bridges}
        self.follow()

    def follow(self) -> None:
        """Follow the rows as ovs-vswitchd does: devices, OpenFlow ports, errors."""
        for name in [name for name in self._followed if name not in self.bridges]:
            self._unmake(name)
            if name in self.linux.links:
                self.linux.remove_link(name)
        for name, bridge in self.bridges.items():
            if self._followed.get(name, bridge.datapath) != bridge.datapath:
                self._unmake(name)
            self._followed[name] = bridge.datapath
            if name not in self.linux.links:
                self.linux.add_link(Link(name, 1500, _mac_of(name), False, "openvswitch"))
        taken: set[tuple[str, int]] = set()
        for name, port in sorted(
            self.ports.items(), key=lambda item: item[1].ofport_request is None
        ):
            self.ports[name] = self._opened(port, taken)
        self.ports = {name: self._judged(port) for name, port in self.ports.items()}

    def restart(self) -> None:
        """Restart ovs-vswitchd as after kill -9: flows and neighbours are lost, rows stay."""
        self._notified = -1
        self.flows.clear()
        self.neighbours.clear()
        self.ports = {name: replace(port, ofport=None) for name, port in self.ports.items()}
        self.follow()

    # OpenFlow

    def dump(
        self, bridge: str, cookie: int, mask: int, match: str = "", *, counted: bool = False
    ) -> Iterator[str]:
        """Yield the flows whose cookie matches as `ovs-ofctl dump-flows` prints them.

        Without ``counted`` as with --no-stats.
        """
        within = set(filter(None, match.split(",")))
        matching = [
            flow
            for flow in self._flows_of(bridge)
            if flow.cookie & mask == cookie & mask and within <= set(flow.match.split(","))
        ]
        for flow in sorted(matching, key=lambda flow: (flow.table, -flow.priority)):
            match = f",{flow.match}" if flow.match else ""
            table = f"table={flow.table}, " if flow.table else ""
            if counted:
                table = f"duration=0.000s, table={flow.table}, n_packets=0, n_bytes=0, "
            yield (
                f" cookie={flow.cookie:#x}, {table}priority={flow.priority}{match}"
                f" actions={flow.actions}"
            )

    def bundle(self, bridge: str, changes: Sequence[Change]) -> None:
        """Apply one bundle; the removal of a missing flow is no error."""
        for change in changes:
            flow = change.item
            assert isinstance(flow, Flow)
            if change.action == "remove":
                there = self.flows.get(flow.key)
                if there is not None and there.cookie == flow.cookie:
                    self.forget([there])
            else:
                self.flows[flow.key] = replace(flow, bridge=bridge)

    def forget(self, flows: Iterable[Flow]) -> None:
        """Delete flows and, where an action is `delete_learned`, the flows that they learned."""
        for flow in list(flows):
            self.flows.pop(flow.key, None)
            if "delete_learned" in flow.actions:
                learned = flow.cookie | LEARNED
                for key in [k for k, one in self.flows.items() if one.cookie == learned]:
                    del self.flows[key]

    # ovs-appctl

    def routes(self) -> dict[str, RoutePath]:
        """Return the host routes to groups of `ovs/route/show`.

        Open vSwitch takes those that an address of their device covers, and reads them again after
        a notification about a link or a route, not about an address.
        """
        if self._notified != self.linux.routing:
            self._notified, self._routes = self.linux.routing, self._learned_routes()
        return self._routes

    def _learned_routes(self) -> dict[str, RoutePath]:
        host, networks = set(), []
        for item in self.linux.addresses.values():
            if item.prefixlen in {32, 128}:
                host.add((item.device, item.address))
            else:
                networks.append((item.device, IPNetwork(f"{item.address}/{item.prefixlen}")))
        return {
            route.destination: RoutePath(route.device, route.destination)
            for route in self.linux.routes
            if (route.device, route.destination) in host
            or any(d == route.device and route.destination in n for d, n in networks)
        }

    def route(self, destination: str) -> RoutePath:
        """Return the path of `ovs/route/lookup`."""
        if not IPAddress(destination).is_multicast():
            return self.linux.unicast_path(destination)
        return self.routes().get(destination, RoutePath(None))

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Set Ethernet addresses, as `tnl/neigh/set` does."""
        for one in neighbours:
            self.neighbours[one.bridge, one.group] = one.mac

    # Inside

    def _flows_of(self, bridge: str) -> Iterator[Flow]:
        return (flow for flow in self.flows.values() if flow.bridge == bridge)

    def _unmake(self, bridge: str) -> None:
        for key in [flow.key for flow in self._flows_of(bridge)]:
            del self.flows[key]
        self._followed.pop(bridge, None)
        for name, port in self.ports.items():
            if port.bridge == bridge:
                self.ports[name] = replace(port, ofport=None)

    def _opened(self, port: Port, taken: set[tuple[str, int]]) -> Port:
        """Return the port with its OpenFlow port: as requested if free, its own, or the next."""
        error = self._refusal(port)
        if error:
            return replace(port, ofport=-1, error=error)
        wishes = (port.ofport_request, port.ofport)
        free = (n for n in wishes if n and n > 0 and (port.bridge, n) not in taken)
        used = {number for bridge, number in taken if bridge == port.bridge}
        number = next(free, None) or next(n for n in range(1, 65280) if n not in used)
        taken.add((port.bridge, number))
        return replace(port, ofport=number, error=None)

    def _refusal(self, port: Port) -> str | None:
        """Return why a port is not opened (ofport -1), while its row stays."""
        if port.type in {"", "system"} and port.name not in self.linux.links:
            return f"could not open network device {port.name} (No such device)"
        if port.type != "vxlan":
            return None
        remote = port.option("remote_ip")
        if remote and remote != "flow" and IPAddress(remote).is_multicast():
            return f"{port.name}: multicast remote_ip={remote} not allowed"
        rivals = [
            other.name
            for other in self.ports.values()
            if other.name != port.name
            and _receives(other) == _receives(port)
            and (other.ofport or 0) > 0
        ]
        if rivals:
            return f"could not add network device {port.name} to ofproto (File exists)"
        return None

    def _judged(self, port: Port) -> Port:
        """Return the port, with an error if it is a patch port without a usable peer."""
        if port.type != "patch":
            return port
        peer = self.ports.get(port.option("peer"))
        same = peer is not None and self._followed[peer.bridge] == self._followed[port.bridge]
        if peer is not None and same and peer.option("peer") == port.name:
            return port
        datapath = self._followed[port.bridge]
        wanted = port.option("peer")
        return replace(port, error=f"No usable peer '{wanted}' exists in '{datapath}' datapath.")


def _receives(port: Port) -> Mapping[str, str] | None:
    """Return what must differ between VXLAN ports of one Open vSwitch; None for other ports."""
    if port.type != "vxlan":
        return None
    names = ("remote_ip", "local_ip", "key", "in_key")
    return {"dst_port": port.option("dst_port") or "4789", **{n: port.option(n) for n in names}}


def _mac_of(name: str) -> str:
    return "02:" + ":".join(f"{octet:02x}" for octet in name.encode().ljust(5, b"\0")[-5:])
