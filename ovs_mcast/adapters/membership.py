"""Who is a member of what, what autojoin may hold, and sockets that hold groups.

All of this network namespace: /proc, and setsockopt.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from netaddr import IPAddress

from ..closing import Closing
from ..errors import UnavailableError
from ..state import Limits

_IGMP = Path("/proc/net/igmp")
_IGMP6 = Path("/proc/net/igmp6")
_SYSCTL = Path("/proc/sys/net")

GROUPS_PER_SOCKET = 20  # net.ipv4.igmp_max_memberships, unless somebody changed it
_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})


def joined(device: str) -> frozenset[str]:
    """The groups, IPv4 and IPv6, of which the device is a member."""
    return frozenset(_joined_v4(_read(_IGMP), device) | _joined_v6(_read(_IGMP6), device))


def is_member(device: str, group: str) -> bool:
    """Whether the device is a member of one group, without a look at each of the others."""
    if ":" in group:
        number = socket.inet_pton(socket.AF_INET6, group).hex()
        lines = (line.split() for line in _read(_IGMP6).splitlines() if number in line)
        return any(line[1:3] == [device, number] for line in lines)
    (packed,) = struct.unpack("=I", socket.inet_aton(group))
    text = _read(_IGMP)
    found = re.search(rf"^\d+\t{re.escape(device)} *:.*$", text, re.MULTILINE)
    if found is None:
        return False
    following = re.compile(r"^\d", re.MULTILINE).search(text, found.end())
    end = following.start() if following else len(text)
    return text.find(f"\t{packed:08X} ", found.end(), end) >= 0


def limits() -> Limits:
    """The two sysctls that bound autojoin; None where this namespace does not show them."""
    return Limits(
        igmp_max_memberships=_number(_SYSCTL / "ipv4" / "igmp_max_memberships"),
        optmem_max=_number(_SYSCTL / "core" / "optmem_max"),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # a kernel without the family
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, PermissionError, ValueError):
        return None


def _joined_v4(text: str, device: str) -> set[str]:
    """A line per device, then an indented line per group, an address in host byte order."""
    groups = set()
    current = ""
    for line in text.splitlines()[1:]:
        if not line[:1].isspace():
            current = line.split("\t")[1].split(":")[0].strip()
        elif current == device:
            groups.add(socket.inet_ntoa(struct.pack("=I", int(line.split()[0], 16))))
    return groups


def _joined_v6(text: str, device: str) -> set[str]:
    rows = (line.split() for line in text.splitlines())
    return {
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[2]))
        for row in rows
        if len(row) > 2 and row[1] == device
    }


class Memberships(Closing):
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
