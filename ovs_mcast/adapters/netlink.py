"""Links, addresses, routes and route look-ups of this network namespace, through pyroute2.

Decides nothing: hands over what the kernel says, and sends what it is given in one batch.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from netaddr import IPAddress
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_MCAUTOJOIN, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ..errors import UnavailableError
from ..state import Address, Change, Link, Route, RoutePath

_MAIN = 254
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_UNICAST = 1
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_RECEIVE_OCTETS = 64 << 20  # the answers of the largest batch, which the kernel queues at once


class RefusedError(Exception):
    """The kernel refused requests of a batch: ``errors`` are (position in it, errno)."""

    def __init__(self, errors: Sequence[tuple[int, int]]) -> None:
        super().__init__(os.strerror(errors[0][1]))
        self.errors = tuple(errors)


class Netlink:
    """One rtnetlink socket in the namespace of the thread that made it. Not thread-safe."""

    def __init__(self) -> None:
        self.batches = 0
        self._marshal = MarshalRtnl()
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
        request = _request(ifinfmsg(), RTM_GETLINK, NLM_F_DUMP, {"family": socket.AF_UNSPEC}, [])
        return {link.name: link for link in map(_link, self._exchange([request]))}

    def addresses(self) -> tuple[Address, ...]:
        """Every address of every device, IPv4 and IPv6, in the kernel's order."""
        request = _request(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP, {"family": socket.AF_UNSPEC}, [])
        return tuple(_address(message) for message in self._exchange([request]))

    def group_routes(self) -> tuple[Route, ...]:
        """The host routes to groups in table main that leave by one device."""
        request = _request(rtmsg(), RTM_GETROUTE, NLM_F_DUMP, {"family": socket.AF_UNSPEC}, [])
        return tuple(
            route for message in self._exchange([request]) for route in _group_route(message)
        )

    def look_up(
        self, groups: Sequence[IPAddress], source: IPAddress | None = None
    ) -> dict[str, RoutePath]:
        """Where the kernel would send to each group, from any or from an explicit source.

        The same look-up as `ip route get GROUP [from SOURCE]`.
        """
        found = {str(group): RoutePath(None) for group in groups}
        requests = []
        for group in groups:
            bits = 32 if group.version == 4 else 128
            header = {"family": _FAMILY[group.version], "dst_len": bits}
            attributes = [("RTA_DST", str(group))]
            if source is not None:
                header["src_len"] = bits
                attributes.append(("RTA_SRC", str(source)))
            requests.append(_request(rtmsg(), RTM_GETROUTE, 0, header, attributes))
        for message in self._exchange(requests, tolerate=lambda _index, _code: True):
            device = message.get_attr("RTA_OIF")
            found[str(message.get_attr("RTA_DST"))] = RoutePath(
                socket.if_indextoname(device) if device else None,
                message.get_attr("RTA_PREFSRC"),
            )
        return found

    def apply(self, changes: Sequence[Change]) -> None:
        """Make, replace or remove addresses and routes, all in one batch; RefusedError if any is.

        What is there already, or gone already, is as wanted.
        """
        requests: list[Any] = []
        owners: list[int] = []
        for position, change in enumerate(changes):
            made = list(_requests(change))
            requests.extend(made)
            owners.extend([position] * len(made))
        gone = {errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV}

        def tolerate(index: int, code: int) -> bool:
            kind = requests[index]["header"]["type"]
            if kind in {RTM_NEWADDR, RTM_NEWROUTE}:
                return code == errno.EEXIST
            return code in gone

        try:
            self._exchange(requests, tolerate=tolerate)
        except RefusedError as refused:
            raise RefusedError([(owners[index], code) for index, code in refused.errors]) from None

    def _exchange(
        self, requests: Sequence[Any], tolerate: Callable[[int, int], bool] | None = None
    ) -> list[Any]:
        """Send all requests in one datagram and gather the answers; RefusedError for errors."""
        if not requests:
            return []
        self.batches += 1
        first = self._sequence + 1
        data = bytearray()
        for request in requests:
            self._sequence += 1
            request["header"]["sequence_number"] = self._sequence
            request.encode()
            data += request.data
        try:
            self._socket.send(data)
            return self._answers(first, self._sequence, tolerate or (lambda _index, _code: False))
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EACCES}:
                raise UnavailableError(
                    "changing addresses needs CAP_NET_ADMIN: run as root"
                ) from None
            raise

    def _answers(self, first: int, last: int, tolerate: Callable[[int, int], bool]) -> list[Any]:
        waiting = set(range(first, last + 1))
        answers: list[Any] = []
        errors: list[tuple[int, int]] = []
        while waiting:
            for message in self._marshal.parse(self._socket.recv(1 << 20)):
                header = message["header"]
                sequence, kind = header["sequence_number"], header["type"]
                if sequence not in waiting:
                    continue
                if kind in {2, 3}:  # NLMSG_ERROR (also an acknowledgement), NLMSG_DONE
                    waiting.discard(sequence)
                    code = abs(message["error"]) if kind == 2 else 0
                    if code and not tolerate(sequence - first, code):
                        errors.append((sequence - first, code))
                    continue
                answers.append(message)
                if not header["flags"] & 2:  # not NLM_F_MULTI: the one answer of a look-up
                    waiting.discard(sequence)
        if errors:
            raise RefusedError(errors)
        return answers


def _request(
    message: Any, kind: int, flags: int, header: dict[str, int], attributes: list[tuple[str, Any]]
) -> Any:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    for name, value in header.items():
        message[name] = value
    message["attrs"] = attributes
    return message


def _requests(change: Change) -> Iterator[Any]:
    """A replaced item is removed first: the kernel replaces neither autojoin nor a device."""
    make = _address_request if isinstance(change.item, Address) else _route_request
    if change.action == "remove":
        yield make(change.item, False)
        return
    if change.before is not None:
        yield make(change.before, False)
    yield make(change.item, True)


def _address_request(item: Any, new: bool) -> Any:
    address = IPAddress(item.address)
    attributes: list[tuple[str, Any]] = [
        ("IFA_LOCAL", item.address),
        ("IFA_ADDRESS", item.address),
    ]
    if new:
        attributes.append(("IFA_FLAGS", IFA_F_MCAUTOJOIN if item.autojoin else 0))
        if item.metric is not None:
            attributes.append(("IFA_RT_PRIORITY", item.metric))
        if item.protocol is not None:
            attributes.append(("IFA_PROTO", item.protocol))
    header = {
        "family": _FAMILY[address.version],
        "prefixlen": item.prefixlen,
        "index": _index(item.device),
        # Not global: a group must not become the preferred source of on-link routes.
        "scope": _SCOPE_HOST if address.version == 4 else 0,
    }
    flags = NLM_F_ACK | (NLM_F_CREATE | NLM_F_EXCL if new else 0)
    return _request(ifaddrmsg(), RTM_NEWADDR if new else RTM_DELADDR, flags, header, attributes)


def _route_request(item: Any, new: bool) -> Any:
    group = IPAddress(item.destination)
    attributes: list[tuple[str, Any]] = [
        ("RTA_DST", item.destination),
        ("RTA_OIF", _index(item.device)),
        ("RTA_TABLE", _MAIN),
    ]
    if item.metric is not None:
        attributes.append(("RTA_PRIORITY", item.metric))
    if item.source is not None:
        attributes.append(("RTA_PREFSRC", item.source))
    header = {
        "family": _FAMILY[group.version],
        "dst_len": 32 if group.version == 4 else 128,
        "table": _MAIN,
        "proto": item.protocol or 0,
        "scope": _SCOPE_LINK if group.version == 4 else 0,
        "type": _UNICAST,
    }
    flags = NLM_F_ACK | (NLM_F_CREATE | NLM_F_EXCL if new else 0)
    return _request(rtmsg(), RTM_NEWROUTE if new else RTM_DELROUTE, flags, header, attributes)


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 1 << 30  # no such device: the kernel answers ENODEV for its request alone


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    udp_port = None
    if kind == "vxlan":
        data = info.get_attr("IFLA_INFO_DATA")
        udp_port = data.get_attr("IFLA_VXLAN_PORT") if data else None
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        mtu=message.get_attr("IFLA_MTU") or 0,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        up=bool(message["flags"] & IFF_UP),
        kind=kind or "",
        udp_port=udp_port,
    )


def _address(message: Any) -> Address:
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return Address(
        device=socket.if_indextoname(message["index"]),
        address=message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
        prefixlen=message["prefixlen"],
        autojoin=bool(flags & IFA_F_MCAUTOJOIN),
        metric=message.get_attr("IFA_RT_PRIORITY"),
        protocol=message.get_attr("IFA_PROTO"),
    )


def _group_route(message: Any) -> Iterable[Route]:
    destination, device = message.get_attr("RTA_DST"), message.get_attr("RTA_OIF")
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != _MAIN or not device or not destination:
        return
    group = IPAddress(destination)
    if message["dst_len"] == (32 if group.version == 4 else 128) and group.is_multicast():
        yield Route(
            device=socket.if_indextoname(device),
            destination=destination,
            source=message.get_attr("RTA_PREFSRC"),
            metric=message.get_attr("RTA_PRIORITY"),
            protocol=message["proto"] or None,
        )
