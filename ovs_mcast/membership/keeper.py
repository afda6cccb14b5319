"""The keeper of an overlay: found, asked to join and leave, replaced, and ended.

A keeper is the process that holds socket memberships after `setup` has returned, one per overlay.
It listens at a name of its network namespace, as memberships belong to one. A new keeper joins
before the old one is asked to end, so that no group is left in between.
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .. import files
from ..adapters import unix_socket
from ..core.items import GroupMembership
from ..core.status import Holder
from ..errors import UnavailableError
from . import keeper_process
from .device_groups import DeviceGroups
from .holder import ProcessEnd, holder, process_end
from .keeper_messages import KeeperAnswer, ask, end
from .sockets import GroupSockets

# In isolated mode Python has no folder of its own program; appended, ours hides no other module.
_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); "
    "from membership.keeper_process import main; main()"
)


_NAME_MAX = 200  # bytes


class KeeperError(Exception):
    """The groups could not be joined, or the process to hold them did not start."""


Start = Callable[[str, socket.socket, GroupSockets, str], None]
"""Start a holder of the sockets of an overlay (its name) on a device; it listens at the socket."""


class Keeper:
    """The keeper of one overlay; ``rundir`` is the directory of Open vSwitch's sockets.

    Trusts keepers run by root, by this user or by the owner of ``rundir``. The file
    <overlay>.keeper there is a hint: it lets inotify(7) watchers notice a new keeper, and lookup
    works without it. ``start`` starts the holder of the sockets, by default a process.
    """

    def __init__(self, rundir: Path, overlay: str, start: Start | None = None) -> None:
        self._overlay, self._start = overlay, start or _start_process
        self._rundir = rundir
        self._file = rundir / f"ovs-mcast-{overlay}.keeper"
        place = hashlib.sha256(f"{rundir.resolve()} {overlay}".encode()).hexdigest()
        self._prefix = f"ovs-mcast-keeper-{place[:32]}-"

    def query(self) -> KeeperAnswer | None:
        """Return the running keeper's report; None if no keeper runs."""
        return next((answer for _name, answer in self._answers()), None)

    def held(self, joined: Callable[[str], frozenset[str]]) -> GroupMembership | None:
        """Return the groups that are really held; None if no keeper runs.

        Those are the groups that the keeper joined and of which its device is a member (``joined``
        of the device). A device that was removed and made again is another: it has none of them.
        """
        answer = self.query()
        if answer is None:
            return None
        with suppress(OSError):
            if socket.if_nametoindex(answer.device) == answer.index:
                members = joined(answer.device)
                held = tuple(group for group in answer.groups if group in members)
                return GroupMembership(answer.device, held)
        return GroupMembership(answer.device, ())

    def replace(self, membership: GroupMembership) -> None:
        """Start a keeper that holds the groups, then end all others. KeeperError on failure."""
        with self._successor(membership) as (listener, sockets, take_over):
            self._start(self._overlay, listener, sockets, membership.device)
            take_over()

    def join(self, device: str, group: str) -> None:
        """Ask the running keeper to join one more group.

        KeeperError if no keeper runs for the device, or the kernel refuses.
        """
        self._request("join", device, group)

    def leave(self, device: str, group: str) -> None:
        """Ask the running keeper to leave one group. KeeperError as for join."""
        self._request("leave", device, group)

    def _request(self, verb: str, device: str, group: str) -> None:
        _name, connection = next(self._connections(), ("", None))
        if connection is None:
            raise KeeperError("no keeper runs")
        try:
            request = f"{verb} {socket.if_nametoindex(device)} {group}"
        except OSError:
            connection.close()
            raise KeeperError(f"there is no device {device}") from None
        answer = ask(connection, request)
        refused = errno.EPIPE if answer is None else answer.refused
        if refused:
            raise KeeperError(f"the keeper cannot {verb} {group}: {os.strerror(refused)}")

    def hold(self, membership: GroupMembership, ready: Callable[[], None]) -> None:
        """Hold the groups in the calling thread until asked to `end`. KeeperError on failure.

        ``ready`` is called once the groups are held and the former keeper has ended.
        """
        with self._successor(membership) as (listener, sockets, take_over):
            take_over()
            ready()
            try:
                keeper_process.serve(listener, sockets, json.dumps(membership.device), os.geteuid())
            finally:
                listener.close()
                self.forget()

    def forget(self) -> None:
        """Remove the file of a keeper, if no keeper runs."""
        if self.query() is None:
            self._unlink()

    def drop_duplicates(self) -> None:
        """End all keepers but one: a run that was killed while it replaced one leaves two."""
        if len(self._names()) > 1:
            self._end_others(next((name for name, _answer in self._answers()), ""))

    def process_end(self) -> ProcessEnd | None:
        """Open the end of the keeper's process; None if no process but an agent's holds groups."""
        found = self.query()
        return None if found is None or found.stays else process_end(found.pid)

    def holder(self) -> Holder:
        """Return the process that holds the groups, by its kind."""
        found = self.query()
        return holder(found.pid if found else None)

    def end(self) -> None:
        """End the keeper, if one runs, and remove its file."""
        self._end_others("")
        self._unlink()

    @contextmanager
    def _successor(
        self, membership: GroupMembership
    ) -> Iterator[tuple[socket.socket, GroupSockets, Callable[[], None]]]:
        """Yield (listener, sockets, take_over).

        The sockets have joined the groups; ``take_over`` ends all other keepers.
        """
        name = f"{self._prefix}{time.monotonic_ns():020}"
        taken_over = False

        def take_over() -> None:
            nonlocal taken_over
            self._end_others(name)
            self._publish(name)
            taken_over = True

        with ExitStack() as opened:
            try:
                groups = opened.enter_context(DeviceGroups(membership.device))
                groups.join(membership.groups)
                listener = opened.enter_context(unix_socket.listen(name))
                yield listener, groups.sockets, take_over
            except (UnavailableError, OSError) as error:
                raise KeeperError(str(error)) from None
            finally:
                opened.close()
                connection = None if taken_over else unix_socket.connect(name, {os.geteuid()})
                if connection is not None:
                    end(connection)

    def _publish(self, name: str) -> None:
        """Write the keeper's name to the file."""
        with suppress(OSError):  # watchers then notice at the next reconcile
            files.replace(self._file, name)

    def _published(self) -> str:
        with suppress(OSError, ValueError):
            return files.read(self._file, _NAME_MAX, follow=False).decode("ascii")
        return ""

    def _unlink(self) -> None:
        for file in (self._file, self._file.with_suffix(".new")):
            with suppress(OSError):
                file.unlink()

    def _names(self) -> list[str]:
        """Return the names at which keepers listen, the newest first."""
        return unix_socket.names(self._prefix)[::-1]

    def _connections(self, but: str = "") -> Iterator[tuple[str, socket.socket]]:
        """Connect to keepers, by name: to the published one, then to the others, newest first.

        Lazily: the others are not listed if the published one suffices.
        """
        published, trusted = self._published(), {0, os.geteuid()}
        with suppress(OSError):
            trusted.add(self._rundir.stat().st_uid)
        if published.startswith(self._prefix) and published != but:
            connection = unix_socket.connect(published, trusted)
            if connection is not None:
                yield published, connection
        for name in self._names():
            if name not in {published, but}:
                connection = unix_socket.connect(name, trusted, wait=False)
                if connection is not None:
                    yield name, connection

    def _answers(self) -> Iterator[tuple[str, KeeperAnswer]]:
        """Return the keepers that answer, each with its name, in the order of connections."""
        for name, connection in self._connections():
            answer = ask(connection, "look")
            if answer is not None:
                yield name, answer

    def _end_others(self, but: str) -> None:
        for _name, connection in self._connections(but):
            end(connection)


def _start_process(
    _overlay: str, listener: socket.socket, sockets: GroupSockets, device: str
) -> None:
    """Start a process in a session of its own, which inherits the sockets and outlives us.

    Not as process 1: with that all processes of a PID namespace end (pid_namespaces(7)).
    """
    if os.getpid() == 1:
        raise KeeperError(
            "it would end with this process, the first of its PID namespace: use --membership "
            "repaired or peer, or the host's PID namespace"
        )
    descriptors = [listener.fileno(), *sockets.descriptors]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, descriptors)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
        env={},
        cwd="/",
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None
    with stdin, stdout, stderr:
        stdin.write("\n".join((json.dumps(device), str(sockets.index), *sockets.groups)).encode())
        stdin.close()
        ready = stdout.readline() == b"ready\n"
        complaint = "" if ready else stderr.read().decode(errors="replace")
    process.wait()  # the program forks: the process that holds the sockets is not our child
    if not ready:
        lines = [line for line in complaint.split("\n") if line.strip()] or ["no reason given"]
        raise KeeperError(f"the keeper did not start: {lines[-1]}")
