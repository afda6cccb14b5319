"""Sockets that hold multicast groups, as many as the groups need. Standard library alone."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable

GROUPS_PER_SOCKET = 20  # net.ipv4.igmp_max_memberships, unless it was changed

_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})
_IPV4, _IPV6 = socket.AF_INET, socket.AF_INET6
# By family: the level of both options, that to join, that to leave, and the request.
_OPTIONS = {
    _IPV4: (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP, "=4s4xi"),
    _IPV6: (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.IPV6_LEAVE_GROUP, "=16sI"),
}  # struct ip_mreqn, struct ipv6_mreq


class GroupSockets:
    """Groups of one device, each held by one of the sockets, at most 20 groups a socket.

    ``index`` is the device's. ``groups`` are already held by ``sockets``; which socket holds which
    group only the kernel knows, so these sockets count as full until a group of theirs is left.
    ``on_open`` is called with the descriptor of a new socket before the socket holds a group.

    The kernel counts the members of a group on a device: while two processes hold a group, one of
    them can release it without an IGMP or MLD leave (ip(7): IP_ADD_MEMBERSHIP; ipv6(7)). The
    sockets are bound to no port and receive nothing. Needs no privilege. Not thread-safe.
    """

    def __init__(
        self,
        index: int,
        groups: Iterable[str] = (),
        sockets: Iterable[socket.socket] = (),
        on_open: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.index = index
        self._on_open = on_open
        self._groups = dict.fromkeys(groups)
        self._sockets = deque(sockets)  # the last one most likely has room, or the group to leave
        self._room = dict.fromkeys(self._sockets, 0)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups held, in the order in which they were joined."""
        return tuple(self._groups)

    @property
    def descriptors(self) -> list[int]:
        """The sockets' descriptors: a process that inherits them continues to hold the groups."""
        return [one.fileno() for one in self._sockets]

    def join(self, group: str) -> None:
        """Hold one more group, if it is not held yet; OSError if the kernel refuses."""
        if group in self._groups:
            return
        family = _family(group)
        for one in reversed(self._sockets):
            if self._room[one] and one.family == family and self._joined(one, group):
                break
        else:
            self._open(family, group)
        self._groups[group] = None

    def leave(self, group: str) -> None:
        """Release one group; nothing happens if it is not held, or its device no longer exists."""
        if group not in self._groups:
            return
        del self._groups[group]
        for one in reversed(self._sockets):
            with contextlib.suppress(OSError):
                self._set(one, group, join=False)
                self._room[one] += 1
                self._sockets.remove(one)
                self._sockets.append(one)
                return

    def duplicate(self, on_open: Callable[[int], None] = lambda _: None) -> GroupSockets:
        """Return the same groups on duplicates of the sockets: held until both are closed."""
        copies = {one: socket.socket(fileno=os.dup(one.fileno())) for one in self._sockets}
        duplicate = GroupSockets(self.index, self._groups, copies.values(), on_open)
        duplicate._room = {copies[one]: room for one, room in self._room.items()}
        return duplicate

    def close(self) -> None:
        """Release all groups."""
        self._groups.clear()
        self._room.clear()
        while self._sockets:
            self._sockets.pop().close()

    def _open(self, family: socket.AddressFamily, group: str) -> None:
        new = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._on_open(new.fileno())
            self._set(new, group, join=True)
        except OSError:
            new.close()
            raise
        self._room[new] = GROUPS_PER_SOCKET - 1
        self._sockets.append(new)

    def _joined(self, one: socket.socket, group: str) -> bool:
        """Join by a socket that may have room; return False if it has none."""
        try:
            self._set(one, group, join=True)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._room[one] = 0
            return False
        self._room[one] -= 1
        return True

    def _set(self, one: socket.socket, group: str, *, join: bool) -> None:
        family = _family(group)
        level, to_join, to_leave, request = _OPTIONS[family]
        packed = struct.pack(request, socket.inet_pton(family, group), self.index)
        one.setsockopt(level, to_join if join else to_leave, packed)


def _family(group: str) -> socket.AddressFamily:
    return _IPV6 if ":" in group else _IPV4
