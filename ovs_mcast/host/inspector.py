"""What of ours is on this machine, read and put together; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..adapters.openflow import OpenFlow, OpenFlowError
from ..core import flow_text, ownership
from ..core import traffic as traffic_module
from ..core.closeable import Closeable
from ..core.health import kept
from ..core.items import Flow
from ..core.observed import Observed
from ..core.plan import expected_flows, plan
from ..core.recovery import discover
from ..core.status import Holder, OverlayStatus, Who
from ..errors import ConfigurationError, UnavailableError
from ..membership.keeper import Keeper
from .connect import open_backend, rundir_of
from .observe import ways, without_flows

_AGENT = frozenset({"agent", "ovs_mcast.agent"})


class Inspector(Closeable):
    """One Open vSwitch and the network namespace of the caller; as ovs_mcast.Host, but only reads.

    UnavailableError if Open vSwitch does not run. Use it from one thread at a time.
    """

    def __init__(self, db: str | None = None) -> None:
        self.rundir = rundir_of(db)
        self._backend = open_backend(db, self.rundir, "keeper")
        self._openflow = OpenFlow(self.rundir)

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
        found = Keeper(self.rundir, name).look()
        holder = Holder(_who(found.pid), found.pid) if found else Holder("nobody")
        return without_flows(self._backend, name), holder

    def _dumps(self, name: str, seen: Observed) -> Iterator[tuple[str, list[str]]]:
        cookie, mask = ownership.cookie(name), ownership.OVERLAY_MASK
        for bridge in seen.bridges.values():
            if bridge.owner == name or bridge.datapath == "netdev":
                try:
                    lines = self._openflow.dump_counted(bridge, cookie, mask)
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


def _who(pid: int) -> Who:
    """What kind of process it is that answers as the keeper, by its name and command line."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        if (process / "comm").read_text().strip() == "ovs-mcast-keep":
            return "keeper"
        command = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
        if any("ovs_mcast/agent" in part or part in _AGENT for part in command):
            return "agent"
    return "hold"
