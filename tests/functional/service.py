"""A service manager for one agent on a host of the lab: sd_notify(3) and a descriptor store.

It keeps what FDSTORE=1 gives it, closes what FDSTOREREMOVE=1 names, and hands all of it to the
next process that it starts, by sd_listen_fds(3), as systemd does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread

from ovs_mcast.core.closeable import Closeable
from ovs_mcast.lab.namespace import OVS_DIRECTORIES, patient
from tests.functional.agents import CONFIG
from tests.functional.node import Node
from tests.functional.wire import eventually

_SOCKET = "/run/notify"
_MOST = 253  # descriptors of one message: SCM_MAX_FD
_TOP = Path(__file__).parents[2]
# The process id is known and the descriptors are where they belong, then it is the agent. They come
# by a message, since nsenter(1), which stays, would inherit them too; and first above all numbers
# that they are to get.
_EXEC = """
import fcntl, os, socket, sys
with socket.socket(fileno=os.dup(0)) as given:
    received = socket.recv_fds(given, 1, 253)[1]
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
handed = [fcntl.fcntl(one, fcntl.F_DUPFD, 1000) for one in received]
os.closerange(3, 1000)
for number, one in enumerate(handed):
    os.dup2(one, 3 + number)
    os.close(one)
if handed:
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "ovs_mcast.agent", *sys.argv[1:]])
"""


class Service(Closeable):
    """The agent as a service of one host, and the store of its descriptors; a context.

    ``told`` are the notifications in order: a word, and the name of what is stored or discarded.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        self._stored: list[tuple[str, int]] = []
        self._lock = Lock()
        self.told: list[tuple[str, str]] = []
        self._stderr = os.memfd_create("stderr")
        self._path = node.host.path(_SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._listening = Thread(target=self._listen)
        self._listening.start()

    def stored(self) -> dict[str, int]:
        """How many descriptors there are by each name."""
        with self._lock:
            names = [name for name, _ in self._stored]
        return {name: names.count(name) for name in names}

    def inodes(self, name: str) -> set[str]:
        """Return the sockets stored under a name, as /proc shows the files of a process."""
        with self._lock:
            stored = [descriptor for one, descriptor in self._stored if one == name]
        return {f"socket:[{os.fstat(descriptor).st_ino}]" for descriptor in stored}

    def put(self, name: str) -> None:
        """Store another program's socket under a name."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            self._keep(name, os.dup(other.fileno()))

    def lose(self) -> None:
        """Close all that is stored."""
        with self._lock:
            while self._stored:
                os.close(self._stored.pop()[1])

    def start(self) -> None:
        """Start the agent with the descriptors that are stored."""
        self.told.clear()
        with self._lock:
            names = [name for name, _ in self._stored]
            descriptors = [descriptor for _, descriptor in self._stored]
        environment = {**os.environ, **OVS_DIRECTORIES, "PYTHONPATH": str(_TOP)}
        environment["NOTIFY_SOCKET"] = _SOCKET
        if names:
            environment |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        given, theirs = socket.socketpair()
        with given, theirs:
            socket.send_fds(given, [b"!"], descriptors)
            self._process = subprocess.Popen(
                [
                    *(*self._node.host.enter_command(), "--", sys.executable, "-c", _EXEC),
                    *("--config", CONFIG, "-v"),
                ],
                env=environment,
                stdin=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )

    def hears(self, word: str, name: str = "") -> None:
        """Wait for a notification that begins with this word, of that name."""

        def told() -> bool:
            return any(one.startswith(word) and of == name for one, of in list(self.told))

        assert eventually(told, seconds=40), (word, name, self.told, self.said())

    def starts(self) -> None:
        """Start the agent, and wait until all is applied."""
        self.start()
        self.hears("READY=1")

    def said(self) -> str:
        """Return the stderr of the agents."""
        return os.pread(self._stderr, 1 << 20, 0).decode()

    @property
    def pid(self) -> int:
        """The agent's process id as seen from outside of its host."""
        assert self._process is not None
        parent = self._process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text())

    def kill(self) -> None:
        """Kill -9, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self._ended()

    def close(self) -> None:
        """End the agent, and close all that is stored."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._ended()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listening.join()
        self._socket.close()
        self._path.unlink()
        os.close(self._stderr)
        self.lose()

    def _ended(self) -> int:
        assert self._process is not None
        status = self._process.wait(patient(30))
        self._process = None
        return status

    def _listen(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, _MOST)
            if not message:
                return
            word, *others = message.decode().split("\n")
            named = dict(line.partition("=")[::2] for line in others)
            name = named.get("FDNAME", "")
            if word == "FDSTOREREMOVE=1":
                self._remove(name)
            for descriptor in descriptors:
                self._keep(name, descriptor)
            self.told.append((word, name))

    def _keep(self, name: str, descriptor: int) -> None:
        with self._lock:
            if any(os.path.sameopenfile(descriptor, one) for _, one in self._stored):
                os.close(descriptor)
            else:
                self._stored.append((name, descriptor))

    def _remove(self, name: str) -> None:
        with self._lock:
            for stored in [one for one in self._stored if one[0] == name]:
                self._stored.remove(stored)
                os.close(stored[1])
