"""Links, addresses, routes and route look-ups of this network namespace.

Decides nothing: hands over what the kernel says, and sends what it is given in one batch.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from netaddr import IPAddress
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_MCAUTOJOIN,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
)
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from ..changes import Change
from ..errors import UnavailableError
from ..state import Address, Link, Route, RoutePath
from . import rtnetlink
from .rtnetlink import Answer, attributes, number

_RECEIVE_OCTETS = 64 << 20  # the answers of the largest batch, which the kernel queues at once
_LATE = 1.0  # seconds that the kernel may take to make an IPv6 address's own route
_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV})

# linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VXLAN_PORT = 1, 2, 15
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_RT_PRIORITY, _IFA_PROTO = 1, 2, 8, 9, 11
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15


class RefusedError(Exception):
    """The kernel refused requests of a batch: ``errors`` are (position in it, errno)."""

    def __init__(self, errors: Sequence[tuple[int, int]]) -> None:
        super().__init__(os.strerror(errors[0][1]))
        self.errors = tuple(errors)


class Netlink:
    """One rtnetlink socket in the namespace of the thread that made it. Not thread-safe."""

    def __init__(self) -> None:
        self.batches = 0
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_OCTETS)
        for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE: past the sysctl, if we may
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_OCTETS)
            except PermissionError:
                continue
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> dict[str, Link]:
        """Every device by name."""
        found = map(decode_link, self._exchange([rtnetlink.dump_request(RTM_GETLINK)]))
        return {link.name: link for link in found}

    def addresses(self) -> tuple[Address, ...]:
        """Every address of every device, IPv4 and IPv6, in the kernel's order."""
        name = lru_cache(device_name)
        request = rtnetlink.dump_request(RTM_GETADDR)
        return tuple(decode_address(answer, name) for answer in self._exchange([request]))

    def group_routes(self) -> tuple[Route, ...]:
        """The host routes to groups in tables main and local, each with its one device."""
        name = lru_cache(device_name)
        request = rtnetlink.dump_request(RTM_GETROUTE)
        return tuple(
            route
            for answer in self._exchange([request])
            for route in decode_group_routes(answer, name)
        )

    def link(self, name: str) -> Link | None:
        """One device; None if it is not there."""
        try:
            request = rtnetlink.link_request(socket.if_nametoindex(name))
        except OSError:
            return None
        found = self._exchange([request], tolerate=lambda _index, code: code in _GONE)
        return next((decode_link(answer) for answer in found), None)

    def group_route(self, group: IPAddress) -> Route | None:
        """The host route that takes a packet to the group; None if a wider one does, or none."""
        request = rtnetlink.route_get_request(group)
        found = self._exchange([request], tolerate=lambda _index, _code: True)
        return next((route for answer in found if (route := _fib_match(answer))), None)

    def look_up(
        self, groups: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Where the kernel would send to each group, from any or from an explicit source.

        The same look-up as `ip route get GROUP [from SOURCE]`.
        """
        name = lru_cache(device_name)
        found = {str(group): RoutePath(None) for group in groups}
        requests = [rtnetlink.look_up_request(group, source) for group in groups]
        for answer in self._exchange(requests, tolerate=lambda _index, _code: True):
            values = attributes(answer.body, 12)
            device = number(values.get(_RTA_OIF))
            found[rtnetlink.address(values.get(_RTA_DST)) or ""] = RoutePath(
                name(device) if device else None, rtnetlink.address(values.get(_RTA_PREFSRC))
            )
        return found

    def apply(self, changes: Sequence[Change], *, exclusive: bool = False) -> None:
        """Make, replace or remove addresses and routes, all in one batch; RefusedError if any is.

        What is gone already is as wanted, and, unless ``exclusive``, what is there already.
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
        """Local routes of IPv6 addresses just made: a work queue makes them, a moment later."""
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
        removing = Retrying(
            retry=retry_if_result(bool),
            stop=stop_after_delay(_LATE),
            wait=wait_fixed(0.01),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )

        def remove() -> bool:
            left: set[int] = set()
            requests = [_request(route, new=False) for route in late]

            def tolerate(index: int, code: int) -> bool:
                left.add(index)
                return code in _GONE

            self._exchange(requests, tolerate=tolerate)
            late[:] = [late[index] for index in left]
            return bool(late)

        removing(remove)

    def _exchange(
        self, requests: Sequence[bytearray], tolerate: Callable[[int, int], bool] | None = None
    ) -> list[Answer]:
        """Send all requests in one datagram and gather the answers; RefusedError for errors."""
        if not requests:
            return []
        self.batches += 1
        first = self._sequence + 1
        for request in requests:
            self._sequence += 1
            rtnetlink.set_sequence(request, self._sequence)
        try:
            self._socket.send(b"".join(requests))
            return self._answers(first, self._sequence, tolerate or (lambda _index, _code: False))
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EACCES}:
                raise UnavailableError(
                    "changing addresses needs CAP_NET_ADMIN: run as root"
                ) from None
            raise

    def _answers(self, first: int, last: int, tolerate: Callable[[int, int], bool]) -> list[Answer]:
        waiting = set(range(first, last + 1))
        found: list[Answer] = []
        errors: list[tuple[int, int]] = []
        while waiting:
            for answer in rtnetlink.answers(self._socket.recv(1 << 20)):
                if answer.sequence not in waiting:
                    continue
                if not answer.ends:
                    found.append(answer)
                if answer.ends or not answer.multi:  # or the one answer of a look-up
                    waiting.discard(answer.sequence)
                if answer.code and not tolerate(answer.sequence - first, answer.code):
                    errors.append((answer.sequence - first, answer.code))
        if errors:
            raise RefusedError(errors)
        return found


def _requests(change: Change) -> Iterator[tuple[bool, bytearray]]:
    """A replaced item is removed first: the kernel replaces neither autojoin nor a device."""
    if change.action == "remove":
        yield False, _request(change.item, new=False)
        return
    if change.before is not None:
        yield False, _request(change.before, new=False)
    yield True, _request(change.item, new=True)


def _request(item: object, *, new: bool) -> bytearray:
    if isinstance(item, Address):
        return rtnetlink.address_request(item, new=new)
    if isinstance(item, Route):
        return rtnetlink.route_request(item, new=new)
    raise TypeError(f"{item} is neither an address nor a route")


def device_name(index: int) -> str:
    """The name of a device; one that is gone has one that no device has."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"  # gone since the kernel named it


def decode_link(answer: Answer) -> Link:
    """A device, from RTM_NEWLINK or RTM_DELLINK."""
    (flags,) = struct.unpack_from("=I", answer.body, 8)
    values = attributes(answer.body, 16)
    info = attributes(values.get(_IFLA_LINKINFO, b""), 0)
    kind = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    port = None
    if kind == "vxlan":
        port = attributes(info.get(_IFLA_INFO_DATA, b""), 0).get(_IFLA_VXLAN_PORT)
    return Link(
        name=values[_IFLA_IFNAME].rstrip(b"\0").decode(),
        mtu=number(values.get(_IFLA_MTU)) or 0,
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        up=bool(flags & IFF_UP),
        kind=kind,
        udp_port=int.from_bytes(port, "big") if port else None,
    )


def decode_address(answer: Answer, name: Callable[[int], str]) -> Address:
    """An address, from RTM_NEWADDR or RTM_DELADDR."""
    family, prefixlen, flags, _scope, index = struct.unpack_from("=BBBBI", answer.body)
    values = attributes(answer.body, 8)
    flags = number(values.get(_IFA_FLAGS)) or flags
    address = rtnetlink.address(values.get(_IFA_ADDRESS)) or ""
    local = rtnetlink.address(values.get(_IFA_LOCAL)) or address
    # A point-to-point address has the peer in IFA_ADDRESS; it is an address of ours if a group.
    is_peer = local != address and IPAddress(address).is_multicast()
    return Address(
        device=name(index),
        address=address if is_peer else local,
        prefixlen=prefixlen,
        autojoin=bool(flags & IFA_F_MCAUTOJOIN),
        metric=number(values.get(_IFA_RT_PRIORITY)),
        local=local if is_peer else None,
        protocol=number(values.get(_IFA_PROTO)),
        tentative=bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_DADFAILED,
        duplicate=bool(flags & IFA_F_DADFAILED),
        # In IPv4 the flag of temporary ones says secondary.
        passing=family == socket.AF_INET6 and bool(flags & (IFA_F_DEPRECATED | IFA_F_TEMPORARY)),
    )


def _fib_match(answer: Answer) -> Route | None:
    """The host route that a look-up found; of whatever type, the kernel says multicast of all."""
    values = attributes(answer.body, 12)
    destination, device = values.get(_RTA_DST), number(values.get(_RTA_OIF))
    if destination is None or answer.body[1] != 8 * len(destination):
        return None
    table = number(values.get(_RTA_TABLE)) or answer.body[4]
    return Route(
        device=device_name(device) if device else "",
        destination=rtnetlink.address(destination) or "",
        source=rtnetlink.address(values.get(_RTA_PREFSRC)),
        metric=number(values.get(_RTA_PRIORITY)) or None,
        table="local" if table == rtnetlink.TABLES["local"] else "main",
        protocol=answer.body[5] or None,
    )


def decode_group_routes(answer: Answer, name: Callable[[int], str]) -> Iterable[Route]:
    """The route of an RTM_NEWROUTE or RTM_DELROUTE, if it is a host route to a group."""
    _family, bits, _, _, table, protocol, _scope, kind = struct.unpack_from("=8B", answer.body)
    values = attributes(answer.body, 12)
    destination, device = values.get(_RTA_DST), number(values.get(_RTA_OIF))
    table = number(values.get(_RTA_TABLE)) or table
    main = (table, kind) == (rtnetlink.TABLES["main"], rtnetlink.UNICAST)
    metric = number(values.get(_RTA_PRIORITY)) or None
    # Of type unicast: Open vSwitch takes no route of type multicast into its own table.
    kinds = {rtnetlink.LOCAL} if metric is None else {rtnetlink.LOCAL, rtnetlink.UNICAST}
    local = table == rtnetlink.TABLES["local"] and kind in kinds
    if not (main or local) or destination is None or not device or bits != 8 * len(destination):
        return
    if destination[0] != 0xFF if len(destination) == 16 else destination[0] >> 4 != 0xE:
        return  # not a group
    yield Route(
        device=name(device),
        destination=rtnetlink.address(destination) or "",
        source=rtnetlink.address(values.get(_RTA_PREFSRC)),
        metric=metric,
        table="local" if local else "main",
        protocol=protocol or None,
    )
