"""The keeper's program: hold the inherited sockets, and join or leave one more group on request.

Standard library and ``sockets`` alone, run by `python -I -S`, so that it stays small. It inherits
the sockets that are members of the groups, and a listening unix socket, and ends on request. A
thread of a process that holds the groups itself answers the same requests alike.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

from .sockets import GroupSockets

# No other process has this user: the number is beyond those that useradd, systemd and containers
# assign (systemd's UIDS-GIDS). A user namespace that lacks it has the second.
USERS = (0x7000006D, 65534)
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_REQUEST_SECONDS = 2.0  # for one caller to send its request
_PAUSE = 0.1  # seconds until the next try to accept if descriptors have run out


def serve(
    listener: socket.socket,
    held: GroupSockets,
    device: str,
    owner: int,
    *,
    thread: int | None = None,
) -> None:
    """Answer requests with our pid and the groups held; return at `end`, all groups released.

    ``device`` is the device's name as JSON text. Only root and ``owner`` may ask. ``thread`` is the
    descriptor of a pipe where the process outlives this call: it ends once the pipe does.
    """
    ended = False
    while not ended:
        if thread is not None and _has_ended(thread, listener):
            break
        try:
            caller, _ = listener.accept()
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.EBADF}:
                break
            time.sleep(_PAUSE)
            continue
        with caller, contextlib.suppress(OSError):
            caller.settimeout(_REQUEST_SECONDS)
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[1] not in {0, owner}:
                continue
            request = caller.recv(256).decode("ascii", "replace").strip() or "look"
            answer = _answer(held, device, request)
            if request == "end":
                ended = True
                held.close()
            stays = "false" if thread is None else "true"
            caller.sendall(f'{{"pid": {os.getpid()}, "stays": {stays}, {answer}}}'.encode())
    held.close()


def _has_ended(pipe: int, listener: socket.socket) -> bool:
    """Wait for a caller or the end of a pipe; return whether that is it.

    Closing a socket wakes no green thread that waits in accept. Eventlet takes select.poll away.
    """
    if not hasattr(select, "poll"):
        return pipe in select.select([pipe, listener.fileno()], [], [])[0]
    polling = select.poll()
    polling.register(pipe, select.POLLIN)
    polling.register(listener, select.POLLIN)
    return pipe in dict(polling.poll())


def _answer(held: GroupSockets, device: str, request: str) -> str:
    """Carry out a request; return members of a JSON object.

    `join INDEX GROUP` and `leave INDEX GROUP` are for the device of that index alone.
    """
    verb, *rest = request.split()
    head = f'"device": {device}, "index": {held.index}'
    if verb not in {"join", "leave"}:
        groups = ", ".join(f'"{group}"' for group in held.groups)
        return f'{head}, "groups": [{groups}]'
    try:
        if len(rest) != 2 or rest[0] != str(held.index):
            raise OSError(errno.ENODEV, "another device")
        (held.join if verb == "join" else held.leave)(rest[1])
    except OSError as error:
        return f'{head}, "refused": {error.errno or errno.EINVAL}'
    return f'{head}, "refused": 0'


def drop_privileges() -> None:
    """Keep no capability, no writable file, and no means to gain a privilege or start a process."""
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
    """Run the program.

    Arguments: the descriptors of the listening socket and of those that hold groups. Standard
    input: the device's name as JSON text, its index, the groups, one a line.
    """
    if os.fork():
        os._exit(0)  # the process that started this one need not wait for the keeper
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("ovs-mcast-keep")
    listener, *sockets = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    owner = os.geteuid()
    device, index, *groups = sys.stdin.buffer.read().decode("ascii").splitlines()
    held = GroupSockets(int(index), groups, sockets)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    drop_privileges()
    os.write(1, b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    serve(listener, held, device, owner)
