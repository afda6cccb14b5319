"""The agent's loop: events lead to a reconcile and its follow-up, until a signal ends it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ..adapters.systemd import Notify
from ..core.closeable import Closeable
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError
from ..host.host import Host
from ..host.platform import Platform
from .announcer import Announcer
from .config_source import ConfigSource
from .event_filter import Trigger
from .event_sources import CONFIGURATION, HANGUP, EventSources
from .observer import Kind, Observer
from .responder import Responder
from .scheduler import Scheduler, Timings
from .signals import Interrupted, Signals

LOG = logging.getLogger(__name__)


class DefectError(OvsMcastError):
    """An unexpected exception; the loop continues as after any failure."""


def _defect(error: Exception) -> DefectError:
    return DefectError(f"a defect of ovs_mcast, please report it: {error!r}")


class Agent(Closeable):
    """Keeps one overlay applied, from the main thread: ``run`` returns when a signal ends it.

    ``overlay`` is what ``config`` returned first; ``platform`` is closed with the agent. Observers
    are called in their order. ``stored_sets`` names the sets of sockets that an earlier agent
    left in ``notify``'s store: they hold their groups until this agent does.
    """

    def __init__(
        self,
        config: ConfigSource,
        overlay: Overlay,
        observers: Sequence[Observer],
        platform: Platform,
        *,
        notify: Notify | None = None,
        stored_sets: Sequence[str] = (),
        respond: bool = False,
        timings: Timings | None = None,
    ) -> None:
        self._config, self._overlay, self._platform = config, overlay, platform
        self._observers = list(observers)
        self._notify = notify or Notify()
        self._stored_sets = list(stored_sets)
        self._host: Host | None = None
        self._path_wanted = True
        self._ready = False
        self._alive_at = 0.0
        self._scheduler = Scheduler(time.monotonic(), timings or Timings(), random.random)
        self._announcer = Announcer(platform.report, platform.joined, platform.igmp_version)
        with ExitStack() as stack:
            self._signals = stack.enter_context(Signals())
            # Not the Host's: the groups are held while Open vSwitch is away.
            stack.enter_context(platform)
            self._responder = stack.enter_context(Responder()) if respond else None
            self._sources = stack.enter_context(
                EventSources(platform, config, self._signals, overlay)
            )
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Release everything; the overlay runs on."""
        self._disconnect()
        self._opened.close()

    def run(self) -> None:
        """Reconcile on events and in time, until SIGTERM or SIGINT."""
        self._notify_all(lambda observer: observer.configured(self._overlay))
        try:
            while not self._signals.ended:
                self._turn()
        except Interrupted:
            LOG.info("a reconcile was cut short: the next run converges")
        finally:
            self._notify.stopping()
            self._platform.keepers.hand_over()
            self._notify_all(lambda observer: observer.ended())

    def _turn(self) -> None:
        """Wait for an event or the time of the next reconcile, whichever comes first."""
        self._keep_alive()
        due = self._scheduler.due()
        if due > time.monotonic():
            self._notify_all(lambda observer: observer.waiting(due))
        until = min(due, self._next_alive(), self._next_announcement())
        for trigger in self._sources.wait(until - time.monotonic()):
            self._handle(trigger)
        if time.monotonic() >= self._next_announcement():
            self._announce()
        if not self._signals.ended and time.monotonic() >= self._scheduler.due():
            self._reconcile()

    def _handle(self, trigger: Trigger) -> None:
        if trigger.moved:
            self._announcer.moved(trigger.moved, time.monotonic())
        kind = trigger.kind
        if kind == "failover":
            return
        if trigger in {CONFIGURATION, HANGUP}:
            self._reload(hangup=trigger == HANGUP)
        if kind == "ovsdb" and trigger.wakes:
            self._disconnect()
        self._path_wanted |= trigger.came_up
        self._scheduler.event(time.monotonic(), wakes=trigger.wakes)
        self._notify_all(lambda observer: observer.event(kind))

    def _reload(self, *, hangup: bool) -> None:
        if hangup:
            self._notify.reloading()
            self._ready = False
        try:
            read = self._config.read()
            if read.name != self._overlay.name:
                raise ConfigurationError(
                    f"this agent keeps {self._overlay.name}: stop it and tear that down first",
                    field="name",
                )
        except ConfigurationError as error:
            refused = error
            self._notify_all(lambda observer: observer.refused(refused))
            return
        if read != self._overlay:
            self._overlay = read
            self._path_wanted = True
            self._sources.serve(read)
            self._notify_all(lambda observer: observer.configured(read))

    def _reconcile(self) -> None:
        started = time.monotonic()
        if not self._scheduler.pending:
            kind: Kind = "retry" if self._scheduler.failing else "minute"
            self._notify_all(lambda observer: observer.event(kind))
        self._scheduler.began(started)
        try:
            with self._signals.reconciling():
                host = self._connected()
                self._sources.open(host.backend)
                status = host.reconcile(self._overlay, self._progress)
                missed = self._sources.open(host.backend)
        except OvsMcastError as error:
            if isinstance(error, UnavailableError | ApplyError):
                self._disconnect()
            self._failed(error, started)
        except Exception as error:
            self._disconnect()
            self._failed(_defect(error), started)
        else:
            self._succeeded(status, missed, started)

    def _succeeded(self, status: Status, missed: Sequence[Trigger], started: float) -> None:
        ended = time.monotonic()
        self._scheduler.succeeded(ended)
        while self._stored_sets:
            self._notify.discard(self._stored_sets.pop())
        for trigger in missed:
            self._handle(trigger)
        self._notify_all(
            lambda observer: observer.reconciled(status, ended - started, status.changes)
        )
        if not self._ready:
            self._ready = True
            self._notify.ready()
        self._follow_up()

    def _follow_up(self) -> None:
        """Run follow-up work after a successful reconcile; failures are logged, not raised."""
        started = time.monotonic()
        try:
            if self._path_wanted:
                self._measure_path()
            if self._responder is not None:
                self._responder.keep(self._overlay)
        except Exception as error:
            self._failed(_defect(error), started)

    def _failed(self, error: OvsMcastError, started: float) -> None:
        ended = time.monotonic()
        streak = self._scheduler.failed(ended)
        self._notify_all(lambda observer: observer.failed(error, ended - started, streak))

    def _measure_path(self) -> None:
        """Measure the path with one datagram; a reconcile only makes route lookups."""
        self._path_wanted = False
        groups, device = self._overlay.flood_groups, self._overlay.underlay.device
        if not groups:
            return
        try:
            with self._signals.reconciling():
                send_path = self._connected().backend.send_path
                result = send_path(device, str(groups[0]), detection=0.0)
        except OvsMcastError:
            self._path_wanted = True  # the device is gone; the reconcile of its event reports that
            return
        self._notify_all(lambda observer: observer.path(result))

    def _next_announcement(self) -> float:
        return self._announcer.due() if self._host is not None else float("inf")

    def _announce(self) -> None:
        """Report the groups again after a failover."""
        try:
            result = self._announcer.run(self._overlay, self._connected().backend, time.monotonic())
        except OvsMcastError:
            return  # due again; the event of what is gone brings a reconcile, which reports it
        if result is not None:
            self._notify_all(lambda observer: observer.announced(result))

    def _connected(self) -> Host:
        if self._host is None:
            self._host = Host(self._platform.connect())
        return self._host

    def _disconnect(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def _progress(self, _done: int, _total: int) -> None:
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Notify the service manager's watchdog, from the loop only: a hung loop is noticed."""
        now = time.monotonic()
        if self._notify.watchdog is not None and now >= self._alive_at:
            self._notify.alive()
            self._alive_at = now + self._notify.watchdog / 2

    def _next_alive(self) -> float:
        return float("inf") if self._notify.watchdog is None else self._alive_at

    def _notify_all(self, notify: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                notify(observer)
            except Exception:
                self._observers.remove(observer)
                LOG.exception("a defect of ovs_mcast, please report it: an observer is dropped")
