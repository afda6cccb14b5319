"""The process that holds socket memberships after `setup` has returned: found, replaced, ended.

One per overlay. It is reached by a name of its network namespace, as memberships are of one; a new
one joins before the old one is told to let go, so that no group is left in between.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from netaddr import IPAddress
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_exponential

from ..adapters import unix_socket
from ..core.items import GroupMembership
from ..core.status import Holder
from ..errors import UnavailableError
from . import keeper_process
from .holder import ProcessEnd, holder, process_end
from .sockets import Memberships

_PATIENCE = 5.0


class KeeperError(Exception):
    """The groups could not be joined, or the process that shall hold them did not start."""


@dataclass(frozen=True, slots=True)
class Found:
    """A keeper that answered: its process and what it joined."""

    pid: int
    stays: bool  # a thread: its process does not end with it
    device: str
    index: int
    groups: tuple[str, ...]
    refused: int  # an errno, of a group that was to be joined or left


Start = Callable[[str, socket.socket, Memberships, GroupMembership], None]


class Keeper:
    """The keeper of one overlay, if one runs; ``rundir`` is where Open vSwitch has its sockets.

    Whoever owns that directory is trusted to be a keeper, as root is. A file in there, if it can be
    made, has the keeper's name, and tells those who watch (inotify(7)) that it is new; a keeper is
    found without it, too. ``start`` sets off what is to hold the sockets; by default a process.
    """

    def __init__(self, rundir: Path, overlay: str, start: Start | None = None) -> None:
        self._overlay, self._start = overlay, start or _process
        self._rundir = rundir
        self._file = rundir / f"ovs-mcast-{overlay}.keeper"
        self._new_file = self._file.with_suffix(".new")
        place = hashlib.sha256(f"{rundir.resolve()} {overlay}".encode()).hexdigest()
        self._prefix = f"ovs-mcast-keeper-{place[:32]}-"

    def look(self) -> Found | None:
        """What the running keeper says that it holds; None if none runs."""
        return next((found for _name, found in self._found()), None)

    def held(self, joined: Callable[[str], frozenset[str]]) -> GroupMembership | None:
        """What it truly holds: of the groups it joined those that its device is a member of.

        A device that was removed and made again is another device, of which nothing is held.
        """
        found = self.look()
        if found is None:
            return None
        with suppress(OSError):
            if socket.if_nametoindex(found.device) == found.index:
                there = joined(found.device)
                held = tuple(group for group in found.groups if group in there)
                return GroupMembership(found.device, held)
        return GroupMembership(found.device, ())

    def replace(self, membership: GroupMembership) -> None:
        """Start what holds the groups, then end what did. KeeperError if not."""
        with self._successor(membership) as (listener, held, take_over):
            self._start(self._overlay, listener, held, membership)
            take_over()

    def join(self, device: str, group: str) -> None:
        """Let the running keeper join one group more. KeeperError if none runs for the device."""
        self._tell("join", device, group)

    def leave(self, device: str, group: str) -> None:
        """Let it leave one. KeeperError as for join."""
        self._tell("leave", device, group)

    def _tell(self, verb: str, device: str, group: str) -> None:
        _name, caller = next(self._callers(), ("", None))
        if caller is None:
            raise KeeperError("no keeper runs")
        try:
            word = f"{verb} {socket.if_nametoindex(device)} {group}"
        except OSError:
            caller.close()
            raise KeeperError(f"there is no device {device}") from None
        found = _say(caller, word.encode())
        refused = errno.EPIPE if found is None else found.refused
        if refused:
            raise KeeperError(f"the keeper cannot {verb} {group}: {os.strerror(refused)}")

    def hold(self, membership: GroupMembership, ready: Callable[[], None]) -> None:
        """Hold the groups in this very process until somebody says `end`; KeeperError if not.

        ``ready`` is called once the groups are held and the process that did has ended.
        """
        with self._successor(membership) as (listener, held, take_over):
            take_over()
            groups = copied(held, membership)
            held.close()
            ready()
            try:
                keeper_process.serve(listener, groups, os.geteuid())
            finally:
                listener.close()
                self.forget()

    def forget(self) -> None:
        """Remove the file that tells of a keeper, if none runs."""
        if self.look() is None:
            self._unlink()

    def settle(self) -> None:
        """After a run that was killed while it replaced a keeper: of two, keep the one found.

        Nothing happens where no such run was.
        """
        if len(self._names()) > 1:
            self._end_others(next((name for name, _found in self._found()), ""))

    def process_end(self) -> ProcessEnd | None:
        """Open the end of the keeper's process; None if no process but an agent's holds groups."""
        found = self.look()
        return None if found is None or found.stays else process_end(found.pid)

    def holder(self) -> Holder:
        """Return the process that holds the groups, by its kind."""
        found = self.look()
        return holder(found.pid if found else None)

    def end(self) -> None:
        """End the keeper, if one runs, and leave no file of it."""
        self._end_others("")
        self._unlink()

    @contextmanager
    def _successor(
        self, membership: GroupMembership
    ) -> Iterator[tuple[socket.socket, Memberships, Callable[[], None]]]:
        """Memberships that hold the groups, one that listens, and what makes them the keeper's.

        By `take_over` all others end.
        """
        name = f"{self._prefix}{time.monotonic_ns():020}"
        taken_over = False

        def take_over() -> None:
            nonlocal taken_over
            self._end_others(name)
            self._tell_of_it(name)
            taken_over = True

        with ExitStack() as opened:
            try:
                held = opened.enter_context(closing(Memberships(membership.device)))
                held.join(map(IPAddress, membership.groups))
                listener = opened.enter_context(unix_socket.listen(name))
                yield listener, held, take_over
            except (UnavailableError, OSError) as error:
                raise KeeperError(str(error)) from None
            finally:
                opened.close()
                caller = None if taken_over else unix_socket.connect(name, {os.geteuid()})
                if caller is not None:
                    _end(caller)

    def _tell_of_it(self, name: str) -> None:
        with suppress(OSError):  # whoever watches sees it at its next look
            self._new_file.touch(mode=0o600)
            self._new_file.write_text(name)
            self._new_file.rename(self._file)

    def _unlink(self) -> None:
        for file in (self._file, self._new_file):
            with suppress(OSError):
                file.unlink()

    def _names(self) -> list[str]:
        """Where keepers listen, the newest first."""
        return unix_socket.names(self._prefix)[::-1]

    def _told(self) -> str:
        with suppress(OSError, ValueError):
            return self._file.read_text("ascii")
        return ""

    def _callers(self, but: str = "") -> Iterator[tuple[str, socket.socket]]:
        """Connections to keepers, by name: to the one that the file tells of, then to the newest.

        No other is looked for where that is enough.
        """
        told, trusted = self._told(), {0, os.geteuid()}
        with suppress(OSError):
            trusted.add(self._rundir.stat().st_uid)
        if told.startswith(self._prefix) and told != but:
            caller = unix_socket.connect(told, trusted)
            if caller is not None:
                yield told, caller
        for name in self._names():
            if name not in {told, but}:
                caller = unix_socket.connect(name, trusted, wait=False)
                if caller is not None:
                    yield name, caller

    def _found(self) -> Iterator[tuple[str, Found]]:
        """The keepers that answer, each with its name, in the order of callers."""
        for name, caller in self._callers():
            found = _say(caller, b"look")
            if found is not None:
                yield name, found

    def _end_others(self, but: str) -> None:
        for _name, caller in self._callers(but):
            _end(caller)


def _process(
    _overlay: str, listener: socket.socket, held: Memberships, membership: GroupMembership
) -> None:
    """A process of its own session, which inherits the sockets and outlives us."""
    descriptors = [listener.fileno(), *held.descriptors]
    program = [sys.executable, "-I", "-S", keeper_process.__file__, *map(str, descriptors)]
    process = subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
        env={},
        cwd="/",
    )
    given, said, complaint = process.stdin, process.stdout, process.stderr
    assert given is not None
    assert said is not None
    assert complaint is not None
    with given, said, complaint:
        given.write("\n".join((*_device(membership.device), *membership.groups)).encode())
        given.close()
        ready = said.readline() == b"ready\n"
        words = [] if ready else complaint.read().decode(errors="replace").split("\n")
    process.wait()  # the program forks: what holds the sockets is not our child
    if ready:
        return
    words = [word for word in words if word.strip()]
    raise KeeperError(f"the keeper did not start: {words[-1] if words else 'no reason given'}")


def _device(name: str) -> tuple[str, str]:
    return json.dumps(name), str(socket.if_nametoindex(name))


def copied(
    held: Memberships, membership: GroupMembership, grown: Callable[[int], None] = lambda _: None
) -> keeper_process.Held:
    """The same sockets once more, to be held in this process as the keeper's program does.

    ``grown`` is called with the descriptor of each socket more that it takes.
    """
    sockets = [socket.socket(fileno=os.dup(number)) for number in held.descriptors]
    device, index = _device(membership.device)
    return keeper_process.Held(device, int(index), membership.groups, sockets, grown)


def _say(caller: socket.socket, word: bytes) -> Found | None:
    """What a keeper answers; None if it ends before it has."""
    said = bytearray()
    with caller:
        try:
            caller.sendall(word)
            while part := caller.recv(1 << 16):
                said += part
            found = json.loads(said)
            return Found(
                pid=int(found["pid"]),
                stays=bool(found.get("stays")),
                device=str(found["device"]),
                index=int(found["index"]),
                groups=tuple(sorted(found.get("groups", ()), key=_packed)),
                refused=int(found.get("refused", 0 if word in {b"look", b"end"} else errno.EPROTO)),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _packed(group: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in group else socket.AF_INET, group)


def _end(caller: socket.socket) -> None:
    """Tell who listens there to end; wait until its process has."""
    found = _say(caller, b"end")
    if found is None or found.stays:
        return
    attempts = Retrying(
        retry=retry_if_result(lambda there: there),
        wait=wait_exponential(multiplier=0.002, max=0.05),
        stop=stop_after_delay(_PATIENCE),
        retry_error_callback=lambda _state: None,
    )
    attempts(_alive, found.pid)


def _alive(pid: int) -> bool:
    """Whether the process still has its sockets: a zombie has none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}
