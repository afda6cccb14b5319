"""One process alone for a name: a unix socket in the abstract name space of this network namespace.

The kernel lets go of it when its process ends, kill -9 included (unix(7)); no file is left.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct

from ..closing import Closing


class TakenError(Exception):
    """Somebody else has the name: ``pid`` is the process, 0 where it cannot be seen from here."""

    def __init__(self, pid: int, uid: int) -> None:
        super().__init__(f"process {pid} of user {uid}")
        self.pid, self.uid = pid, uid


class Instance(Closing):
    """The name, held until ``close``; TakenError if another process has it."""

    def __init__(self, name: str) -> None:
        address = "\0ovs-mcast-agent-" + hashlib.sha256(name.encode()).hexdigest()[:32]
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(address)
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise _taken(address) from None

    def close(self) -> None:
        """Let go of the name."""
        self._socket.close()


def _taken(address: str) -> TakenError:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        try:
            caller.connect(address)
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return TakenError(0, 0)
    pid, uid, _gid = struct.unpack("3i", credentials)
    return TakenError(pid, uid)
