"""The program of the keeper: it holds the sockets it was given, and joins one group more if told.

Standard library alone, run as a file by `python -I -S`, so that it stays small. It inherits the
sockets that are members of the groups and a listening unix socket, and ends when it is told to.
What it answers is the same from a thread of a process that holds the groups itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable

# Nobody else's: beyond what useradd, systemd and containers give out (systemd's UIDS-GIDS). A user
# namespace that has no such number has the second.
USERS = (0x7000006D, 65534)
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_PATIENCE = 2.0  # seconds that one caller may take to say what it wants
_PAUSE = 0.1  # seconds until the next try to accept where descriptors have run out
_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})
_JOIN = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, "=4s4xi"),  # struct ip_mreqn
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, "=16sI"),  # struct ipv6_mreq
}
_LEAVE = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, "=4s4xi"),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, "=16sI"),
}


class Held:
    """Groups of one device, by sockets; which socket holds which, the kernel knows.

    ``device`` is its name as JSON text. Joining needs no privilege. ``grown`` is called with the
    descriptor of a new socket, before that holds anything.
    """

    def __init__(
        self,
        device: str,
        index: int,
        groups: Iterable[str],
        sockets: Iterable[socket.socket],
        grown: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._device, self._index, self._grown = device, index, grown
        self._groups = dict.fromkeys(groups)
        self._sockets = deque(sockets)  # the last one is the likeliest to have room

    def join(self, group: str) -> None:
        """Hold one more; OSError where the kernel refuses."""
        if group in self._groups:
            return
        family = _family(group)
        for _ in range(len(self._sockets)):
            try:
                if self._sockets[-1].family == family:
                    self._set(self._sockets[-1], _JOIN, group)
                    break
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            self._sockets.rotate()
        else:
            self._sockets.append(socket.socket(family, socket.SOCK_DGRAM))
            self._grown(self._sockets[-1].fileno())
            self._set(self._sockets[-1], _JOIN, group)
        self._groups[group] = None

    def leave(self, group: str) -> None:
        """Let go of one; nothing happens if it is not held, or with its device is gone."""
        if group not in self._groups:
            return
        del self._groups[group]
        for one in self._sockets:
            with contextlib.suppress(OSError):
                self._set(one, _LEAVE, group)
                self._sockets.remove(one)
                self._sockets.append(one)
                return

    def close(self) -> None:
        """Let go of all."""
        self._groups.clear()
        while self._sockets:
            self._sockets.pop().close()

    def told(self, word: str) -> str:
        """Do as a caller says, and answer in members of a JSON object.

        `join INDEX GROUP` and `leave INDEX GROUP` are for the device of that index alone.
        """
        verb, *rest = word.split()
        device = f'"device": {self._device}, "index": {self._index}'
        if verb not in {"join", "leave"}:
            groups = ", ".join(f'"{group}"' for group in self._groups)
            return f'{device}, "groups": [{groups}]'
        try:
            if len(rest) != 2 or rest[0] != str(self._index):
                raise OSError(errno.ENODEV, "another device")
            (self.join if verb == "join" else self.leave)(rest[1])
        except OSError as error:
            return f'{device}, "refused": {error.errno or errno.EINVAL}'
        return f'{device}, "refused": 0'

    def _set(
        self, one: socket.socket, how: dict[socket.AddressFamily, tuple[int, int, str]], group: str
    ) -> None:
        family = _family(group)
        level, option, request = how[family]
        packed = struct.pack(request, socket.inet_pton(family, group), self._index)
        one.setsockopt(level, option, packed)


def _family(group: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in group else socket.AF_INET


def serve(listener: socket.socket, held: Held, owner: int, *, thread: bool = False) -> None:
    """Answer with our pid and what is held; return, all let go of, at `end`.

    Only root and the owner may ask. ``thread`` says that the process does not end with this; it
    ends it by shutting the listener down.
    """
    ended = False
    while not ended:
        try:
            caller, _ = listener.accept()
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.EBADF}:
                break
            time.sleep(_PAUSE)
            continue
        with caller, contextlib.suppress(OSError):
            caller.settimeout(_PATIENCE)
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[1] not in {0, owner}:
                continue
            word = caller.recv(256).decode("ascii", "replace").strip() or "look"
            said = held.told(word)
            if word == "end":
                ended = True
                held.close()
            stays = "true" if thread else "false"
            caller.sendall(f'{{"pid": {os.getpid()}, "stays": {stays}, {said}}}'.encode())
    held.close()


def drop_privileges() -> None:
    """Keep no capability, no writable file, no way to gain a privilege or to start a process."""
    libc = ctypes.CDLL(None)
    os.chdir("/")
    for user in USERS if os.geteuid() == 0 else ():
        with contextlib.suppress(OSError):  # a container may lack CAP_SETUID
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            break
    libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def main() -> None:
    """Arguments: the descriptors of the listening socket and of those that hold groups.

    Standard input: the device's name as JSON text, its index, the groups, one a line.
    """
    if os.fork():
        os._exit(0)  # whoever started us need not wait for us
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("ovs-mcast-keep")
    listener, *sockets = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    owner = os.geteuid()
    device, index, *groups = sys.stdin.buffer.read().decode("ascii").splitlines()
    held = Held(device, int(index), groups, sockets)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    drop_privileges()
    os.write(1, b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    serve(listener, held, owner)


if __name__ == "__main__":
    main()
