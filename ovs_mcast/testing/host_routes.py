"""Host routes to groups in memory: as strict as the kernel's tables main and local. No I/O."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from os import strerror

from netaddr import IPAddress

from ..core.items import Address, Route

_KERNEL = 2  # RTPROT_KERNEL


def refused(code: int) -> OSError:
    """Return the error with which the kernel refuses a request."""
    return OSError(code, strerror(code))


def family(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


def own_routes(item: Address) -> list[Route]:
    """Return the host routes to groups that the kernel makes for an address."""
    if item.local is not None:
        return [Route(item.device, item.address, item.local, item.metric, protocol=_KERNEL)]
    if not IPAddress(item.address).is_multicast():
        return []
    source = item.address if family(item.address) == 4 else None
    return [Route(item.device, item.address, source, None, "local", _KERNEL)]


class HostRoutes:
    """The routes of one namespace, in the order in which they were made."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], list[Route]] = {}  # by table and destination

    def __iter__(self) -> Iterator[Route]:
        return (route for rivals in self._routes.values() for route in rivals)

    def add(self, route: Route) -> None:
        """Add a route: EEXIST where table, destination and metric are taken.

        Device, source and protocol do not distinguish two routes (NLM_F_EXCL).
        """
        rivals = self._routes.setdefault((route.table, route.destination), [])
        if any(rival.metric == route.metric for rival in rivals):
            raise refused(errno.EEXIST)
        rivals.append(route)

    def append(self, route: Route) -> bool:
        """Add a route of an address whatever others exist; False if it exists itself.

        So does fib_add_ifaddr(): a route that differs in its protocol alone is another one.
        """
        rivals = self._routes.setdefault((route.table, route.destination), [])
        if any((rival, rival.protocol) == (route, route.protocol) for rival in rivals):
            return False
        rivals.append(route)
        return True

    def remove(self, named: Route) -> None:
        """Remove the first route that matches: ESRCH where none does."""
        rivals = self._routes.get((named.table, named.destination), [])
        matching = (route for route in rivals if _matches(route, named))
        first = min(matching, key=lambda route: route.metric or 0, default=None)
        if first is None:
            raise refused(errno.ESRCH)
        rivals[:] = [route for route in rivals if route is not first]

    def drop(self, gone: Callable[[Route], bool]) -> None:
        """Remove the routes for which ``gone`` is true."""
        for rivals in self._routes.values():
            rivals[:] = [route for route in rivals if not gone(route)]

    def lose_source(self, source: str) -> None:
        """Remove IPv4 routes with their source; IPv6 routes lose it (fib_sync_down_addr())."""
        if family(source) == 4:
            self.drop(lambda route: route.source == source)
        for rivals in self._routes.values():
            rivals[:] = [replace(r, source=None) if r.source == source else r for r in rivals]

    def best(self, group: str) -> Route | None:
        """Return the route to a group: table local before main, then the least metric."""
        for table in ("local", "main"):
            if rivals := self._routes.get((table, group)):
                return min(rivals, key=lambda route: route.metric or 0)
        return None


def _matches(route: Route, named: Route) -> bool:
    """Whether a request to delete ``named`` matches: metric and protocol count only if named.

    Type and source count too for IPv4, not for IPv6 (ip6_route_del()).
    """
    place = (route.table, route.destination, route.device)
    if place != (named.table, named.destination, named.device):
        return False
    if family(named.destination) == 4 and (
        route.by_address != named.by_address or named.source not in {None, route.source}
    ):
        return False
    return named.metric in {None, route.metric} and named.protocol in {None, route.protocol}
