"""The interfaces of event sources: a descriptor for select, and ``read``.

``read`` never blocks: it returns the events since the last call.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ..core.events import EntryEvent, FlowEvent, KernelEvent


class Source(Protocol):
    """A descriptor that becomes readable."""

    def fileno(self) -> int:
        """Return the descriptor, for select."""

    def close(self) -> None:
        """Close the descriptor."""


class KernelEvents(Source, Protocol):
    """Events of one network namespace, as adapters.rtnetlink.monitor.NetlinkEvents."""

    def read(self) -> Iterable[KernelEvent]:
        """Return the events of links, addresses, group routes, rules and memberships."""


class FlowEvents(Source, Protocol):
    """Events of one bridge's flows, as adapters.flow_monitor.FlowEvents.

    ``refused`` is True if ovs-vswitchd has no flow monitor.
    """

    refused: bool

    def read(self) -> Iterable[FlowEvent] | None:
        """Return the events of flows; None if the bridge or its connection ended."""


class DirectoryEvents(Source, Protocol):
    """Events of directories, as adapters.inotify.Inotify."""

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch exactly these, as far as they exist."""

    def read(self) -> Iterable[EntryEvent]:
        """Return the events of entries of the directories."""


class ProcessEnd(Source, Protocol):
    """The end of a process: readable once it has ended."""

    @property
    def pid(self) -> int:
        """Return the number of the process."""
