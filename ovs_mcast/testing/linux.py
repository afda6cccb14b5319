"""A network namespace in memory: links, addresses, routes to groups, memberships. No I/O, no clock.

As strict as the kernel where a Host reaches it: errors are OSError with the kernel's errno. Side
effects of addresses, links and duplicate address detection on routes happen here too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count

from netaddr import IPAddress, IPNetwork

from ..core.items import Address, Key, Route
from ..core.observed import ArpSettings, FibRoute, Limits, Link, RoutePath
from .host_routes import HostRoutes, family, own_routes, refused

DETECTION = 2.0  # seconds of duplicate address detection, the random delay before it included


class Linux:
    """One network namespace; ``sockets`` are the memberships of processes, by holder."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {"lo": Link("lo", 65536, "00:00:00:00:00:00", True)}
        loopback = (Address("lo", "127.0.0.1", 8), Address("lo", "::1", 128))
        self.addresses: dict[Key, Address] = {item.key: item for item in loopback}
        self.limits = Limits()
        self.arp: dict[str, ArpSettings] = {}
        self.routing = 0  # number of notifications about links and routes so far
        self.sockets: dict[object, set[tuple[int, str]]] = {}
        self.host_routes = HostRoutes()
        self._numbers = count(1)
        self.indexes: dict[str, int] = {"lo": next(self._numbers)}
        # Memberships of the one socket of autojoin, IPv4 and IPv6: (index of a device, group).
        self._autojoined: set[tuple[int, str]] = set()
        self._slots = 0  # the IPv4 ones among them
        self._with_ipv6: set[str] = set()
        self._detecting: dict[tuple[str, ...], float] = {}  # key of an address to seconds left

    @property
    def routes(self) -> tuple[Route, ...]:
        """The host routes to groups in tables main and local."""
        return tuple(self.host_routes)

    def arp_settings(self, device: str) -> ArpSettings:
        """Return the sysctls of a device; Linux's defaults unless ``arp`` has others."""
        return self.arp.get(device, ArpSettings(arp_ignore=0, rp_filter=0))

    # Links

    def add_link(self, link: Link) -> None:
        """Add a device, under an index that no device had before."""
        if link.name in self.links:
            raise refused(errno.EEXIST)
        self.links[link.name] = link
        self.routing += 1
        self.indexes[link.name] = next(self._numbers)

    def set_carrier(self, link: Link) -> None:
        """Give a device the carrier and the active link of another state of itself."""
        self._known(link.name)
        self.links[link.name] = link

    def remove_link(self, name: str) -> None:
        """Remove a device, its addresses and routes; autojoin keeps its memberships there."""
        self._known(name)
        del self.links[name]
        self.routing += 1
        index = self.indexes.pop(name)
        self._with_ipv6.discard(name)
        self._drop_addresses(lambda item: item.device == name)
        self.host_routes.drop(lambda route: route.device == name)
        for held in self.sockets.values():
            held -= {member for member in held if member[0] == index}

    def set_link(self, name: str, *, up: bool) -> None:
        """Set a device up or down, as `ip link set` does.

        Down removes the routes, except the local ones of IPv4, and the IPv6 addresses, whose
        groups autojoin keeps. Up makes the routes of the addresses that are left.
        """
        link = self._known(name)
        if link.up == up:
            return
        self.links[name] = replace(link, up=up)
        self.routing += 1
        if up:
            for item in [one for one in self.addresses.values() if one.device == name]:
                self.make_own_routes(item)
            return
        self._drop_addresses(lambda item: item.device == name and family(item.address) == 6)
        self.host_routes.drop(
            lambda route: (
                route.device == name and not (route.by_address and family(route.destination) == 4)
            )
        )

    # Addresses

    def add_address(self, item: Address, *, detect: bool = False) -> None:
        """Add an address; ``detect`` leaves an IPv6 address tentative until time has passed."""
        link = self._known(item.device)
        if item.key in self.addresses:
            raise refused(errno.EEXIST)
        if item.autojoin:
            self._autojoin(item)
        elif family(item.address) == 6 and IPAddress(item.address).is_multicast():
            raise refused(errno.EADDRNOTAVAIL)
        tentative = detect and link.up and family(item.address) == 6
        item = replace(item, tentative=tentative)
        self.addresses[item.key] = item
        if family(item.address) == 6:
            self._with_ipv6.add(item.device)
        if tentative:
            self._detecting[item.key] = DETECTION
        else:
            self.make_own_routes(item)

    def remove_address(self, item: Address) -> None:
        """Remove an address with the routes that it made, or that have it as their source."""
        self._known(item.device)
        there = self.addresses.get(item.key)
        if there is None or there.local != item.local:
            raise refused(errno.EADDRNOTAVAIL)
        del self.addresses[item.key]
        self._detecting.pop(item.key, None)
        member = (self.indexes[there.device], there.address)
        if there.autojoin and member in self._autojoined:
            self._autojoined.remove(member)
            self._slots -= family(there.address) == 4
        shared = {(one.device, one.address) for one in self.addresses.values()}
        for route in own_routes(there):
            # fib_del_ifaddr(): a local route stays with the last address that it belongs to.
            if not route.by_address or (route.device, route.destination) not in shared:
                with suppress(OSError):
                    self.remove_route(route)
        self._lose_source(there.local or there.address)

    def elapse(self, seconds: float) -> None:
        """Let time pass: duplicate address detection ends, and then local routes are made."""
        self._detecting = {key: left - seconds for key, left in self._detecting.items()}
        for key in [key for key, left in self._detecting.items() if left <= 0]:
            del self._detecting[key]
            item = self.addresses[key] = replace(self.addresses[key], tentative=False)
            self.make_own_routes(item)

    def make_own_routes(self, item: Address) -> None:
        """Make the routes of an address that are missing."""
        self.routing += not IPAddress(item.address).is_multicast()
        for route in own_routes(item):
            if route.table == "local" or self.links[item.device].up:
                self.routing += self.host_routes.append(route)

    # Routes

    def add_route(self, route: Route) -> None:
        """Add a route: ENETDOWN, EINVAL without its source, EEXIST."""
        if not self._known(route.device).up:
            raise refused(errno.ENETDOWN)
        if route.source is not None and not self._has(route.source):
            raise refused(errno.EINVAL)
        self.host_routes.add(route)
        self.routing += 1

    def remove_route(self, route: Route) -> None:
        """Remove the first route that matches: ESRCH where none does."""
        self._known(route.device)
        self.host_routes.remove(route)
        self.routing += 1

    def route_to(self, group: str) -> Route | None:
        """Return the host route by which an ordinary program sends to the group."""
        return self.host_routes.best(group)

    def send_path(self, group: str, source: str | None = None) -> RoutePath:
        """Return what `ip route get GROUP [from SOURCE]` shows."""
        if source is not None and not self._has(source):
            return RoutePath(None)
        if source is not None and family(group) == 4:
            # The device of an explicit source is taken, up or down, whatever the routes say.
            return RoutePath(
                next(a.device for a in self.addresses.values() if _unicast(a) == source)
            )
        route = self.route_to(group)
        if route is not None:
            return RoutePath("lo" if route.by_address else route.device, route.source)
        return RoutePath(self._default(group))

    def unicast_path(self, destination: str) -> RoutePath:
        """Return the path to one's own address, by lo, or to one of the same subnet; else none."""
        if any(_unicast(item) == destination for item in self.addresses.values()):
            return RoutePath("lo")
        for item in self.addresses.values():
            if destination in IPNetwork(f"{_unicast(item)}/{item.prefixlen}"):
                return RoutePath(item.device)
        return RoutePath(None)

    def look_up(
        self, destinations: Iterable[IPAddress], source: IPAddress | None
    ) -> dict[str, RoutePath]:
        """Return the send path to each address."""
        explicit = str(source) if source else None
        return {
            str(one): self.send_path(str(one), explicit)
            if one.is_multicast()
            else self.unicast_path(str(one))
            for one in destinations
        }

    def fib_match(self, group: str) -> FibRoute | None:
        """Return what `ip route get fibmatch GROUP` shows."""
        route = self.route_to(group)
        if route is not None:
            bits = 32 if family(group) == 4 else 128
            return FibRoute(group, bits, route.device, route.table, local=route.by_address)
        device = self._default(group)
        return FibRoute("ff00::", 8, device, "local") if device else None

    # Memberships

    def joined(self, device: str) -> frozenset[str]:
        """Return the groups of the device in /proc/net/igmp and igmp6."""
        index = self.indexes.get(device)
        members = self._autojoined.union(*self.sockets.values())
        return frozenset(group for one, group in members if one == index)

    def join(self, holder: object, device: str, groups: Iterable[str]) -> None:
        """Join groups with sockets of ``holder``, as many sockets as that takes."""
        self._known(device)
        groups = list(groups)
        if self.limits.igmp_max_memberships == 0 and any(family(group) == 4 for group in groups):
            raise refused(errno.ENOBUFS)
        index = self.indexes[device]
        self.sockets.setdefault(holder, set()).update((index, group) for group in groups)

    def leave(self, holder: object) -> None:
        """Close the sockets of ``holder``."""
        self.sockets.pop(holder, None)

    # Inside

    def _known(self, name: str) -> Link:
        if name not in self.links:
            raise refused(errno.ENODEV)
        return self.links[name]

    def _autojoin(self, item: Address) -> None:
        """Join by the namespace's one socket: ENOBUFS beyond igmp_max_memberships of IPv4."""
        member = (self.indexes[item.device], item.address)
        if member in self._autojoined:
            raise refused(errno.EADDRINUSE)
        limit = self.limits.igmp_max_memberships
        if family(item.address) == 4:
            if limit is not None and self._slots >= limit:
                raise refused(errno.ENOBUFS)
            self._slots += 1
        self._autojoined.add(member)

    def _drop_addresses(self, gone: Callable[[Address], bool]) -> None:
        for key in [key for key, item in self.addresses.items() if gone(item)]:
            del self.addresses[key]
            self._detecting.pop(key, None)

    def _lose_source(self, source: str) -> None:
        if not (self._has(source) or IPAddress(source).is_multicast()):
            self.routing += 1
            self.host_routes.lose_source(source)

    def _has(self, source: str) -> bool:
        return any(_unicast(item) == source for item in self.addresses.values())

    def _default(self, group: str) -> str | None:
        """Return the device of ff00::/8, which every device with IPv6 has; IPv4 has no default."""
        if family(group) == 4:
            return None
        up = (name for name, link in self.links.items() if link.up and name in self._with_ipv6)
        return next(up, None)


def _unicast(item: Address) -> str:
    return item.local or item.address
