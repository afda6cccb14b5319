"""Memberships held by this very process, for agents: threads in place of keepers.

Each is found, asked and ended as a keeper is, through the same unix socket, so that a run of
`setup` finds what an agent holds, and can take it over.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from ..core.closeable import Closeable
from ..core.items import GroupMembership
from ..errors import UnavailableError
from . import keeper_process
from .keeper import Keeper, KeeperError, copied
from .sockets import Memberships

_STORED = "ovs-mcast-"  # the names of sets of sockets begin with it


class Store(Protocol):
    """Where duplicates of sockets outlive this process, as adapters.systemd.Notify has them.

    As long as one duplicate is open the kernel keeps the groups of a socket, whoever else ends.
    """

    def store(self, name: str, descriptors: Sequence[int]) -> None:
        """Keep duplicates of some more, under a name."""

    def discard(self, name: str) -> None:
        """Close all that is kept under a name."""


def left_behind(handed: Mapping[str, Sequence[int]]) -> list[str]:
    """The names of the sets that a process before us has stored, of what a store hands to us.

    The store keeps its own duplicates until it is told to discard them, so ours are closed.
    """
    names = [name for name in handed if name.startswith(_STORED)]
    for name in names:
        for descriptor in handed[name]:
            os.close(descriptor)
    return names


@dataclass(frozen=True, slots=True)
class _Holding:
    """A thread that holds the groups of one overlay, and the socket that it answers at."""

    thread: threading.Thread
    listener: socket.socket

    def end(self) -> None:
        """End the thread, if nobody has; what it held is let go of."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()


class InProcessKeepers(Closeable):
    """What the keepers of one Host are: threads of this process, until ``close``.

    ``store`` has a duplicate of each socket for as long as its thread holds it.
    """

    def __init__(self, rundir: Path, store: Store | None = None) -> None:
        self._rundir, self._store = rundir, store
        self._holdings: dict[str, _Holding] = {}

    def keeper(self, overlay: str) -> InProcessKeeper:
        """The keeper of an overlay."""
        return InProcessKeeper(self._rundir, overlay, self)

    def holds(self, overlay: str) -> bool:
        """Whether the groups of an overlay are held here: nobody has ended the thread."""
        holding = self._holdings.get(overlay)
        return holding is not None and holding.thread.is_alive()

    def start(
        self, overlay: str, listener: socket.socket, held: Memberships, membership: GroupMembership
    ) -> None:
        """A thread that holds the groups from now on, and answers; a former one lets go."""
        # No two sets have one name: the new one is stored before the former one is discarded.
        name = f"{_STORED}{overlay}-{time.monotonic_ns()}"
        groups, ours = copied(held, membership, partial(self._keep, name)), listener.dup()

        def hold() -> None:
            try:
                with ours:
                    keeper_process.serve(ours, groups, os.geteuid(), thread=True)
            finally:
                if self._store is not None:
                    self._store.discard(name)

        # Whoever forgets to close does not wait for it.
        thread = threading.Thread(target=hold, name=f"ovs-mcast {overlay}", daemon=True)
        former = self._holdings.get(overlay)
        self._keep(name, *held.descriptors)
        thread.start()
        self._holdings[overlay] = _Holding(thread, ours)
        if former is not None:
            former.end()

    def _keep(self, name: str, *descriptors: int) -> None:
        if self._store is not None:
            self._store.store(name, descriptors)

    def hand_over(self) -> None:
        """Leave a process behind for each overlay, which joins before the thread lets go.

        UnavailableError names those that could not be; their groups are still held here, and what
        is stored of them stays there, for whoever is started next.
        """
        failed = []
        for overlay in [name for name in self._holdings if self.holds(name)]:
            try:
                self._leave_behind(overlay)
            except KeeperError as error:
                failed.append(f"{overlay}: {error}")
        if failed:
            self._store = None
            raise UnavailableError(f"no process holds the groups on: {'; '.join(failed)}")

    def _leave_behind(self, overlay: str) -> None:
        keeper = Keeper(self._rundir, overlay)
        found = keeper.look()
        if found is None:
            if self.holds(overlay):  # else it was ended by whoever wanted it to
                raise KeeperError("it does not answer")
            return
        keeper.replace(GroupMembership(found.device, found.groups))
        self._holdings[overlay].end()  # it has let go; nothing of it is left to run

    def close(self) -> None:
        """Let go of all groups; no thread is left."""
        while self._holdings:
            overlay, holding = self._holdings.popitem()
            holding.end()
            Keeper(self._rundir, overlay).forget()


class InProcessKeeper(Keeper):
    """A keeper that is a thread of this process."""

    def __init__(self, rundir: Path, overlay: str, here: InProcessKeepers) -> None:
        super().__init__(rundir, overlay, here.start)
        self._here = here

    def settle(self) -> None:
        """Of two keepers that a killed run has left make one, and take over what it holds."""
        super().settle()
        found = None if self._here.holds(self._overlay) else self.look()
        if found is not None:
            with suppress(KeeperError):  # its device is gone: the plan says what is missing
                self.replace(GroupMembership(found.device, found.groups))
