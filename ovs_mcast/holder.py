"""The program of the keeper: it holds the sockets it was given, and nothing else.

Standard library alone, run as a file by `python -I -S`, so that it stays small. It inherits the
sockets that are members of the groups and a listening unix socket, and ends when it is told to.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct
import sys

NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_PATIENCE = 2.0  # seconds that one caller may take to say what it wants


def serve(listener: socket.socket, says: bytes, owner: int) -> None:
    """Answer with our pid and what is held; return at `end`. Only root and the owner may ask."""
    while True:
        caller, _ = listener.accept()
        with caller, contextlib.suppress(OSError):
            caller.settimeout(_PATIENCE)
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[1] not in {0, owner}:
                continue
            word = caller.recv(16)
            caller.sendall(b'{"pid": %d, ' % os.getpid() + says[1:])
            if word == b"end":
                return


def drop_privileges() -> None:
    """Keep no capability, no writable file, no way to gain a privilege or to start a process."""
    libc = ctypes.CDLL(None)
    os.chdir("/")
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a container may lack CAP_SETUID
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def main() -> None:
    """Argument: the descriptor of the listening socket. Standard input: what `look` is answered."""
    if os.fork():
        os._exit(0)  # whoever started us need not wait for us
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("ovs-mcast-keep")
    listener = socket.socket(fileno=int(sys.argv[1]))
    owner = os.geteuid()
    says = sys.stdin.buffer.read()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    drop_privileges()
    os.write(1, b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    serve(listener, says, owner)


if __name__ == "__main__":
    main()
