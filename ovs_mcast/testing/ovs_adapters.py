"""The Open vSwitch behind a FakeHost: rows, flows, the control socket; with faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..adapters.openflow import NoBridgeError, OpenFlowError
from ..adapters.ovsdb.transaction import OvsdbError
from ..core.changes import Change, Neighbour
from ..core.closeable import Closeable
from ..core.events import RowEvent
from ..core.items import Bridge, Port
from ..core.observed import RoutePath
from ..errors import UnavailableError
from .system import FakeSystem


class FakeOvsdb:
    """backend.Ovsdb."""

    def __init__(self, system: FakeSystem) -> None:
        self._system = system
        self._alone = system.alone

    def bridges(self) -> dict[str, Bridge]:
        """Return every bridge by name."""
        self._answer()
        return dict(self._system.switch.bridges)

    def ports(self, on: str | None = None) -> dict[str, Port]:
        """Return every port by name, or those on one bridge."""
        self._answer()
        ports = self._system.switch.ports
        return {name: port for name, port in ports.items() if on in {None, port.bridge}}

    def apply(self, changes: Sequence[Change]) -> None:
        """Commit one transaction."""
        faults = self._system.faults
        unfollowed = "Open vSwitch in memory took no change in 30 s: try again"
        if faults.strikes("ovsdb-away") or faults.strikes("vswitchd-away"):
            raise UnavailableError(unfollowed, reason="vswitchd")
        if faults.strikes("transaction-refused"):
            raise OvsdbError("constraint violation: the transaction was refused")
        try:
            self._system.make(changes, self._system.switch.commit)
        except KeyError as error:
            raise OvsdbError(f"there is no bridge {error.args[0]}") from None
        if faults.strikes("transaction-unfollowed"):
            raise UnavailableError(unfollowed, reason="vswitchd")

    def watch(self, watcher: Callable[[RowEvent], None]) -> None:
        """Report every change of rows."""
        self._system.feed.rows(self, watcher)

    @contextmanager
    def exclusive(self, patience: float, on_wait: Callable[[float], None]) -> Iterator[None]:
        """Hold the lock, for which other threads of this process wait."""
        faults = self._system.faults
        self._answer()
        if faults.strikes("locked"):
            on_wait(0)
            held = False
        else:
            held = self._acquire(patience, on_wait)
        if not held:
            raise UnavailableError(
                f"another run of ovs_mcast holds this Open vSwitch for {patience:.0f} s: "
                "wait for it to end",
                reason="locked",
            )
        try:
            yield
        finally:
            self._alone.release()

    def _answer(self) -> None:
        if self._system.faults.strikes("ovsdb-away"):
            raise UnavailableError(
                "no ovsdb-server answers in memory: start openvswitch-switch", reason="ovsdb"
            )

    def _acquire(self, patience: float, on_wait: Callable[[float], None]) -> bool:
        """Acquire the lock within so many seconds; return whether that succeeded."""
        began = time.monotonic()
        while not self._alone.acquire(timeout=0.02):
            waited = time.monotonic() - began
            if waited > patience:
                return False
            on_wait(waited)
        return True

    def close(self) -> None:
        """Stop reporting."""
        self._system.feed.rows(self, None)


class FakeOpenFlow:
    """backend.OpenFlow."""

    def __init__(self, system: FakeSystem) -> None:
        self._system = system

    def dump(self, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
        """Return the flows whose cookie matches and whose match includes ``match``."""
        self._reach(bridge)
        if match.startswith("udp,") and ":" in match:
            raise OpenFlowError(f"ovs-ofctl: {match}: invalid IP address")
        with self._system.lock:
            return list(self._system.switch.dump(bridge.name, cookie, mask, match))

    def dump_counted(self, bridge: Bridge, cookie: int, mask: int) -> list[str]:
        """Return the same with statistics: no frame passes here, so all counters are 0."""
        self._reach(bridge)
        with self._system.lock:
            return list(self._system.switch.dump(bridge.name, cookie, mask, counted=True))

    def apply(self, bridge: Bridge, changes: Sequence[Change]) -> None:
        """Apply one bundle."""
        self._reach(bridge)
        if self._system.faults.strikes("bundle-refused"):
            raise OpenFlowError(f"{bridge.name}: OFPT_ERROR (OF1.4): OFPBFC_MSG_FAILED")
        self._system.make(changes, lambda batch: self._system.switch.bundle(bridge.name, batch))

    def _reach(self, bridge: Bridge) -> None:
        away = self._system.faults.strikes("vswitchd-away")
        there = self._system.switch.bridges.get(bridge.name)
        if there is not None and there.datapath == "system":
            away = away or self._system.faults.strikes("module-missing")
        if away or there is None:
            raise NoBridgeError(
                f"{bridge.name}: ovs-ofctl: {bridge.name} is not a bridge or a socket"
            )


class FakeVswitchd(Closeable):
    """backend.Vswitchd."""

    def __init__(self, system: FakeSystem) -> None:
        if system.faults.strikes("vswitchd-away"):
            raise UnavailableError(
                "ovs-vswitchd does not run: start openvswitch-switch", reason="vswitchd"
            )
        self._switch, self._faults = system.switch, system.faults

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Set the Ethernet addresses."""
        self._switch.set_neighbours(neighbours)

    def routes(self) -> Mapping[str, RoutePath]:
        """Return the host routes by which the userspace datapath sends."""
        return self._switch.routes()

    def has_datapath(self, kind: str) -> bool:
        """Return whether that is there."""
        return kind != "system" or not self._faults.strikes("module-missing")

    def flows(self, bridge: str) -> list[str]:
        """Return the one flow of a new bridge, whatever flows it has: no frame passes here."""
        return ["duration=1s, n_packets=0, n_bytes=0, priority=0,actions=NORMAL"]

    def trace(self, bridge: str, frames: Sequence[str]) -> Mapping[str, str]:
        """Return no answer: no frame passes here."""
        return {}

    def look_up(self, destinations: Iterable[str]) -> Mapping[str, RoutePath]:
        """Return the path to each address."""
        return {one: self._switch.route(one) for one in destinations}

    def close(self) -> None:
        """Do nothing: nothing is open."""
