"""Groups held by this process, for agents: a thread for each overlay in place of a keeper.

A thread is found, asked and ended as a keeper, through the same unix socket, so that a run of
`setup` finds the groups that an agent holds, and can take them over.
"""

from __future__ import annotations

import io
import json
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
from .keeper import Keeper, KeeperError
from .sockets import GroupSockets

_STORED = "ovs-mcast-"  # prefix of the names of sets of sockets


class Store(Protocol):
    """A store in which duplicates of sockets outlive this process, as adapters.systemd.Notify.

    The kernel keeps the groups of a socket while any duplicate is open.
    """

    def store(self, name: str, descriptors: Sequence[int]) -> None:
        """Keep duplicates of more descriptors under a name."""

    def discard(self, name: str) -> None:
        """Close all duplicates kept under a name."""


def stored_sets(handed: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of our sets among the descriptors that a store hands to this process.

    An earlier process stored them. The store keeps its own duplicates until they are discarded, so
    those handed over are closed.
    """
    names = [name for name in handed if name.startswith(_STORED)]
    for name in names:
        for descriptor in handed[name]:
            os.close(descriptor)
    return names


@dataclass(frozen=True, slots=True)
class _HolderThread:
    """A thread that holds the groups of one overlay until its pipe ends."""

    thread: threading.Thread
    pipe: io.FileIO  # the end to write to

    def end(self) -> None:
        """End the thread, if it still runs; its groups are released."""
        self.pipe.close()
        self.thread.join()


class InProcessKeepers(Closeable):
    """The keepers of one Host as threads of this process, until ``close``.

    ``store`` keeps a duplicate of each socket for as long as its thread holds the socket.
    """

    def __init__(self, rundir: Path, store: Store | None = None) -> None:
        self._rundir, self._store = rundir, store
        self._threads: dict[str, _HolderThread] = {}

    def keeper(self, overlay: str) -> InProcessKeeper:
        """Return the keeper of an overlay."""
        return InProcessKeeper(self._rundir, overlay, self)

    def holds(self, overlay: str) -> bool:
        """True if a thread of this process holds the groups of an overlay."""
        holder = self._threads.get(overlay)
        return holder is not None and holder.thread.is_alive()

    def start(
        self, overlay: str, listener: socket.socket, sockets: GroupSockets, device: str
    ) -> None:
        """Start a thread that holds the groups and answers; the former thread releases its own."""
        # No two sets have one name: the new one is stored before the former one is discarded.
        name = f"{_STORED}{overlay}-{time.monotonic_ns()}"
        groups, ours = sockets.duplicate(partial(self._keep, name)), listener.dup()
        reading, writing = os.pipe()

        def hold() -> None:
            try:
                with ours:
                    keeper_process.serve(
                        ours, groups, json.dumps(device), os.geteuid(), thread=reading
                    )
            finally:
                os.close(reading)
                if self._store is not None:
                    self._store.discard(name)

        # A daemon: a program that forgets to close does not wait for the thread at its end.
        thread = threading.Thread(target=hold, name=f"ovs-mcast {overlay}", daemon=True)
        former = self._threads.get(overlay)
        self._keep(name, *sockets.descriptors)
        thread.start()
        self._threads[overlay] = _HolderThread(thread, io.FileIO(writing, "w"))
        if former is not None:
            former.end()

    def _keep(self, name: str, *descriptors: int) -> None:
        if self._store is not None:
            self._store.store(name, descriptors)

    def hand_over(self) -> None:
        """Start a keeper process for each overlay; it joins before the thread releases the groups.

        UnavailableError names the overlays for which none could be started. This process continues
        to hold their groups, and the store to keep them, for the agent that is started next.
        """
        failed = []
        for overlay in [name for name in self._threads if self.holds(name)]:
            try:
                self._hand_over(overlay)
            except KeeperError as error:
                failed.append(f"{overlay}: {error}")
        if failed:
            self._store = None
            raise UnavailableError(f"no process holds the groups on: {'; '.join(failed)}")

    def _hand_over(self, overlay: str) -> None:
        keeper = Keeper(self._rundir, overlay)
        found = keeper.query()
        if found is None:
            if self.holds(overlay):  # else another run has just ended it
                raise KeeperError("it does not answer")
            return
        keeper.replace(GroupMembership(found.device, found.groups))
        self._threads[overlay].end()  # its groups are released; wait for the thread

    def close(self) -> None:
        """Release all groups; no thread is left."""
        while self._threads:
            overlay, holder = self._threads.popitem()
            holder.end()
            Keeper(self._rundir, overlay).forget()


class InProcessKeeper(Keeper):
    """A keeper that is a thread of this process."""

    def __init__(self, rundir: Path, overlay: str, threads: InProcessKeepers) -> None:
        super().__init__(rundir, overlay, threads.start)
        self._threads = threads

    def drop_duplicates(self) -> None:
        """Remove a duplicate keeper left by a killed run, then take over the other's groups."""
        super().drop_duplicates()
        found = None if self._threads.holds(self._overlay) else self.query()
        if found is not None:
            with suppress(KeeperError):  # its device no longer exists: the plan has what is missing
                self.replace(GroupMembership(found.device, found.groups))
