"""The interfaces of event sources: anything with a descriptor for select and a ``read``.

None of them blocks: ``read`` returns what happened since the last call.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ..core.events import EntryEvent, FlowEvent, KernelEvent


class Source(Protocol):
    """A descriptor that becomes readable."""

    def fileno(self) -> int:
        """For select."""

    def close(self) -> None:
        """Close the descriptor."""


class KernelEvents(Source, Protocol):
    """Events of one network namespace, as adapters.rtnetlink.monitor.NetlinkEvents."""

    def read(self) -> Iterable[KernelEvent]:
        """Return what happened to links, addresses, group routes, rules and memberships."""


class FlowEvents(Source, Protocol):
    """Events of one bridge's flows, as adapters.flow_monitor.FlowEvents.

    ``refused`` is whether ovs-vswitchd has no flow monitor.
    """

    refused: bool

    def read(self) -> Iterable[FlowEvent] | None:
        """Return what happened to flows; None if the bridge or its connection ended."""


class DirectoryEvents(Source, Protocol):
    """Events of directories, as adapters.inotify.Inotify."""

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch exactly these, as far as they exist."""

    def read(self) -> Iterable[EntryEvent]:
        """Return what happened to entries of the directories."""


class ProcessEnd(Source, Protocol):
    """The end of a process: readable once it has ended."""

    @property
    def pid(self) -> int:
        """The process."""
