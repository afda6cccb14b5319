"""What the kernel answers, and tells unasked.

Thousands of routes come back at once, and only a few attributes of each are wanted: that is why
pyroute2 does not decode them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from netaddr import IPAddress
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_MCAUTOJOIN,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
)
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from ...core.items import Address, Route
from ...core.observed import Link, RoutePath
from . import LOCAL, TABLES, UNICAST

_ERROR, _DONE, _MULTI = 2, 3, 2  # NLMSG_ERROR, NLMSG_DONE, NLM_F_MULTI

# linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VXLAN_PORT = 1, 2, 15
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_RT_PRIORITY, _IFA_PROTO = 1, 2, 8, 9, 11
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15


@dataclass(frozen=True, slots=True)
class Answer:
    """One message from the kernel; ``code`` is an errno, 0 for an acknowledgement."""

    kind: int
    sequence: int
    body: bytes
    multi: bool

    @property
    def ends(self) -> bool:
        """Whether nothing more comes for its request: an error, an acknowledgement, the end."""
        return self.kind in {_ERROR, _DONE}

    @property
    def code(self) -> int:
        """The errno of an error, 0 for all else."""
        return -int.from_bytes(self.body[:4], "little", signed=True) if self.kind == _ERROR else 0


def answers(data: bytes) -> Iterator[Answer]:
    """The messages of one datagram."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence = struct.unpack_from("=IHHI", data, offset)
        yield Answer(kind, sequence, data[offset + 16 : offset + length], bool(flags & _MULTI))
        offset += length + 3 & ~3


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """Attributes by number, after a header of ``offset`` octets; nested ones as they came."""
    found = {}
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def number(value: bytes | None) -> int | None:
    """An attribute as a number in the host's byte order; None if it is not there."""
    return None if value is None else int.from_bytes(value, "little")


def address(value: bytes | None) -> str | None:
    """An attribute as an IP address in text; None if it is not there."""
    if value is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


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
    peer = address(values.get(_IFA_ADDRESS)) or ""
    local = address(values.get(_IFA_LOCAL)) or peer
    # A point-to-point address has the peer in IFA_ADDRESS; it is an address of ours if a group.
    is_peer = local != peer and IPAddress(peer).is_multicast()
    return Address(
        device=name(index),
        address=peer if is_peer else local,
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


def decode_path(answer: Answer, name: Callable[[int], str]) -> tuple[str, RoutePath]:
    """The destination of a look-up, and the way there."""
    values = attributes(answer.body, 12)
    device, source = number(values.get(_RTA_OIF)), address(values.get(_RTA_PREFSRC))
    return address(values.get(_RTA_DST)) or "", RoutePath(name(device) if device else None, source)


def decode_fib_match(answer: Answer) -> Route | None:
    """The host route that a look-up found; of whatever type, the kernel says multicast of all."""
    values = attributes(answer.body, 12)
    destination, device = values.get(_RTA_DST), number(values.get(_RTA_OIF))
    if destination is None or answer.body[1] != 8 * len(destination):
        return None
    table = number(values.get(_RTA_TABLE)) or answer.body[4]
    return Route(
        device=device_name(device) if device else "",
        destination=address(destination) or "",
        source=address(values.get(_RTA_PREFSRC)),
        metric=number(values.get(_RTA_PRIORITY)) or None,
        table="local" if table == TABLES["local"] else "main",
        protocol=answer.body[5] or None,
    )


def decode_group_routes(answer: Answer, name: Callable[[int], str]) -> Iterable[Route]:
    """The route of an RTM_NEWROUTE or RTM_DELROUTE, if it is a host route to a group."""
    _family, bits, _, _, table, protocol, _scope, kind = struct.unpack_from("=8B", answer.body)
    values = attributes(answer.body, 12)
    destination, device = values.get(_RTA_DST), number(values.get(_RTA_OIF))
    table = number(values.get(_RTA_TABLE)) or table
    main = (table, kind) == (TABLES["main"], UNICAST)
    metric = number(values.get(_RTA_PRIORITY)) or None
    # Of type unicast: Open vSwitch takes no route of type multicast into its own table.
    kinds = {LOCAL} if metric is None else {LOCAL, UNICAST}
    local = table == TABLES["local"] and kind in kinds
    if not (main or local) or destination is None or not device or bits != 8 * len(destination):
        return
    if destination[0] != 0xFF if len(destination) == 16 else destination[0] >> 4 != 0xE:
        return  # not a group
    yield Route(
        device=name(device),
        destination=address(destination) or "",
        source=address(values.get(_RTA_PREFSRC)),
        metric=metric,
        table="local" if local else "main",
        protocol=protocol or None,
    )
