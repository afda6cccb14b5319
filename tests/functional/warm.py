"""Fork server for `python -m ovs_mcast.setup` on hosts of the lab: the imports are done once.

Each run is a process in the namespaces of its host, with its own exit status, forked from one
process that has imported the package. Without it the imports take most of a second for each run.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from select import select
from typing import IO, TYPE_CHECKING, Any

from ovs_mcast.lab.namespace import patient

if TYPE_CHECKING:
    from ovs_mcast.lab import Host
    from ovs_mcast.setup.command import OpenHost

_NAMESPACES = {"pid": 0x20000000, "net": 0x40000000, "mnt": 0x00020000}
_NOBODY = 65534
_REQUEST_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended: its exit status (negative: the signal), stdout, stderr and duration."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        """The JSON document that is all of stdout."""
        report: dict[str, Any] = json.loads(self.stdout)
        return report

    @property
    def changes(self) -> list[str]:
        """The changes of the report, one line each, in order."""
        return [f"{c['action']} {c['kind']} {c['target']}" for c in self.report["changes"]]

    @property
    def problems(self) -> str:
        """The problems of the report, in one text."""
        return "\n".join(self.report["problems"])


class Run:
    """A started run; ``pid``, as seen from outside, is not reused before ``wait`` returns."""

    def __init__(self, connection: socket.socket, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._connection, self._stdout, self._stderr = connection, stdout, stderr
        self._started = time.monotonic()
        connection.settimeout(patient(60))
        self.pid = int(connection.recv(64))

    def kill(self) -> None:
        """Kill -9; a run that has ended stays as it is."""
        os.kill(self.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Return True if the run has ended, so that `wait` returns at once."""
        return bool(select([self._connection], [], [], 0)[0])

    def said(self) -> str:
        """Return stderr so far."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def wait(self, timeout: float = 60.0) -> Result:
        """Wait for the end and return the result; fail if stderr has a traceback."""
        self._connection.settimeout(patient(timeout))
        files = (self._stdout, self._stderr)
        with self._connection, self._stdout, self._stderr:
            status = int(self._connection.recv(64))
            seconds = time.monotonic() - self._started
            texts = [os.pread(file.fileno(), 1 << 24, 0).decode() for file in files]
        assert "Traceback" not in texts[1], texts[1]
        return Result(status, texts[0], texts[1], seconds)


class Warm:
    """The server process, which has imported the package; ``close`` ends it."""

    def __init__(self) -> None:
        import ovs_mcast  # noqa: PLC0415 - the server, of the same file, is to count its imports

        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_OCTETS)
        package = Path(ovs_mcast.__file__).resolve().parents[1]
        with theirs:
            environment = os.environ | {"PYTHONPATH": str(package)}
            self._server = subprocess.Popen(
                [sys.executable, __file__], stdin=theirs.fileno(), env=environment
            )

    def start(
        self,
        host: Host,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        nobody: bool = False,
        count: Path | None = None,
        bare: bool = False,
        program: str = "",
    ) -> Run:
        """Start a run with ``--json``, the host's underlay and datapath, and autojoin by default.

        ``nobody`` runs without privileges; ``count`` is a file for the cost of the run; ``bare``
        adds no option, not even ``--json``; ``program``, MODULE:NAME, is a function that is called
        with the arguments in place of setup.
        """
        named = {argument.partition("=")[0] for argument in arguments}
        given: tuple[str, ...] = ()
        bare = bare or bool(program)
        if not bare and not named & {"--underlay", "--config", "--teardown"}:
            given = ("--underlay", host.underlay, "--datapath", host.datapath)
            given += () if "--membership" in named else ("--membership", "autojoin")
        request = {
            "argv": ["ovs_mcast.setup", *given, *arguments, *([] if bare else ["--json"])],
            "pid": host.pid,
            "env": {"OVS_RUNDIR": "/run/openvswitch", **(env or {})},
            "nobody": nobody,
            "count": str(count or ""),
            "program": program,
        }
        stdout, stderr = _unnamed_file(), _unnamed_file()
        # Of datagrams: a run that ends at once must not have its status read with its process id.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
        return Run(ours, stdout, stderr)

    def setup(self, host: Host, *arguments: str, **options: Any) -> Result:
        """Run setup to its end."""
        return self.start(host, *arguments, **options).wait()

    def close(self) -> None:
        """End the server; unfinished runs end with their hosts."""
        self._control.close()
        self._server.wait(patient(20))


def _unnamed_file() -> IO[bytes]:
    return os.fdopen(os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR, 0o600), "r+b")


def _serve() -> dict[str, Any] | None:
    """Fork for each request; returns the request in the process that shall carry it out."""
    control = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _REQUEST_OCTETS, 3)
        if not data:
            return None
        if os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request: dict[str, Any] = json.loads(data)
        connection = socket.socket(fileno=descriptors[0])
        _enter(request["pid"], "pid")
        child = os.fork()
        if child == 0:
            control.close()
            connection.close()
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(descriptors[1], 1)
            os.dup2(descriptors[2], 2)
            return request
        connection.send(str(child).encode())
        # Not reaped before the other side has closed: until then the process id is this run's.
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        exited = ended.si_code == os.CLD_EXITED
        connection.send(str(ended.si_status if exited else -ended.si_status).encode())
        connection.recv(1)
        # Its namespace does not end before it is reaped, which not every init does.
        os.waitpid(child, 0)
        os._exit(0)


def _enter(process: int, *kinds: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    opened = {kind: os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY) for kind in kinds}
    for kind, descriptor in opened.items():
        if libc.setns(descriptor, _NAMESPACES[kind]) != 0:
            raise OSError(ctypes.get_errno(), f"setns {kind}")
        os.close(descriptor)


def _carry_out(request: Mapping[str, Any]) -> None:
    from ovs_mcast.setup import command  # noqa: PLC0415

    program: Callable[[], None] = command.main
    if request["program"]:  # imported while it may be read
        module, _, name = request["program"].partition(":")
        program = partial(vars(import_module(module))[name], *request["argv"][1:])
    directory = Path.cwd()
    _enter(request["pid"], "net", "mnt")
    os.chdir(directory)
    os.environ.update(request["env"])
    if request["count"]:
        program = partial(command.main, _counting(Path(request["count"])))
    if request["nobody"]:
        for package in ("ovs_mcast", "typer", "rich"):  # all that is imported late, while it can be
            import_all_of(package)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    sys.argv = list(request["argv"])
    program()


def _counting(result: Path) -> OpenHost:
    """Return a `connect` for a run that writes, at its end, how many requests it has made.

    Counted are the processes that it started, batches to the kernel, and transactions.
    """
    import atexit  # noqa: PLC0415
    from collections import Counter  # noqa: PLC0415

    from ovs_mcast.host import host  # noqa: PLC0415
    from ovs_mcast.host.connect import connect  # noqa: PLC0415
    from tests.functional.counting import with_counts  # noqa: PLC0415

    spent: Counter[str] = Counter()
    processes: list[list[str]] = []

    def connected(db: str | None) -> host.Host:
        opened = connect(db)
        opened.backend = with_counts(opened.backend, spent)
        return opened

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            processes.append([str(part) for part in arguments[1]])
        elif event in {"os.fork", "os.forkpty", "os.system", "os.posix_spawn", "os.exec"}:
            processes.append([event])

    def tell() -> None:
        seen = {
            "processes": processes,
            "batches": spent["netlink batches"],
            "transactions": spent["transactions"],
        }
        result.write_text(json.dumps(seen))

    sys.addaudithook(heard)
    atexit.register(tell)
    return connected


def import_all_of(package: str) -> None:
    """Import every module of a package that can be."""
    for found in walk_packages(import_module(package).__path__, f"{package}."):
        if not found.name.endswith(".__main__"):
            with suppress(ImportError, AssertionError):  # for another system, or a notebook
                import_module(found.name)


IMPORTS = (
    "ovs_mcast.lab.command",
    "ovs_mcast.setup.command",
    "ovs_mcast.agent.command",
    "encodings.ascii",
    "rich.markup",
)

if __name__ == "__main__":
    for module in IMPORTS:
        import_module(module)
    gc.freeze()  # or each run's collections would copy all that was imported
    if wanted := _serve():
        _carry_out(wanted)
