"""Where events come from: the kernel, Open vSwitch, files, signals. All wait in one selector."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

from ..adapters import openflow
from ..adapters.flow_monitor import FlowEvents
from ..adapters.inotify import Inotify
from ..adapters.ovsdb import connection
from ..adapters.rtnetlink.monitor import NetlinkEvents
from ..core.closeable import Closeable
from ..core.events import RowEvent
from ..core.model import Overlay
from ..errors import UnavailableError
from ..host.backend import Backend
from ..membership.keeper import Keeper
from .config_file import Configuration
from .event_filter import EventFilter, Trigger
from .signals import Signals

CONFIGURATION = Trigger("configuration", wakes=True)
HANGUP = Trigger("signal", wakes=True)

_Read = Callable[[], Iterator[Trigger]]


class Sources(Closeable):
    """All events that concern one overlay at a time, in the thread of the loop."""

    def __init__(self, rundir: Path, configuration: Configuration, signals: Signals) -> None:
        self._rundir, self._configuration, self._signals = rundir, configuration, signals
        self._selector = DefaultSelector()
        self._kernel = NetlinkEvents()
        self._files = Inotify()
        self._rows = _Rows()
        self._flows: dict[str, FlowEvents] = {}
        self._unable: set[str] = set()  # bridges of an ovs-vswitchd without a flow monitor
        self._keeper: tuple[int, int] | None = None  # its process, and a descriptor of that
        for source, read in (
            (self._kernel, self._read_kernel),
            (self._files, self._read_files),
            (self._rows, self._read_rows),
            (signals, self._read_signals),
        ):
            self._selector.register(source, EVENT_READ, read)

    def serve(self, overlay: Overlay) -> None:
        """Tell of what concerns this overlay from now on."""
        self._name = overlay.name
        self._concern = EventFilter(overlay)
        for bridge in list(self._flows):
            self._drop_flows(bridge)

    def wait(self, seconds: float) -> list[Trigger]:
        """What concerns the overlay, as soon as something does, or anything else has come."""
        self._watch_files()
        ready = self._selector.select(max(0.0, seconds))
        return list(dict.fromkeys(finding for key, _ in ready for finding in key.data()))

    def open(self, machine: Backend) -> list[Trigger]:
        """Listen to what this machine has by now; what may have been missed until then."""
        rows = machine.ovsdb
        if isinstance(rows, connection.Ovsdb):
            rows.watch(self._rows.put)
        opened = [bridge for bridge in self._concern.watched if self._open_flows(bridge, machine)]
        found = [Trigger("flow")] if opened else []
        if self._open_keeper():
            found.append(Trigger("membership"))
        return found

    def close(self) -> None:
        """Listen no more."""
        for bridge in list(self._flows):
            self._drop_flows(bridge)
        self._drop_keeper()
        self._selector.close()
        for source in (self._kernel, self._files, self._rows):
            source.close()

    def _watch_files(self) -> None:
        run = {self._rundir, self._rundir.parent}
        self._files.watch(run | self._configuration.directories())

    def _read_kernel(self) -> Iterator[Trigger]:
        yield from filter(None, map(self._concern.kernel, self._kernel.read()))

    def _read_rows(self) -> Iterator[Trigger]:
        yield from filter(None, map(self._concern.row, self._rows.read()))

    def _read_signals(self) -> Iterator[Trigger]:
        if self._signals.read():
            yield HANGUP

    def _read_files(self) -> Iterator[Trigger]:
        written = False
        for event in self._files.read():
            written |= self._configuration.may_be(event)
            if event.directory == self._rundir:
                found = self._concern.entry(event)
            else:
                at = event.directory == self._rundir.parent and event.name == self._rundir.name
                found = Trigger("vswitchd", wakes=True) if at else None
            if found is not None:
                self._unable.clear()
                yield found
        if written and self._configuration.has_changed():
            yield CONFIGURATION

    def _open_flows(self, bridge: str, machine: Backend) -> bool:
        if bridge in self._flows or bridge in self._unable:
            return False
        row = machine.ovsdb.bridges().get(bridge)
        if row is None:
            return False
        with suppress(OSError, UnavailableError):
            version, watched = openflow.version_of(row), self._concern.watched[bridge]
            events = self._flows[bridge] = FlowEvents(self._rundir, bridge, watched, version)
            self._selector.register(events, EVENT_READ, lambda: self._read_flows(bridge))
            return True
        return False

    def _read_flows(self, bridge: str) -> Iterator[Trigger]:
        events = self._flows[bridge]
        seen = events.read()
        if seen is not None:
            yield from filter(None, map(self._concern.flow, seen))
            return
        self._drop_flows(bridge)
        if events.refused:
            self._unable.add(bridge)
        else:  # the bridge went, perhaps before it answered
            yield Trigger("vswitchd")

    def _drop_flows(self, bridge: str) -> None:
        events = self._flows.pop(bridge)
        self._selector.unregister(events)
        events.close()

    def _open_keeper(self) -> bool:
        found = Keeper(self._rundir, self._name).look()
        if found is None or found.stays or (self._keeper and self._keeper[0] == found.pid):
            return False
        self._drop_keeper()
        with suppress(OSError):  # it is in another process namespace, or has just ended
            descriptor = os.pidfd_open(found.pid)
            self._keeper = (found.pid, descriptor)
            self._selector.register(descriptor, EVENT_READ, self._read_keeper)
            return True
        return False

    def _read_keeper(self) -> Iterator[Trigger]:
        self._drop_keeper()
        yield Trigger("membership")

    def _drop_keeper(self) -> None:
        if self._keeper is not None:
            self._selector.unregister(self._keeper[1])
            os.close(self._keeper[1])
            self._keeper = None


class _Rows(Closeable):
    """Row events from the thread of a connection to that of the loop."""

    def __init__(self) -> None:
        self._events: deque[RowEvent] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._wake

    def put(self, event: RowEvent) -> None:
        """Called by the connection."""
        self._events.append(event)
        with suppress(OSError):  # closed, or full of what is not read yet
            os.eventfd_write(self._wake, 1)

    def read(self) -> Iterator[RowEvent]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._events:
            yield self._events.popleft()

    def close(self) -> None:
        wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)
