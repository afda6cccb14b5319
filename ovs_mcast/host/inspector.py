"""What of ours is on this machine, read and put together; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..adapters.openflow import OpenFlowError
from ..core import flow_text, ownership
from ..core import traffic as traffic_module
from ..core.closeable import Closeable
from ..core.health import kept
from ..core.items import Flow
from ..core.observed import Observed
from ..core.plan import expected_flows, plan
from ..core.recovery import discover
from ..core.status import Holder, OverlayStatus
from ..errors import ConfigurationError, UnavailableError
from .backend import Backend
from .connect import open_backend
from .observe import ways, without_flows


class Inspector(Closeable):
    """One Open vSwitch and the network namespace of the caller; as ovs_mcast.Host, but only reads.

    ``backend`` replaces both, as for a machine in memory. UnavailableError if Open vSwitch does not
    run. Use it from one thread at a time.
    """

    def __init__(self, db: str | None = None, backend: Backend | None = None) -> None:
        self._backend = backend or open_backend(db, None, "keeper")

    def close(self) -> None:
        """End the connections; no thread is left."""
        self._backend.close()

    def overlays(self) -> list[str]:
        """The overlays that have rows in this OVSDB, by name."""
        ovsdb = self._backend.ovsdb
        seen = Observed(bridges=ovsdb.bridges(), ports=ovsdb.ports())
        return sorted(seen.overlays())

    def look(self, name: str) -> OverlayStatus:
        """What is there of an overlay: one dump of the flows of each bridge that may have some."""
        seen, holder = self._seen(name)
        dumped = dict(self._dumps(name, seen))
        traffic = traffic_module.traffic(
            name, (line for lines in dumped.values() for line in lines)
        )
        printed = _read(dumped, ())
        try:
            overlay = discover(name, replace(seen, flows=printed))
            # Read again beside what is expected: versions print the same flow differently.
            expected = expected_flows(overlay, seen)
            seen = replace(seen, flows=_read(dumped, expected) if expected else printed)
            seen = ways(self._backend, overlay, seen)
            return kept(overlay, seen, plan(overlay, seen), traffic, holder)
        except ConfigurationError as error:
            return OverlayStatus(name, healthy=False, held_by=holder, problems=(str(error),))

    def _seen(self, name: str) -> tuple[Observed, Holder]:
        holder = self._backend.keeper(name).holder()
        return without_flows(self._backend, name), holder

    def _dumps(self, name: str, seen: Observed) -> Iterator[tuple[str, list[str]]]:
        cookie, mask = ownership.cookie(name), ownership.OVERLAY_MASK
        for bridge in seen.bridges.values():
            if bridge.owner == name or bridge.datapath == "netdev":
                try:
                    lines = self._backend.openflow.dump_counted(bridge, cookie, mask)
                except OpenFlowError as error:
                    raise UnavailableError(
                        f"ovs-vswitchd does not show its flows: {error}"
                    ) from None
                yield bridge.name, lines


def _read(dumped: dict[str, list[str]], expected: tuple[Flow, ...]) -> tuple[Flow, ...]:
    return tuple(
        flow
        for bridge, lines in dumped.items()
        for flow in flow_text.read(bridge, lines, expected)
        if not ownership.is_learned(flow.cookie)
    )
