"""Sockets that hold multicast groups: as many as the groups need, at most 20 groups each."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

from netaddr import IPAddress

from ..core.closeable import Closeable
from ..errors import UnavailableError

GROUPS_PER_SOCKET = 20  # net.ipv4.igmp_max_memberships, unless somebody changed it
_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Memberships(Closeable):
    """Groups that sockets hold on one device, for as long as this object and its process live.

    The kernel counts the members of a group on a device, so whoever shall take groups over joins
    them first, and then this one lets go: no IGMP or MLD leave is sent (ip(7): IP_ADD_MEMBERSHIP;
    ipv6(7)). The sockets are bound to no port and receive nothing. Not thread-safe.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._shards: list[_Shard] = []
        self._open: dict[int, _Shard] = {}  # family to the shard that may have room
        self._holders: dict[IPAddress, _Shard] = {}

    @property
    def groups(self) -> frozenset[IPAddress]:
        """The groups that are held."""
        return frozenset(self._holders)

    @property
    def descriptors(self) -> list[int]:
        """The sockets: a process that inherits them holds the groups on."""
        return [shard.fileno() for shard in self._shards]

    def join(self, groups: Iterable[IPAddress]) -> None:
        """Become a member of each group that is not held yet, IPv4 or IPv6.

        UnavailableError, with the cure, where the kernel refuses; the groups joined until then are
        held on.
        """
        index = self._index()
        for group in groups:
            if group not in self._holders:
                self._holders[group] = self._joined(group, index)

    def leave(self, groups: Iterable[IPAddress]) -> None:
        """Let go of each of these groups that is held."""
        for group in groups:
            shard = self._holders.pop(group, None)
            if shard is None:
                continue
            shard.leave(group)
            if shard.groups:
                self._open[group.version] = shard
            else:
                self._discard(shard)

    def close(self) -> None:
        """Let go of all groups."""
        self._holders.clear()
        self._open.clear()
        while self._shards:
            self._shards.pop().close()

    def _index(self) -> int:
        try:
            return socket.if_nametoindex(self.device)
        except OSError:
            raise UnavailableError(f"there is no device {self.device}") from None

    def _joined(self, group: IPAddress, index: int) -> _Shard:
        shard = self._open.get(group.version)
        try:
            if shard is not None and shard.join(group, index):
                return shard
            shard = self._open[group.version] = _Shard(group.version)
            self._shards.append(shard)
            if shard.join(group, index):
                return shard
            reason = "no room: raise net.core.optmem_max, or net.ipv4.igmp_max_memberships from 0"
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EMFILE:
                reason += f": {len(self._shards)} sockets hold groups; raise `ulimit -n`"
        if shard is not None and not shard.groups:
            self._discard(shard)
        raise UnavailableError(f"cannot join {group} on {self.device}: {reason}")

    def _discard(self, shard: _Shard) -> None:
        if shard in self._shards:
            self._shards.remove(shard)
        for family in [family for family, one in self._open.items() if one is shard]:
            del self._open[family]
        shard.close()


class _Shard:
    """One socket and the groups that it holds."""

    def __init__(self, family: int) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._socket = socket.socket(kind, socket.SOCK_DGRAM)
        self.groups: dict[IPAddress, int] = {}  # to the index of the device

    def join(self, group: IPAddress, index: int) -> bool:
        """Whether there was room for one more group."""
        if len(self.groups) >= GROUPS_PER_SOCKET:
            return False
        try:
            self._set(group, index, join=True)
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        self.groups[group] = index
        return True

    def leave(self, group: IPAddress) -> None:
        index = self.groups.pop(group)
        try:
            self._set(group, index, join=False)
        except OSError as error:
            # The device is gone, and with it the membership.
            if error.errno not in {errno.ENODEV, errno.EADDRNOTAVAIL}:
                raise

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _set(self, group: IPAddress, index: int, *, join: bool) -> None:
        if group.version == 4:  # struct ip_mreqn
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
            request = struct.pack("=4s4xi", group.packed, index)
            self._socket.setsockopt(socket.IPPROTO_IP, option, request)
        else:  # struct ipv6_mreq
            option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
            request = struct.pack("=16sI", group.packed, index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, request)
