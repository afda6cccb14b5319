"""The loop: what happens, a look at all of it, and what that brings; until a signal ends it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ..adapters.systemd import Notify
from ..core.closeable import Closeable
from ..core.model import Overlay
from ..errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError
from ..host.connect import open_backend, rundir_of
from ..host.host import Host
from ..membership.in_process import InProcessKeepers
from ..probe import send_path
from .config_file import Configuration, read_or_refuse
from .event_filter import Trigger
from .event_sources import CONFIGURATION, HANGUP, Sources
from .observer import Kind, Observer
from .responder import Responder
from .scheduler import Scheduler, Timings
from .signals import Interrupted, Signals

LOG = logging.getLogger(__name__)

_FOLLOW = 1.0  # seconds; what follows later than that brings an event, or is there at the next try


class DefectError(OvsMcastError):
    """Something that must not happen did; the loop goes on with it as with any failure."""


def _defect(error: Exception) -> DefectError:
    return DefectError(f"a defect of ovs_mcast, please report it: {error!r}")


class Agent(Closeable):
    """Keeps one overlay true, from the main thread: ``run`` returns when a signal ends it.

    ``overlay`` is what the file wanted when it was read first. Observers are told in their order.
    ``left_behind`` names the sets of sockets that an agent before has left in ``notify``'s store:
    they hold their groups until this one does.
    """

    def __init__(
        self,
        configuration: Configuration,
        overlay: Overlay,
        observers: Sequence[Observer],
        *,
        db: str | None = None,
        notify: Notify | None = None,
        left_behind: Sequence[str] = (),
        respond: bool = False,
        timings: Timings | None = None,
    ) -> None:
        self._configuration, self._overlay, self._db = configuration, overlay, db
        self._observers = list(observers)
        self._notify = notify or Notify()
        self._left_behind = list(left_behind)
        self._host: Host | None = None
        self._path_wanted = True
        self._ready = False
        self._alive_at = 0.0
        self._scheduler = Scheduler(time.monotonic(), timings or Timings(), random.random)
        with ExitStack() as stack:
            self._signals = stack.enter_context(Signals())
            # Not the Host's: what is held is held while Open vSwitch is away.
            self._here = stack.enter_context(InProcessKeepers(rundir_of(db), self._notify))
            self._responder = stack.enter_context(Responder()) if respond else None
            self._sources = stack.enter_context(
                Sources(rundir_of(db), configuration, self._signals)
            )
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Let go of everything; the overlay runs on."""
        self._drop()
        self._opened.close()

    def run(self) -> None:
        """Look when there is reason to, until SIGTERM or SIGINT."""
        self._sources.serve(self._overlay)
        self._tell(lambda observer: observer.configured(self._overlay))
        try:
            while not self._signals.ended:
                self._turn()
        except Interrupted:
            LOG.info("a look was cut short: the next run goes on from what is there")
        finally:
            self._notify.stopping()
            try:
                self._here.hand_over()
            finally:
                self._tell(lambda observer: observer.ended())

    def _turn(self) -> None:
        """Wait for what comes first: an event, or the time of the next look."""
        self._keep_alive()
        due = self._scheduler.due()
        if due > time.monotonic():
            self._tell(lambda observer: observer.waiting(due))
        found = self._sources.wait(min(due, self._next_alive()) - time.monotonic())
        for finding in found:
            self._take(finding)
        if not self._signals.ended and time.monotonic() >= self._scheduler.due():
            self._look()

    def _take(self, finding: Trigger) -> None:
        if finding in {CONFIGURATION, HANGUP}:
            self._reload(hangup=finding == HANGUP)
        if finding.kind == "ovsdb" and finding.wakes:
            self._drop()
        self._path_wanted |= finding.came_up
        self._event(finding.kind, wakes=finding.wakes)

    def _event(self, kind: Kind, *, wakes: bool = False) -> None:
        self._scheduler.event(time.monotonic(), wakes=wakes)
        self._tell(lambda observer: observer.event(kind))

    def _reload(self, *, hangup: bool) -> None:
        if hangup:
            self._notify.reloading()
            self._ready = False
        read = read_or_refuse(self._configuration)
        if isinstance(read, Overlay) and read.name != self._overlay.name:
            read = ConfigurationError(
                f"this agent keeps {self._overlay.name}: stop it and tear that down first",
                field="name",
            )
        if isinstance(read, ConfigurationError):
            refused = read
            self._tell(lambda observer: observer.refused(refused))
        elif read != self._overlay:
            self._overlay = read
            self._path_wanted = True
            self._sources.serve(read)
            self._tell(lambda observer: observer.configured(self._overlay))

    def _look(self) -> None:
        started = time.monotonic()
        if not self._scheduler.pending:
            kind: Kind = "retry" if self._scheduler.failing else "minute"
            self._tell(lambda observer: observer.event(kind))
        self._scheduler.began(started)
        try:
            with self._signals.looking():
                host = self._connected()
                self._sources.open(host.backend)
                status = host.reconcile(self._overlay, self._progress)
                missed = self._sources.open(host.backend)
        except OvsMcastError as error:
            if isinstance(error, UnavailableError | ApplyError):
                self._drop()
            self._failed(error, started)
            return
        except Exception as error:
            self._drop()
            self._failed(_defect(error), started)
            return
        ended = time.monotonic()
        self._scheduler.succeeded(ended)
        while self._left_behind:
            self._notify.discard(self._left_behind.pop())
        for finding in missed:
            self._take(finding)
        self._tell(lambda observer: observer.reconciled(status, ended - started, status.changes))
        if not self._ready:
            self._ready = True
            self._notify.ready()
        self._go_with_it()

    def _go_with_it(self) -> None:
        """What goes with a look that ended well, and must not end the loop."""
        started = time.monotonic()
        try:
            if self._path_wanted:
                self._look_at_path()
            if self._responder is not None:
                self._responder.keep(self._overlay)
        except Exception as error:
            self._failed(_defect(error), started)

    def _failed(self, error: OvsMcastError, started: float) -> None:
        ended = time.monotonic()
        streak = self._scheduler.failed(ended)
        self._tell(lambda observer: observer.failed(error, ended - started, streak))

    def _look_at_path(self) -> None:
        """Where one datagram goes in truth; the route look-ups of a look send none."""
        self._path_wanted = False
        groups = self._overlay.flood_groups
        if not groups:
            return
        try:
            with self._signals.looking():
                seen = send_path(self._overlay.underlay.device, groups[0], detection=0.0)
        except OvsMcastError:
            self._path_wanted = True  # the device went; the look that its event brings says so
            return
        self._tell(lambda observer: observer.path(seen))

    def _connected(self) -> Host:
        if self._host is None:
            machine = open_backend(self._db, None, "keeper")
            self._host = Host(replace(machine, keeper=self._here.keeper))
        return self._host

    def _drop(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def _progress(self, _done: int, _total: int) -> None:
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Tell the service manager's watchdog, from the loop only: one that hangs is noticed."""
        now = time.monotonic()
        if self._notify.watchdog is not None and now >= self._alive_at:
            self._notify.alive()
            self._alive_at = now + self._notify.watchdog / 2

    def _next_alive(self) -> float:
        return float("inf") if self._notify.watchdog is None else self._alive_at

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                what(observer)
            except Exception:
                self._observers.remove(observer)
                LOG.exception("a defect of ovs_mcast, please report it: told no more")
