"""Prometheus metrics of the agent: counted as the loop notifies, and served over HTTP.

| metric | meaning |
|---|---|
| `ovs_mcast_healthy` | 1 if the last reconcile succeeded |
| `ovs_mcast_last_success_timestamp_seconds` | when a reconcile last succeeded |
| `ovs_mcast_segments_wanted` | segments of the configuration |
| `ovs_mcast_reconciles_total` | reconciles, by `result`: unchanged, changed, failed |
| `ovs_mcast_reconcile_duration_seconds` | duration of reconciles: a histogram |
| `ovs_mcast_changes_total` | changes made, by `kind` and `action` |
| `ovs_mcast_failures_total` | failed reconciles, by `error`, the class of the error |
| `ovs_mcast_events_total` | events that affect the overlay, by `kind` |
| `ovs_mcast_failovers_total` | failovers below the underlay device: groups were reported again |
| `ovs_mcast_configurations_refused_total` | new configurations that were refused |
| `ovs_mcast_segments` | segments at the last successful reconcile, by `joined_by` and `send_path` |
| `ovs_mcast_path_checks_total` | datagrams sent to measure their path, by `verdict` |
| `ovs_mcast_probes_sent_total`, `…_lost_total` | probes of a `group`, for each `responder` |
| `ovs_mcast_probe_round_trip_seconds` | average round trip of the last probes |
| `ovs_mcast_build_info` | the `version` |

flow_metrics.py has those of the flows. All but the last have the label `overlay`. The registry is
the agent's own.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from ..core.changes import Change
from ..core.closeable import Closeable
from ..core.model import Overlay
from ..core.status import Status
from ..errors import ConfigurationError, OvsMcastError
from ..probe.reachability import Reachability
from ..probe.verdict import SendPath
from .announcer import Announcement
from .flow_metrics import FlowMetrics
from .metrics_server import MetricsServer
from .observer import FailureStreak, Kind, Observer

_RESPONDERS = 256  # further responders of probes are counted as "other"
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics(Observer, Closeable):
    """Serves its counts at ``address``, (IP address, port), until ``ended``.

    None serves nothing: read ``registry``. UnavailableError where the port is taken.
    """

    def __init__(self, address: tuple[str, int] | None, flows: FlowMetrics) -> None:
        self.registry = CollectorRegistry()
        self._flows = flows
        self._overlay = ""
        self._responders: set[tuple[str, str]] = set()
        self._wanted = self._gauge("segments_wanted", "Segments of the configuration.")
        self._healthy = self._gauge("healthy", "1 if the last reconcile succeeded.")
        self._success = self._gauge(
            "last_success_timestamp_seconds", "When a reconcile last succeeded, since the epoch."
        )
        self._segments = self._gauge(
            "segments", "Segments at the last successful reconcile.", "joined_by", "send_path"
        )
        self._reconciles = self._counter("reconciles", "Reconciles.", "result")
        self._changes = self._counter("changes", "Changes made.", "kind", "action")
        self._failures = self._counter("failures", "Failed reconciles.", "error")
        self._events = self._counter("events", "Events that affect the overlay.", "kind")
        self._refused = self._counter(
            "configurations_refused", "New configurations that were refused."
        )
        self._failovers = self._counter(
            "failovers", "Failovers below the underlay device: the groups were reported again."
        )
        self._paths = self._counter(
            "path_checks", "Datagrams sent to measure their path.", "verdict"
        )
        self._sent = self._counter("probes_sent", "Probes sent to the group.", "group", "responder")
        self._lost = self._counter(
            "probes_lost", "Probes of the group without an answer.", "group", "responder"
        )
        self._round_trip = self._gauge(
            "probe_round_trip_seconds",
            "Average round trip of the last probes.",
            "group",
            "responder",
        )
        self._duration = Histogram(
            "ovs_mcast_reconcile_duration_seconds", "Duration of reconciles.", ["overlay"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        Info("ovs_mcast_build", "The version that runs.", registry=self.registry).info(
            {"version": _version()}
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(flows)
        self._server = MetricsServer(address, self.registry) if address else None

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ovs_mcast_{name}", text, ["overlay", *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ovs_mcast_{name}", text, ["overlay", *labels], registry=self.registry)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()

    def configured(self, overlay: Overlay) -> None:
        """Start the series that must exist from the beginning, at 0."""
        self._overlay = overlay.name
        self._flows.wanted = overlay
        self._wanted.labels(overlay.name).set(len(overlay.segments))
        self._healthy.labels(overlay.name)
        self._success.labels(overlay.name)
        self._duration.labels(overlay.name)
        self._refused.labels(overlay.name)
        for result in ("unchanged", "changed", "failed"):
            self._reconciles.labels(overlay.name, result)

    def refused(self, error: ConfigurationError) -> None:
        """Count the refusal."""
        self._refused.labels(self._overlay).inc()

    def event(self, kind: Kind) -> None:
        """Count the event."""
        self._events.labels(self._overlay, kind).inc()

    def reconciled(self, status: Status, seconds: float, changes: Sequence[Change]) -> None:
        """Count the reconcile and its changes, and observe its duration."""
        self._reconciles.labels(self._overlay, "changed" if changes else "unchanged").inc()
        self._duration.labels(self._overlay).observe(seconds)
        self._healthy.labels(self._overlay).set(1)
        self._success.labels(self._overlay).set(time.time())
        for (kind, action), number in Tally((c.kind, c.action) for c in changes).items():
            self._changes.labels(self._overlay, kind, action).inc(number)
        paths = Tally((one.joined_by, one.send_path) for one in status.segments.values())
        self._segments.clear()
        for (joined_by, send_path), number in paths.items():
            self._segments.labels(self._overlay, joined_by, send_path).set(number)
        self._flows.seen = status.segments

    def failed(self, error: OvsMcastError, seconds: float, streak: FailureStreak) -> None:
        """Count the failure by its class."""
        self._reconciles.labels(self._overlay, "failed").inc()
        self._duration.labels(self._overlay).observe(seconds)
        self._healthy.labels(self._overlay).set(0)
        self._failures.labels(self._overlay, type(error).__name__).inc()

    def path(self, result: SendPath) -> None:
        """Count the verdict."""
        self._paths.labels(self._overlay, result.verdict).inc()

    def announced(self, announcement: Announcement) -> None:
        """Count the failover."""
        self._failovers.labels(self._overlay).inc()

    def probed(self, result: Reachability) -> None:
        """Count the outcome of probes; anyone may answer, so the responders are bounded."""
        for address, one in result.responders.items():
            known = (result.group, address) in self._responders
            if known or len(self._responders) < _RESPONDERS:
                self._responders.add((result.group, address))
                labels = (self._overlay, result.group, address)
            else:
                labels = (self._overlay, result.group, "other")
            self._sent.labels(*labels).inc(one.group.sent)
            self._lost.labels(*labels).inc(one.group.lost)
            if one.group.round_trip is not None:
                self._round_trip.labels(*labels).set(one.group.round_trip.avg / 1000)

    def ended(self) -> None:
        """Stop serving."""
        self.close()


def _version() -> str:
    try:
        return version("ovs-mcast")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
