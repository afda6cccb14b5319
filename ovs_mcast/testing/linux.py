"""A network namespace in memory: links, addresses, routes to groups, memberships. No I/O, no clock.

As strict as the kernel is where a Host looks: errors are OSError with the kernel's errno, and what
an address, a link or duplicate address detection does of itself to the routes happens here too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from os import strerror

from netaddr import IPAddress

from ..core.items import Address, Key, Route
from ..core.observed import FibRoute, Limits, Link, RoutePath

DETECTION = 2.0  # seconds of duplicate address detection, the random delay before it included
_KERNEL = 2  # RTPROT_KERNEL


def refused(code: int) -> OSError:
    """The kernel's answer to a request that it does not carry out."""
    return OSError(code, strerror(code))


class Linux:
    """One network namespace; ``sockets`` are what processes joined, by whoever holds them."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {"lo": Link("lo", 65536, "00:00:00:00:00:00", True)}
        loopback = (Address("lo", "127.0.0.1", 8), Address("lo", "::1", 128))
        self.addresses: dict[Key, Address] = {item.key: item for item in loopback}
        self._routes: dict[tuple[str, str], list[Route]] = {}  # by table and destination
        self.limits = Limits()
        self.routing = 0  # counts what the kernel tells those who listen for links and routes
        self.sockets: dict[object, set[tuple[int, str]]] = {}
        self._numbers = count(1)
        self.indexes: dict[str, int] = {"lo": next(self._numbers)}
        # What the one socket of autojoin holds, for IPv4 and for IPv6: (index of a device, group).
        self._autojoined: set[tuple[int, str]] = set()
        self._slots = 0  # how many of those are of IPv4
        self._with_ipv6: set[str] = set()
        self._detecting: dict[tuple[str, ...], float] = {}  # key of an address to seconds left

    @property
    def routes(self) -> tuple[Route, ...]:
        """The host routes to groups of tables main and local."""
        return tuple(route for there in self._routes.values() for route in there)

    # Links

    def add_link(self, link: Link) -> None:
        """A new device; another index than one that had its name before."""
        if link.name in self.links:
            raise refused(errno.EEXIST)
        self.links[link.name] = link
        self.routing += 1
        self.indexes[link.name] = next(self._numbers)

    def remove_link(self, name: str) -> None:
        """The device, its addresses and routes; autojoin does not let go of what it holds there."""
        self._known(name)
        del self.links[name]
        self.routing += 1
        index = self.indexes.pop(name)
        self._with_ipv6.discard(name)
        self._drop_addresses(lambda item: item.device == name)
        self._drop_routes(lambda route: route.device == name)
        for held in self.sockets.values():
            held -= {member for member in held if member[0] == index}

    def set_link(self, name: str, *, up: bool) -> None:
        """`ip link set NAME up` or `down`.

        Down takes the routes, but for the local ones of IPv4, and the IPv6 addresses, whose groups
        autojoin does not let go of. Up makes the routes of the addresses that are left.
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
        self._drop_routes(
            lambda route: (
                route.device == name and not (route.by_address and family(route.destination) == 4)
            )
        )

    # Addresses

    def add_address(self, item: Address, *, detect: bool = False) -> None:
        """`ip address add`; ``detect`` leaves an IPv6 address tentative until time has passed."""
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
        """`ip address del`: the routes of the address go, and those whose source it is."""
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
        for route in _own(there):
            with suppress(OSError):
                self.remove_route(route)
        self._without_source(there.local or there.address)

    def elapse(self, seconds: float) -> None:
        """Time passes: duplicate address detection ends, and local routes come late (FACTS 4)."""
        self._detecting = {key: left - seconds for key, left in self._detecting.items()}
        for key in [key for key, left in self._detecting.items() if left <= 0]:
            del self._detecting[key]
            item = self.addresses[key] = replace(self.addresses[key], tentative=False)
            self.make_own_routes(item)

    # Routes

    def add_route(self, route: Route) -> None:
        """`ip route add`: neither device nor source nor protocol tells two of them apart."""
        if not self._known(route.device).up:
            raise refused(errno.ENETDOWN)
        if route.source is not None and not self._has(route.source):
            raise refused(errno.EINVAL)
        beside = self._routes.setdefault((route.table, route.destination), [])
        if any(there.metric == route.metric for there in beside):
            raise refused(errno.EEXIST)
        beside.append(route)
        self.routing += 1

    def remove_route(self, route: Route) -> None:
        """`ip route del`: the first that fits what is named."""
        self._known(route.device)
        beside = self._routes.get((route.table, route.destination), [])
        fitting = (one for one in beside if _fits(one, route))
        there = min(fitting, key=lambda one: one.metric or 0, default=None)
        if there is None:
            raise refused(errno.ESRCH)
        beside.remove(there)
        self.routing += 1

    def way(self, group: str, source: str | None = None) -> Route | RoutePath:
        """What takes a packet to the group: a route, or where IPv4 or ff00::/8 lead without one."""
        if source is not None and not self._has(source):
            return RoutePath(None)
        if source is not None and family(group) == 4:
            # The device of an explicit source is taken, up or down, whatever the routes say.
            return RoutePath(
                next(a.device for a in self.addresses.values() if _source(a) == source)
            )
        for table in ("local", "main"):
            fitting = self._routes.get((table, group))
            if fitting:
                return min(fitting, key=lambda route: route.metric or 0)
        if family(group) == 6:
            up = (name for name, link in self.links.items() if link.up and name in self._with_ipv6)
            return RoutePath(next(up, None))
        return RoutePath(None)

    def look_up(
        self, groups: Iterable[IPAddress], source: IPAddress | None
    ) -> dict[str, RoutePath]:
        """`ip route get GROUP [from SOURCE]`, for each."""
        return {
            str(g): self._path(self.way(str(g), str(source) if source else None)) for g in groups
        }

    def taken(self, group: str) -> FibRoute | None:
        """`ip route get fibmatch GROUP`."""
        way = self.way(group)
        if isinstance(way, Route):
            bits = 32 if family(group) == 4 else 128
            return FibRoute(group, bits, way.device, way.table, local=way.by_address)
        return FibRoute("ff00::", 8, way.device, "local") if way.device else None

    # Memberships

    def joined(self, device: str) -> frozenset[str]:
        """The groups of the device in /proc/net/igmp and igmp6."""
        index = self.indexes.get(device)
        members = self._autojoined.union(*self.sockets.values())
        return frozenset(group for one, group in members if one == index)

    def join(self, holder: object, device: str, groups: Iterable[str]) -> None:
        """Sockets of ``holder`` join groups; as many sockets as that takes."""
        self._known(device)
        groups = list(groups)
        if self.limits.igmp_max_memberships == 0 and any(family(group) == 4 for group in groups):
            raise refused(errno.ENOBUFS)
        index = self.indexes[device]
        self.sockets.setdefault(holder, set()).update((index, group) for group in groups)

    def leave(self, holder: object) -> None:
        """The holder's sockets are closed."""
        self.sockets.pop(holder, None)

    # Inside

    def _known(self, name: str) -> Link:
        if name not in self.links:
            raise refused(errno.ENODEV)
        return self.links[name]

    def _autojoin(self, item: Address) -> None:
        """One socket of the namespace joins: ENOBUFS beyond igmp_max_memberships of IPv4."""
        member = (self.indexes[item.device], item.address)
        if member in self._autojoined:
            raise refused(errno.EADDRINUSE)
        limit = self.limits.igmp_max_memberships
        if family(item.address) == 4:
            if limit is not None and self._slots >= limit:
                raise refused(errno.ENOBUFS)
            self._slots += 1
        self._autojoined.add(member)

    def make_own_routes(self, item: Address) -> None:
        """The routes that an address of the machine makes for itself, where they are not there."""
        self.routing += not IPAddress(item.address).is_multicast()
        for route in _own(item):
            beside = self._routes.setdefault((route.table, route.destination), [])
            # fib_add_ifaddr() appends its routes whatever others are there.
            if (route.table == "local" or self.links[item.device].up) and route not in beside:
                beside.append(route)
                self.routing += 1

    def _drop_addresses(self, gone: Callable[[Address], bool]) -> None:
        for key in [key for key, item in self.addresses.items() if gone(item)]:
            del self.addresses[key]
            self._detecting.pop(key, None)

    def _drop_routes(self, gone: Callable[[Route], bool]) -> None:
        for beside in self._routes.values():
            beside[:] = [route for route in beside if not gone(route)]

    def _without_source(self, source: str) -> None:
        """fib_sync_down_addr(): IPv4 routes go with their source, IPv6 ones lose it."""
        if self._has(source) or IPAddress(source).is_multicast():
            return
        self.routing += 1
        if family(source) == 4:
            self._drop_routes(lambda route: route.source == source)
        for beside in self._routes.values():
            beside[:] = [replace(r, source=None) if r.source == source else r for r in beside]

    def _has(self, source: str) -> bool:
        return any(_source(item) == source for item in self.addresses.values())

    def _path(self, way: Route | RoutePath) -> RoutePath:
        if isinstance(way, RoutePath):
            return way
        return RoutePath("lo" if way.by_address else way.device, way.source)


def _own(item: Address) -> list[Route]:
    """The routes to groups that an address makes for itself."""
    if item.local is not None:
        return [Route(item.device, item.address, item.local, item.metric, protocol=_KERNEL)]
    if not IPAddress(item.address).is_multicast():
        return []
    source = item.address if family(item.address) == 4 else None
    return [Route(item.device, item.address, source, None, "local", _KERNEL)]


def _source(item: Address) -> str:
    return item.local or item.address


def _fits(there: Route, named: Route) -> bool:
    """What a request to delete matches: metric and protocol only where named.

    IPv4 looks at the type and the source too, IPv6 (ip6_route_del) does not.
    """
    if (there.table, there.destination, there.device) != (
        named.table,
        named.destination,
        named.device,
    ):
        return False
    if family(named.destination) == 4 and (
        there.by_address != named.by_address or named.source not in {None, there.source}
    ):
        return False
    return named.metric in {None, there.metric} and named.protocol in {None, there.protocol}


def family(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4
