"""Which route takes a packet, and which addresses are not yet sure, through pyroute2.

Decides nothing: hands over what the kernel says of this network namespace.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netaddr import IPAddress
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ...core.observed import FibRoute
from ...errors import UnavailableError
from .decode import device_name

# linux/rtnetlink.h, linux/if_addr.h: pyroute2 names not all of these.
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000
_TENTATIVE, _DAD_FAILED = 0x40, 0x08
_SCOPE_HOST = 254
_LOCAL = 2
_TABLES = {253: "default", 254: "main", 255: "local"}


def taken(group: IPAddress) -> FibRoute | None:
    """The route that a packet to the group takes, sent as an ordinary program sends it.

    The same as `ip route get fibmatch GROUP`; None if none does, or one that forbids it.
    """
    with _netlink() as netlink:
        try:
            answers = netlink.route("get", dst=str(group), flags=_LOOKUP_TABLE | _FIB_MATCH)
        except NetlinkError:
            return None
        return next((_route(message, group.version) for message in answers), None)


def tentative(device: str) -> frozenset[str]:
    """The IPv6 addresses of the device whose duplicate address detection goes on (RFC 4862, 5.4).

    Where detection found a duplicate, it is over: such an address is not among them.
    """
    with _netlink() as netlink:
        messages = netlink.get_addr(family=socket.AF_INET6, index=_index(device))
        return frozenset(
            str(message.get_attr("IFA_ADDRESS"))
            for message in messages
            if _flags(message) & (_TENTATIVE | _DAD_FAILED) == _TENTATIVE
        )


@contextmanager
def _netlink() -> Iterator[Any]:
    try:
        with IPRoute() as netlink:
            yield netlink
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise UnavailableError("too many open files: raise `ulimit -n`") from error


def _route(message: Any, version: int) -> FibRoute:
    table = message.get_attr("RTA_TABLE") or message["table"]
    # While no rule is added, the kernel keeps `local` and `main` of IPv4 in one trie, and calls it
    # main; and it says "multicast" of every type. Scope host is that of local routes alone.
    local = message["type"] == _LOCAL or (version == 4 and message["scope"] == _SCOPE_HOST)
    device = message.get_attr("RTA_OIF")
    return FibRoute(
        destination=message.get_attr("RTA_DST") or ("0.0.0.0" if version == 4 else "::"),
        prefixlen=message["dst_len"],
        device=device_name(device) if device else None,
        table="local" if local and table == 254 else _TABLES.get(table, str(table)),
        local=local,
        gateway=message.get_attr("RTA_GATEWAY"),
    )


def _flags(message: Any) -> int:
    flags: int = message.get_attr("IFA_FLAGS") or message["flags"]
    return flags


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        raise UnavailableError(f"there is no device {device}") from None
