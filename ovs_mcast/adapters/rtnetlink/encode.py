"""Requests to the kernel.

pyroute2 encodes one template for each shape of item; the requests of a batch of thousands are the
template with the group replaced.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import Any

from netaddr import IPAddress
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
)
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_MCAUTOJOIN,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    ifaddrmsg,
)
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ...core.items import Address, Route
from . import LOCAL, TABLES, UNICAST

_SCOPE_LINK, _SCOPE_HOST = 253, 254
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000  # RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH
_NDA_DST, _NTF_USE = 1, 1
_NO_DEVICE = 1 << 30  # fails with ENODEV, this request alone

# Stands for the group in a template, in bytes that occur nowhere else in a request.
_PLACEHOLDERS = {4: IPAddress("239.255.77.109"), 6: IPAddress("ff1e:6f76:736d:6361:7374::ef")}


def dump_request(kind: int) -> bytearray:
    """Ask for all items of one kind, of all address families."""
    return bytearray(struct.pack("=IHHIIB3x", 20, kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0, 0))


def look_up_request(group: IPAddress, source: IPAddress | None) -> bytearray:
    """Ask for a path, as `ip route get GROUP [from SOURCE]`."""
    return _with_group(_look_up_template(group.version, str(source) if source else ""), group)


def fib_match_request(group: IPAddress) -> bytearray:
    """Ask for the route that a packet takes, as `ip route get fibmatch GROUP`."""
    request = look_up_request(group, None)
    struct.pack_into("=I", request, 16 + 8, _LOOKUP_TABLE | _FIB_MATCH)  # rtm_flags
    return request


def link_request(index: int) -> bytearray:
    """Ask for one device by its index (struct ifinfomsg)."""
    header = (32, RTM_GETLINK, NLM_F_REQUEST, 0, 0)
    return bytearray(struct.pack("=IHHIIBxHiII", *header, 0, 0, index, 0, 0))


def neighbour_request(device: str, address: IPAddress) -> bytearray:
    """Have the kernel resolve a neighbour (struct ndmsg), as `ip neighbour … nud none use`."""
    target = struct.pack("=HH", 4 + len(address.packed), _NDA_DST) + address.packed
    flags = NLM_F_REQUEST | _flags(new=False) | NLM_F_CREATE | NLM_F_REPLACE
    header = struct.pack("=IHHII", 28 + len(target), RTM_NEWNEIGH, flags, 0, 0)
    state = struct.pack("=B3xiHBB", _FAMILY[address.version], _index(device), 0, _NTF_USE, 0)
    return bytearray(header + state + target)


def address_request(item: Address, *, new: bool) -> bytearray:
    """Add or remove an address; with ``local``, as the peer of that address."""
    group = IPAddress(item.address)
    template = _address_template(
        group.version, _index(item.device), item.prefixlen, item.autojoin, item.metric,
        item.local, item.protocol, new,
    )  # fmt: skip
    return _with_group(template, group)


def route_request(item: Route, *, new: bool) -> bytearray:
    """Add or remove a host route."""
    group = IPAddress(item.destination)
    template = _route_template(
        group.version, _index(item.device), item.source, item.metric, item.table, item.protocol, new
    )
    return _with_group(template, group)


def set_sequence(request: bytearray, sequence: int) -> None:
    """Number a request; the kernel's answers carry the number."""
    struct.pack_into("=I", request, 8, sequence)


def _with_group(template: bytes, group: IPAddress) -> bytearray:
    return bytearray(template.replace(_PLACEHOLDERS[group.version].packed, group.packed))


@lru_cache(maxsize=8)
def _look_up_template(version: int, source: str) -> bytes:
    bits = 32 if version == 4 else 128
    header = {"family": _FAMILY[version], "dst_len": bits}
    values: list[tuple[str, Any]] = [("RTA_DST", str(_PLACEHOLDERS[version]))]
    if source:
        header["src_len"] = bits
        values.append(("RTA_SRC", source))
    return _encoded(rtmsg(), RTM_GETROUTE, 0, header, values)


@lru_cache(maxsize=32)
def _address_template(
    version: int, index: int, prefixlen: int, autojoin: bool, metric: int | None,
    local: str | None, protocol: int | None, new: bool,
) -> bytes:  # fmt: skip
    group = str(_PLACEHOLDERS[version])
    values: list[tuple[str, Any]] = [("IFA_LOCAL", local or group), ("IFA_ADDRESS", group)]
    if new:
        # A group is no host's address: duplicate address detection has nothing to detect.
        flags = IFA_F_NODAD | IFA_F_NOPREFIXROUTE if version == 6 else 0
        values.append(("IFA_FLAGS", flags | (IFA_F_MCAUTOJOIN if autojoin else 0)))
        values += _given(IFA_RT_PRIORITY=metric, IFA_PROTO=protocol)
    header = {
        "family": _FAMILY[version],
        "prefixlen": prefixlen,
        "index": index,
        # Not global: a group must not become the preferred source of on-link routes.
        "scope": _SCOPE_HOST if version == 4 and not local else 0,
    }
    return _encoded(ifaddrmsg(), RTM_NEWADDR if new else RTM_DELADDR, _flags(new), header, values)


@lru_cache(maxsize=32)
def _route_template(
    version: int, index: int, source: str | None, metric: int | None, table: str,
    protocol: int | None, new: bool,
) -> bytes:  # fmt: skip
    values: list[tuple[str, Any]] = [
        ("RTA_DST", str(_PLACEHOLDERS[version])),
        ("RTA_OIF", index),
        ("RTA_TABLE", TABLES[table]),
    ]
    values += _given(RTA_PRIORITY=metric, RTA_PREFSRC=source)
    scope = _SCOPE_HOST if table == "local" else _SCOPE_LINK
    header = {
        "family": _FAMILY[version],
        "dst_len": 32 if version == 4 else 128,
        "table": TABLES[table],
        "proto": protocol or 0,
        "scope": scope if version == 4 else 0,
        "type": LOCAL if table == "local" and metric is None else UNICAST,
    }
    return _encoded(rtmsg(), RTM_NEWROUTE if new else RTM_DELROUTE, _flags(new), header, values)


def _flags(new: bool) -> int:
    return int(NLM_F_ACK | (NLM_F_CREATE | NLM_F_EXCL if new else 0))


def _given(**values: object) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in values.items() if value is not None]


def _encoded(
    message: Any, kind: int, flags: int, header: dict[str, int], values: list[tuple[str, Any]]
) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    for name, value in header.items():
        message[name] = value
    message["attrs"] = values
    message.encode()
    return bytes(message.data)


def _index(device: str) -> int:
    """Return the index, never cached: a device that is removed and made again has another."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return _NO_DEVICE
