"""Events of a machine in memory: changes of its Linux and its Open vSwitch, as core.events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ..adapters.event_queue import EventQueue
from ..core.events import EntryEvent, FlowEvent, Joined, KernelEvent, RowEvent, Watched
from ..core.items import Address, Bridge, Flow, Key, Port, Route
from ..core.observed import Link
from .linux import Linux
from .openvswitch import OpenVSwitch

RUNDIR = Path("/run/openvswitch")
_PORT_COLUMNS = frozenset({"vlans", "owner"})  # the others are columns of its Interface
_K = TypeVar("_K")
_V = TypeVar("_V")
_Source = TypeVar("_Source", bound=EventQueue[Any])


class EventfulLinux(Linux):
    """A Linux that calls ``changed`` after each change of a link, so that a flap is two events."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: Callable[[], None] = lambda: None

    def add_link(self, link: Link) -> None:
        """See Linux."""
        super().add_link(link)
        self.changed()

    def remove_link(self, name: str) -> None:
        """See Linux."""
        super().remove_link(name)
        self.changed()

    def set_link(self, name: str, *, up: bool) -> None:
        """See Linux."""
        super().set_link(name, up=up)
        self.changed()


class EventfulOpenVSwitch(OpenVSwitch):
    """An Open vSwitch that calls ``restarted`` when its ovs-vswitchd has started again."""

    def __init__(self, linux: Linux) -> None:
        super().__init__(linux)
        self.restarted: Callable[[], None] = lambda: None

    def restart(self) -> None:
        """See OpenVSwitch."""
        super().restart()
        self.restarted()


class FakeKernelEvents(EventQueue[KernelEvent]):
    """events.KernelEvents."""


class FakeDirectoryEvents(EventQueue[EntryEvent]):
    """events.DirectoryEvents of the run directory, which is always watched."""

    def watch(self, directories: Iterable[Path]) -> None:
        """Do nothing."""


class FakeFlowEvents(EventQueue[FlowEvent]):
    """events.FlowEvents of one bridge, until ``end``."""

    refused = False

    def __init__(self, bridge: str, watched: Sequence[Watched]) -> None:
        super().__init__()
        self.bridge = bridge
        self._added = {one.table: one.added for one in watched}
        self._ended = False

    def offer(self, before: Flow | None, after: Flow | None) -> None:
        """Report the change of a flow, if its table is watched."""
        flow = after or before
        if flow is None or flow.bridge != self.bridge or flow.table not in self._added:
            return
        if before is not None or self._added[flow.table]:
            self.put(FlowEvent(flow.bridge, flow.table, flow.cookie))

    def end(self) -> None:
        """End the connection, as the removal of the bridge does."""
        self._ended = True
        self._wake()

    def read(self) -> Iterator[FlowEvent] | None:  # type: ignore[override]
        """Return the events of flows; None once the connection has ended."""
        return None if self._ended else super().read()


class FakeProcessEnd(EventQueue[None]):
    """events.ProcessEnd."""

    def __init__(self, overlay: str, pid: int) -> None:
        super().__init__()
        self.overlay, self.pid = overlay, pid


class Feed:
    """Reports to all listeners what changed on a fake machine since the last report."""

    def __init__(self, linux: EventfulLinux, switch: EventfulOpenVSwitch) -> None:
        self._linux, self._switch = linux, switch
        self._kernel: list[FakeKernelEvents] = []
        self._directories: list[FakeDirectoryEvents] = []
        self._flows: list[FakeFlowEvents] = []
        self._ends: list[FakeProcessEnd] = []
        self._watchers: dict[object, Callable[[RowEvent], None]] = {}
        self._before = _Snapshot(linux, switch)
        linux.changed, switch.restarted = self.publish, self._restarted

    def kernel(self) -> FakeKernelEvents:
        """Open a source of kernel events."""
        return self._listen(self._kernel, FakeKernelEvents())

    def directories(self) -> FakeDirectoryEvents:
        """Open a source of events of the run directory."""
        return self._listen(self._directories, FakeDirectoryEvents())

    def flows(self, bridge: Bridge, watched: Sequence[Watched]) -> FakeFlowEvents:
        """Open a source of flow events; OSError if the bridge is missing."""
        if bridge.name not in self._switch.bridges:
            raise FileNotFoundError(f"{bridge.name}.mgmt")
        return self._listen(self._flows, FakeFlowEvents(bridge.name, watched))

    def process_end(self, overlay: str, pid: int) -> FakeProcessEnd:
        """Open a source that is readable once the keeper process of the overlay has ended."""
        return self._listen(self._ends, FakeProcessEnd(overlay, pid))

    def rows(self, connection: object, watcher: Callable[[RowEvent], None] | None) -> None:
        """Report row events to ``watcher``, the only one of a connection; None ends the reports."""
        self._refresh()
        self._watchers.pop(connection, None)
        if watcher is not None:
            self._watchers[connection] = watcher

    def entry(self, name: str) -> None:
        """Report an entry of the run directory."""
        for source in self._directories:
            source.put(EntryEvent(RUNDIR, name))

    def keeper_ended(self, overlay: str) -> None:
        """Report the end of the overlay's keeper process."""
        for source in self._ends:
            if source.overlay == overlay:
                source.put(None)

    def publish(self) -> None:
        """Report the differences from the last report."""
        for one in (self._kernel, self._directories, self._flows, self._ends):
            _drop_closed(one)
        if not (self._kernel or self._flows or self._watchers):
            return  # keep changes cheap while there are no listeners
        before, now = self._before, _Snapshot(self._linux, self._switch)
        self._before = now
        for event in _kernel_events(before, now):
            for source in self._kernel:
                source.put(event)
        for row in chain(_bridge_events(before, now), _port_events(before, now)):
            for watcher in self._watchers.values():
                watcher(row)
        for old, new in _differences(before.flows, now.flows):
            for monitor in self._flows:
                monitor.offer(old, new)
        self._end_flows(lambda bridge: bridge not in now.bridges)

    def _restarted(self) -> None:
        self._end_flows(lambda _bridge: True)
        self.publish()
        self.entry("ovs-vswitchd.1.ctl")

    def _end_flows(self, gone: Callable[[str], bool]) -> None:
        for monitor in [one for one in self._flows if gone(one.bridge)]:
            self._flows.remove(monitor)
            monitor.end()

    def _listen(self, listeners: list[_Source], source: _Source) -> _Source:
        self._refresh()
        listeners.append(source)
        return source

    def _refresh(self) -> None:
        """Report to earlier listeners, so that a new one starts from now."""
        self.publish()
        self._before = _Snapshot(self._linux, self._switch)


def _drop_closed(listeners: list[Any]) -> None:
    listeners[:] = [one for one in listeners if one.fileno() >= 0]


class _Snapshot:
    def __init__(self, linux: Linux, switch: OpenVSwitch) -> None:
        self.links = dict(linux.links)
        self.indexes = dict(linux.indexes)
        self.addresses: dict[Key, Address] = dict(linux.addresses)
        self.routes: dict[Route, Route] = {route: route for route in linux.routes}
        members = {Joined(name, group) for name in linux.links for group in linux.joined(name)}
        self.members = {one: one for one in members}
        self.bridges, self.ports = dict(switch.bridges), dict(switch.ports)
        self.flows = dict(switch.flows)


def _differences(
    before: Mapping[_K, _V], now: Mapping[_K, _V]
) -> Iterator[tuple[_V | None, _V | None]]:
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if old is not new and (old != new or _uncompared(old) != _uncompared(new)):
            yield old, new


def _uncompared(item: object) -> tuple[object, ...]:
    """Return the fields that equality ignores: those that ovs-vswitchd or the kernel sets."""
    if not isinstance(item, Address | Bridge | Link | Port):
        return ()
    return tuple(getattr(item, one.name) for one in fields(item) if not one.compare)


def _kernel_events(before: _Snapshot, now: _Snapshot) -> Iterator[KernelEvent]:
    for old, new in _differences(before.links, now.links):
        link, indexes = (new, now.indexes) if new else (old, before.indexes)
        if link is not None:
            yield KernelEvent(link, new is None, indexes[link.name])
    pairs = chain[tuple[Address | Route | Joined | None, Address | Route | Joined | None]](
        _differences(before.addresses, now.addresses),
        _differences(before.routes, now.routes),
        _differences(before.members, now.members),
    )
    for gone, there in pairs:
        yield KernelEvent(there or gone, there is None)


def _bridge_events(before: _Snapshot, now: _Snapshot) -> Iterator[RowEvent]:
    for old, new in _differences(before.bridges, now.bridges):
        bridge = new or old
        if bridge is not None:
            yield RowEvent("Bridge", bridge.name, bridge.owner, columns=_columns(old, new))


def _port_events(before: _Snapshot, now: _Snapshot) -> Iterator[RowEvent]:
    for old, new in _differences(before.ports, now.ports):
        port, columns = new or old, _columns(old, new)
        if port is None:
            continue
        if not columns or columns & _PORT_COLUMNS:
            yield RowEvent("Port", port.name, port.owner, columns=columns & _PORT_COLUMNS)
        if not columns or columns - _PORT_COLUMNS:
            yield RowEvent("Interface", port.name, None, port.type, columns - _PORT_COLUMNS)


def _columns(old: Bridge | Port | None, new: Bridge | Port | None) -> frozenset[str]:
    """Return the names of the changed fields; empty for a row that was added or removed."""
    if old is None or new is None:
        return frozenset()
    names = (one.name for one in fields(old))
    return frozenset(name for name in names if getattr(old, name) != getattr(new, name))
