"""Probes the groups of the overlay, one after the other, in a thread of its own.

For metrics alone: the results change nothing. Questions have the overlay's TTL, to reach whom its
packets reach. Hosts answer that run `agent --respond` or `probe respond`; a host that has stopped
answering counts as loss until it is forgotten.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from ..core.closeable import Closeable
from ..core.model import Overlay
from ..errors import OvsMcastError
from ..probe import Reachability, send
from .observer import Observer
from .responder import KEY_VARIABLE

_COUNT, _INTERVAL, _TIMEOUT = 3, 0.1, 0.5
_FORGOTTEN = 30  # rounds without an answer
_REMEMBERED = 256  # hosts of a group


class Prober(Observer, Closeable):
    """Probes one group every ``pause`` seconds; calls ``report`` in the thread."""

    def __init__(self, pause: float, report: Callable[[Reachability], None]) -> None:
        self._pause, self._report = pause, report
        self._overlay: Overlay | None = None
        self._silent: dict[str, dict[str, int]] = {}  # group to host to rounds without an answer
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ovs-mcast-prober", daemon=True)
        self._thread.start()

    def configured(self, overlay: Overlay) -> None:
        """Probe the groups of this overlay from now on."""
        self._overlay = overlay

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._ending.wait(self._pause):
            overlay = self._overlay
            if overlay is not None and overlay.flood_groups:
                group = str(overlay.flood_groups[turn % len(overlay.flood_groups)])
                turn += 1
                # Without the device, or while it is down, skip the probe; the loop reports why.
                with suppress(OvsMcastError, OSError):
                    self._probe(overlay, group)

    def _probe(self, overlay: Overlay, group: str) -> None:
        key = os.environ.get(KEY_VARIABLE)
        silent = self._silent.pop(group, {})  # stored again below, unless the probe fails
        found = send(
            overlay.underlay.device, group, source=overlay.underlay.vtep, expect=tuple(silent),
            count=_COUNT, interval=_INTERVAL, timeout=_TIMEOUT, ttl=overlay.underlay.ttl,
            key=key.encode() if key else None,
        )  # fmt: skip
        self._report(found)
        rounds = {
            host: 0 if one.group.received else silent.get(host, 0) + 1
            for host, one in found.responders.items()
        }
        known = {host: since for host, since in rounds.items() if since < _FORGOTTEN}
        self._silent[group] = dict(sorted(known.items(), key=lambda item: item[1])[:_REMEMBERED])
        for gone in self._silent.keys() - set(map(str, overlay.flood_groups)):
            del self._silent[gone]
