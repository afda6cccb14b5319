"""Links, addresses, routes and route lookups of this network namespace.

Returns what the kernel answers, and sends changes in one batch. Decides nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from netaddr import IPAddress
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE

from ...core.changes import Change
from ...core.items import Address, Route
from ...core.observed import FibRoute, Link, RoutePath
from ...errors import UnavailableError
from ..polling import poll_until
from . import decode, encode
from .decode import (
    Answer,
    decode_address,
    decode_fib_match,
    decode_fib_route,
    decode_group_routes,
    decode_link,
    decode_path,
    device_name,
)

_RECEIVE_OCTETS = 64 << 20  # the answers of the largest batch, which the kernel queues at once
_LATE = 1.0  # seconds until the kernel has made the local route of an IPv6 address
_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV})


class RefusedError(Exception):
    """The kernel refused requests of a batch: ``errors`` are (position in the batch, errno)."""

    def __init__(self, errors: Sequence[tuple[int, int]]) -> None:
        super().__init__(os.strerror(errors[0][1]))
        self.errors = tuple(errors)


class Netlink:
    """One rtnetlink socket, in the network namespace of the thread that opens it. Not thread-safe.

    UnavailableError if no socket can be opened.
    """

    def __init__(self) -> None:
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise UnavailableError("too many open files: raise `ulimit -n`") from None
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_OCTETS)
        for option in (
            32,
            33,
        ):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE: past the sysctl, with CAP_NET_ADMIN
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_OCTETS)
            except PermissionError:
                continue
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> dict[str, Link]:
        """Return every device by name."""
        name = lru_cache(device_name)
        answers = self._exchange([encode.dump_request(RTM_GETLINK)])
        return {link.name: link for link in (decode_link(answer, name) for answer in answers)}

    def addresses(self) -> tuple[Address, ...]:
        """Return every address of every device, IPv4 and IPv6, in the kernel's order."""
        name = lru_cache(device_name)
        request = encode.dump_request(RTM_GETADDR)
        return tuple(decode_address(answer, name) for answer in self._exchange([request]))

    def group_routes(self) -> tuple[Route, ...]:
        """Return the host routes to groups in tables main and local, each with its one device."""
        name = lru_cache(device_name)
        request = encode.dump_request(RTM_GETROUTE)
        return tuple(
            route
            for answer in self._exchange([request])
            for route in decode_group_routes(answer, name)
        )

    def link(self, name: str) -> Link | None:
        """Return one device; None if it does not exist."""
        try:
            request = encode.link_request(socket.if_nametoindex(name))
        except OSError:
            return None
        found = self._exchange([request], tolerate=lambda _index, code: code in _GONE)
        return next((decode_link(answer, device_name) for answer in found), None)

    def group_route(self, group: IPAddress) -> Route | None:
        """Return the host route that a packet to the group takes; None if a wider route or none."""
        matched = map(decode_fib_match, self._fib_match(group))
        return next((route for route in matched if route is not None), None)

    def fib_route(self, group: IPAddress) -> FibRoute | None:
        """Return the route that an ordinary program's packet to the group takes.

        The same as `ip route get fibmatch GROUP`; None without a route, or if the route forbids it.
        """
        return next(map(decode_fib_route, self._fib_match(group)), None)

    def _fib_match(self, group: IPAddress) -> list[Answer]:
        request = encode.fib_match_request(group)
        return self._exchange([request], tolerate=lambda _index, _code: True)

    def look_up(
        self, destinations: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Return by which path the kernel would send to each, from any or the given source.

        The same as `ip route get DESTINATION [from SOURCE]`.
        """
        name = lru_cache(device_name)
        found = {str(one): RoutePath(None) for one in destinations}
        requests = [encode.look_up_request(one, source) for one in destinations]
        answers = self._exchange(requests, tolerate=lambda _index, _code: True)
        found.update(decode_path(answer, name) for answer in answers)
        return found

    def resolve(self, device: str, neighbours: Sequence[IPAddress]) -> None:
        """Ask for the Ethernet address of each neighbour that the kernel does not know."""
        requests = [encode.neighbour_request(device, each) for each in neighbours]
        self._exchange(requests, tolerate=lambda _index, _code: True)

    def apply(self, changes: Sequence[Change], *, exclusive: bool = False) -> None:
        """Add, replace or remove addresses and routes in one batch. RefusedError if one is refused.

        To remove a missing item is no error, nor, unless ``exclusive``, to add an existing one.
        """
        requests: list[bytearray] = []
        makes: list[tuple[int, bool]] = []
        for position, change in enumerate(changes):
            for new, request in _requests(change):
                requests.append(request)
                makes.append((position, new))
        missing: set[int] = set()

        def tolerate(index: int, code: int) -> bool:
            position, new = makes[index]
            if code == errno.ESRCH:
                missing.add(position)
            return code == errno.EEXIST and not exclusive if new else code in _GONE

        try:
            self._exchange(requests, tolerate=tolerate)
        except RefusedError as refused:
            errors = [(makes[index][0], code) for index, code in refused.errors]
            raise RefusedError(errors) from None
        self._remove_late([changes[position] for position in missing], changes)

    def _remove_late(self, missing: Sequence[Change], changes: Sequence[Change]) -> None:
        """Remove local routes of new IPv6 addresses, which a work queue adds a moment later."""
        made = {
            (change.item.device, change.item.address)
            for change in changes
            if isinstance(change.item, Address) and change.action != "remove"
        }
        late = [
            change.item
            for change in missing
            if isinstance(change.item, Route)
            and change.item.by_address
            and (change.item.device, change.item.destination) in made
        ]

        def remove() -> bool:
            left: set[int] = set()
            requests = [_request(route, new=False) for route in late]

            def tolerate(index: int, code: int) -> bool:
                left.add(index)
                return code in _GONE

            self._exchange(requests, tolerate=tolerate)
            late[:] = [late[index] for index in left]
            return not late

        poll_until(remove, bool, _LATE, 0.01)

    def _exchange(
        self, requests: Sequence[bytearray], tolerate: Callable[[int, int], bool] | None = None
    ) -> list[Answer]:
        """Send all requests in one datagram and return the answers. RefusedError for errors."""
        if not requests:
            return []
        first = self._sequence + 1
        for request in requests:
            self._sequence += 1
            encode.set_sequence(request, self._sequence)
        try:
            self._socket.send(b"".join(requests))
            return self._answers(first, self._sequence, tolerate or (lambda _index, _code: False))
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EACCES}:
                raise UnavailableError(
                    "changing addresses needs CAP_NET_ADMIN: run as root", reason="privilege"
                ) from None
            raise

    def _answers(self, first: int, last: int, tolerate: Callable[[int, int], bool]) -> list[Answer]:
        waiting = set(range(first, last + 1))
        found: list[Answer] = []
        errors: list[tuple[int, int]] = []
        while waiting:
            for answer in decode.answers(self._socket.recv(1 << 20)):
                if answer.sequence not in waiting:
                    continue
                if not answer.ends:
                    found.append(answer)
                if answer.ends or not answer.multi:  # a lookup has one answer
                    waiting.discard(answer.sequence)
                if answer.code and not tolerate(answer.sequence - first, answer.code):
                    errors.append((answer.sequence - first, answer.code))
        if errors:
            raise RefusedError(errors)
        return found


def _requests(change: Change) -> Iterator[tuple[bool, bytearray]]:
    """Encode a change; a replaced item is removed first.

    The kernel can replace neither the autojoin flag nor the device.
    """
    if change.action == "remove":
        yield False, _request(change.item, new=False)
        return
    if change.before is not None:
        yield False, _request(change.before, new=False)
    yield True, _request(change.item, new=True)


def _request(item: object, *, new: bool) -> bytearray:
    if isinstance(item, Address):
        return encode.address_request(item, new=new)
    if isinstance(item, Route):
        return encode.route_request(item, new=new)
    raise TypeError(f"{item} is neither an address nor a route")
