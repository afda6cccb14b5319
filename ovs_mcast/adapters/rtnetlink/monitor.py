"""Events of links, addresses, group routes, rules and memberships (rtnetlink(7)).

A separate non-blocking socket, which only receives. Decides nothing.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)

from ...core.closeable import Closeable
from ...core.events import Joined, KernelEvent, Rule
from . import decode
from .decode import (
    Answer,
    attributes,
    decode_address,
    decode_group_routes,
    decode_link,
    device_name,
)

# linux/rtnetlink.h: RTNLGRP_LINK; addresses, routes and rules of IPv4, then of IPv6. The groups of
# memberships (RTNLGRP_IPV4_MCADDR, RTNLGRP_IPV6_MCADDR) exist from Linux 6.14.
_GROUPS = (1, 5, 7, 8, 9, 11, 19)
_NEW_GROUPS = (37, 38)
_RTM_NEWRULE, _RTM_DELRULE, _RTM_NEWMULTICAST, _RTM_DELMULTICAST = 32, 33, 56, 57
_IFA_MULTICAST = 7
_RECEIVE_OCTETS = 1 << 20
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class NetlinkEvents(Closeable):
    """The events of this network namespace; the kernel queues about a mebibyte of events."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_OCTETS)
        self._socket.bind((0, 0))
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        for group in _NEW_GROUPS:
            with suppress(OSError):
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> list[KernelEvent]:
        """Return the events since the last call; of routes, host routes to groups alone."""
        found: list[KernelEvent] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(KernelEvent(None))
                continue
            for answer in decode.answers(data):
                found += _events(answer)


def _events(answer: Answer) -> Iterator[KernelEvent]:
    if answer.kind in {RTM_NEWLINK, RTM_DELLINK}:
        if answer.body[0] == socket.AF_UNSPEC:  # not a bridge's notification about its port
            (index,) = struct.unpack_from("=i", answer.body, 4)
            yield KernelEvent(decode_link(answer, device_name), answer.kind == RTM_DELLINK, index)
    elif answer.kind in {RTM_NEWADDR, RTM_DELADDR}:
        yield KernelEvent(decode_address(answer, device_name), answer.kind == RTM_DELADDR)
    elif answer.kind in {RTM_NEWROUTE, RTM_DELROUTE}:
        for route in decode_group_routes(answer, device_name):
            yield KernelEvent(route, answer.kind == RTM_DELROUTE)
    elif answer.kind in {_RTM_NEWMULTICAST, _RTM_DELMULTICAST}:
        _family, _, _, _, index = struct.unpack_from("=BBBBI", answer.body)
        group = decode.address(attributes(answer.body, 8).get(_IFA_MULTICAST)) or ""
        yield KernelEvent(Joined(device_name(index), group), answer.kind == _RTM_DELMULTICAST)
    elif answer.kind in {_RTM_NEWRULE, _RTM_DELRULE}:
        yield KernelEvent(Rule(), answer.kind == _RTM_DELRULE)
