"""Groups held on a device by this process, with errors that name the cure."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from netaddr import IPAddress

from ..core.closeable import Closeable
from ..errors import UnavailableError
from .sockets import GroupSockets


class DeviceGroups(Closeable):
    """Groups that sockets hold on one device until ``close``, or the end of this process."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._sockets: GroupSockets | None = None

    @property
    def sockets(self) -> GroupSockets:
        """The sockets; UnavailableError if the device does not exist."""
        if self._sockets is None:
            try:
                self._sockets = GroupSockets(socket.if_nametoindex(self.device))
            except OSError:
                raise UnavailableError(
                    f"there is no device {self.device}", reason="device", device=self.device
                ) from None
        return self._sockets

    @property
    def groups(self) -> frozenset[IPAddress]:
        """The groups that are held."""
        return frozenset(map(IPAddress, self._sockets.groups if self._sockets else ()))

    def join(self, groups: Iterable[IPAddress | str]) -> None:
        """Become a member of each group, IPv4 or IPv6, that is not held yet.

        UnavailableError if the kernel refuses one; the groups joined before it remain held.
        """
        for group in groups:
            try:
                self.sockets.join(str(group))
            except OSError as error:
                reason = self._reason(error)
                raise UnavailableError(f"cannot join {group} on {self.device}: {reason}") from None

    def leave(self, groups: Iterable[IPAddress | str]) -> None:
        """Release each of these groups that is held."""
        for group in groups:
            self.sockets.leave(str(group))

    def close(self) -> None:
        """Release all groups."""
        if self._sockets is not None:
            self._sockets.close()

    def _reason(self, error: OSError) -> str:
        if error.errno in {errno.ENOBUFS, errno.ENOMEM}:
            return "no room: raise net.core.optmem_max, or net.ipv4.igmp_max_memberships from 0"
        if error.errno == errno.EMFILE:
            sockets = len(self.sockets.descriptors)
            return f"{error.strerror}: {sockets} sockets hold groups; raise `ulimit -n`"
        return error.strerror or str(error)
