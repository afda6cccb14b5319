"""The agent's event sources: kernel, Open vSwitch, files, signals. One selector waits for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import Protocol

from ..adapters.event_queue import EventQueue
from ..core.closeable import Closeable
from ..core.events import RowEvent
from ..core.model import Overlay
from ..errors import UnavailableError
from ..host.backend import Backend
from ..host.events import FlowEvents, ProcessEnd
from ..host.platform import Platform
from .config_source import ConfigSource
from .event_filter import EventFilter, Trigger
from .signals import Signals

CONFIGURATION = Trigger("configuration", wakes=True)
HANGUP = Trigger("signal", wakes=True)

_Read = Callable[[], Iterator[Trigger]]


class HasFileno(Protocol):
    """An object that a selector can wait for."""

    def fileno(self) -> int:
        """Return the descriptor."""


class EventSources(Closeable):
    """All events that affect one overlay at a time, read by the thread of the loop."""

    def __init__(
        self, platform: Platform, config: ConfigSource, signals: Signals, overlay: Overlay
    ) -> None:
        self._rundir, self._config, self._signals = platform.rundir, config, signals
        self._overlay, self._filter = overlay, EventFilter(overlay)
        self._selector = DefaultSelector()
        self._kernel = platform.kernel_events()
        self._files = platform.directory_events()
        self._rows: EventQueue[RowEvent] = EventQueue()
        self._flows: dict[str, FlowEvents] = {}
        self._unable: set[str] = set()  # bridges of an ovs-vswitchd without a flow monitor
        self._keeper: ProcessEnd | None = None
        reads: dict[HasFileno, _Read] = {
            self._kernel: self._read_kernel,
            self._files: self._read_files,
            self._rows: self._read_rows,
            config: self._read_config,
            signals: self._read_signals,
        }
        for source, read in reads.items():
            self._selector.register(source, EVENT_READ, read)

    def serve(self, overlay: Overlay) -> None:
        """Report the events that affect this overlay from now on."""
        self._overlay, self._filter = overlay, EventFilter(overlay)
        for bridge in list(self._flows):
            self._drop_flows(bridge)

    def wait(self, seconds: float) -> list[Trigger]:
        """Return triggers as soon as an event comes, or none after ``seconds``."""
        self._config.watch()
        self._files.watch({self._rundir, self._rundir.parent})
        ready = self._selector.select(max(0.0, seconds))
        return list(dict.fromkeys(trigger for key, _ in ready for trigger in key.data()))

    def open(self, backend: Backend) -> list[Trigger]:
        """Open the sources that the backend has by now; return what may have been missed before."""
        backend.ovsdb.watch(self._rows.put)
        if not self._filter.seeded:
            self._filter.seed(backend.netlink.links())
        self._follow_underlay(backend)
        opened = [bridge for bridge in self._filter.watched if self._open_flows(bridge, backend)]
        found = [Trigger("flow")] if opened else []
        if self._open_keeper(backend):
            found.append(Trigger("membership"))
        return found

    def close(self) -> None:
        """Close all but the configuration and the signals."""
        for bridge in list(self._flows):
            self._drop_flows(bridge)
        self._drop_keeper()
        self._selector.close()
        for source in (self._kernel, self._files, self._rows):
            source.close()

    def _read_kernel(self) -> Iterator[Trigger]:
        yield from filter(None, map(self._filter.kernel, self._kernel.read()))

    def _read_rows(self) -> Iterator[Trigger]:
        yield from filter(None, map(self._filter.row, self._rows.read()))

    def _read_config(self) -> Iterator[Trigger]:
        if self._config.changed():
            yield CONFIGURATION

    def _read_signals(self) -> Iterator[Trigger]:
        if self._signals.read():
            yield HANGUP

    def _read_files(self) -> Iterator[Trigger]:
        for event in self._files.read():
            trigger = self._filter.entry(event, self._rundir)
            if trigger is not None:
                self._unable.clear()
                yield trigger

    def _follow_underlay(self, backend: Backend) -> None:
        """Watch the flows of the bridge that the underlay device is a port of by now."""
        if self._overlay.datapath != "netdev":
            return
        device = self._overlay.underlay.device
        port = backend.ovsdb.ports().get(device)
        self._filter.watch_underlay(device if port is None else port.bridge)
        for bridge in self._flows.keys() - self._filter.watched.keys():
            self._drop_flows(bridge)

    def _open_flows(self, bridge: str, backend: Backend) -> bool:
        if bridge in self._flows or bridge in self._unable:
            return False
        row = backend.ovsdb.bridges().get(bridge)
        if row is None:
            return False
        with suppress(OSError, UnavailableError):
            events = self._flows[bridge] = backend.flow_events(row, self._filter.watched[bridge])
            self._selector.register(events, EVENT_READ, lambda: self._read_flows(bridge))
            return True
        return False

    def _read_flows(self, bridge: str) -> Iterator[Trigger]:
        source = self._flows[bridge]
        events = source.read()
        if events is not None:
            yield from filter(None, map(self._filter.flow, events))
            return
        self._drop_flows(bridge)
        if source.refused:
            self._unable.add(bridge)
        else:  # the bridge was removed, perhaps before it answered
            yield Trigger("vswitchd")

    def _drop_flows(self, bridge: str) -> None:
        events = self._flows.pop(bridge)
        self._selector.unregister(events)
        events.close()

    def _open_keeper(self, backend: Backend) -> bool:
        found = backend.keeper(self._overlay.name).process_end()
        if found is None:
            return False
        if self._keeper is not None and self._keeper.pid == found.pid:
            found.close()
            return False
        self._drop_keeper()
        self._keeper = found
        self._selector.register(found, EVENT_READ, self._read_keeper)
        return True

    def _read_keeper(self) -> Iterator[Trigger]:
        self._drop_keeper()
        yield Trigger("membership")

    def _drop_keeper(self) -> None:
        if self._keeper is not None:
            self._selector.unregister(self._keeper)
            self._keeper.close()
            self._keeper = None
