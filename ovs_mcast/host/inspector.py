"""Inspect the overlays on a host, by their marks alone; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from ..core import flow_text, losses, ownership, traffic
from ..core.changes import Plan
from ..core.closeable import Closeable
from ..core.findings import Finding, error
from ..core.health import Assessment, assess
from ..core.items import Bridge, Flow
from ..core.observed import owners
from ..core.plan import desired_flows, plan_for
from ..core.preflight import check
from ..core.recovery import recover
from ..core.status import Holder, OverlayStatus, SegmentDetail
from ..core.target import Target
from ..core.traffic import Counters, Traffic
from ..errors import ConfigurationError, UnavailableError
from .backend import Backend
from .observe import dump_flows, lookups, observe_without_flows, with_needs

_OF_OVERLAY = {"datapath", "device"}  # what one overlay lacks, and another may have
_Dumped = Mapping[str, list[str]]  # the flows of each bridge as printed, with statistics


class Inspector(Closeable):
    """A read-only ovs_mcast.Host. Use it from one thread at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def close(self) -> None:
        """End the connections; no thread is left."""
        self._backend.close()

    def overlays(self) -> list[str]:
        """Return the names of the overlays that have rows in this OVSDB."""
        ovsdb = self._backend.ovsdb
        return sorted(owners((*ovsdb.bridges().values(), *ovsdb.ports().values())))

    def inspect(self, name: str) -> OverlayStatus:
        """Return the state of an overlay, by one dump of the flows of each bridge that has some."""
        holder = self._backend.keeper(name).holder()
        try:
            target, pending, counters = self._recover(name)
        except (ConfigurationError, UnavailableError) as refused:
            if isinstance(refused, UnavailableError) and refused.reason not in _OF_OVERLAY:
                raise
            return OverlayStatus(name, healthy=False, held_by=holder, problems=(str(refused),))
        more = [*_missing(target, holder), *losses.warnings(target, counters)]
        if _is_bare(target):
            others = tuple(one for one in pending if not isinstance(one.item, Flow))
            pending = replace(pending, changes=others)
        found = assess(target, lookups(self._backend, target), pending, more)
        return OverlayStatus(
            overlay=name,
            healthy=found.healthy,
            underlay=target.device,
            vtep=str(target.vtep),
            datapath=target.overlay.datapath,
            bridge=target.overlay.bridge,
            tunnel_bridge=target.overlay.tunnel_bridge,
            held_by=holder if target.method == "socket" else Holder("kernel"),
            segments=_details(found, counters.segments),
            problems=found.problems,
        )

    def _recover(self, name: str) -> tuple[Target, Plan, Counters]:
        """Return the overlay as applied, the plan of its repair, and its counters."""
        observed = observe_without_flows(self._backend, name)
        dumped = dict(dump_flows(self._backend, name, observed.bridges.values(), self._dump(name)))
        counters = traffic.read(name, chain.from_iterable(dumped.values()))
        static = {bridge: flow_text.split_learned(lines)[1] for bridge, lines in dumped.items()}
        printed = replace(observed, flows=_read(static, ()))
        overlay = recover(name, printed)
        target = check(overlay, with_needs(self._backend, overlay, printed))
        # Parse again, given the expected flows: versions print the same flow differently.
        flows = _read(static, tuple(desired_flows(target)))
        observed = replace(target.observed, flows=flows, peers=counters.peers)
        target = replace(target, observed=observed)
        return target, plan_for(target), counters

    def _dump(self, name: str) -> Callable[[Bridge], list[str]]:
        cookie, mask = ownership.cookie(name), ownership.OVERLAY_MASK
        return lambda bridge: self._backend.openflow.dump_counted(bridge, cookie, mask)


def _details(found: Assessment, counted: Mapping[int, Traffic]) -> dict[int, SegmentDetail]:
    return {
        vni: SegmentDetail(
            vlan=seen.vlan,
            group=seen.group,
            joined_by=seen.joined_by,
            send_path=seen.send_path,
            traffic=counted.get(vni) or Traffic(seen.vlan),
        )
        for vni, seen in found.segments.items()
    }


def _missing(target: Target, holder: Holder) -> Iterator[Finding]:
    """Yield what a recovered overlay lacks as a whole."""
    name, tunnel = target.overlay.name, target.overlay.tunnel_bridge
    if _is_bare(target):
        yield error(
            "flows-missing", name,
            f"{tunnel} has no flow of ours: has ovs-vswitchd started anew? Run setup again",
        )  # fmt: skip
    if target.method == "socket" and holder.who == "nobody":
        yield error("keeper-missing", name, "no process holds the groups", "run setup again")


def _is_bare(target: Target) -> bool:
    """Return whether the tunnel bridge has lost all flows: then each one is not worth a line."""
    tunnel = target.overlay.tunnel_bridge
    return all(flow.bridge != tunnel for flow in target.observed.flows)


def _read(dumped: _Dumped, expected: tuple[Flow, ...]) -> tuple[Flow, ...]:
    return tuple(
        flow for bridge, lines in dumped.items() for flow in flow_text.read(bridge, lines, expected)
    )
