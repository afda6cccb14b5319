"""Add or remove one segment of an overlay that was applied: changed and read back alone.

The number of messages does not depend on the number of segments. Anything that is not as expected
raises DriftError: then the overlay must be reconciled as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..adapters.openflow import OpenFlowError
from ..core import flow_text, ownership, pipeline
from ..core.changes import Change, Plan
from ..core.findings import Finding, error
from ..core.health import assess
from ..core.incremental import AppliedOverlay, SegmentItems
from ..core.items import Bridge, Flow, Port
from ..core.model import Segment
from ..core.observed import Lookups, Observed, RoutePath
from ..core.plan import desired, desired_flows
from ..core.status import Status
from ..core.target import Target
from ..errors import ApplyError
from . import apply, observe
from .backend import Backend

_ALL = (1 << 64) - 1


class DriftError(Exception):
    """The host is not as expected; ``done`` are the changes already made."""

    def __init__(self, what: str, done: tuple[Change, ...] = ()) -> None:
        super().__init__(what)
        self.done = done


def add(backend: Backend, applied: AppliedOverlay, segment: Segment) -> Status:
    """Add a segment to the others, and read it back."""
    items = applied.items_of(segment, _observe(backend, applied, segment))
    _expect_rows(items)
    if not items.shares and backend.netlink.group_route(segment.flood_group) is not None:
        raise DriftError(f"there is a route to {items.group}")
    plan = applied.addition(items)
    _apply(backend, plan)
    status = observe.await_verified(
        backend, items.target.overlay, lambda: (_added(backend, items), False)
    )
    if not status.verified:
        raise DriftError("; ".join(status.problems), plan.changes)
    return replace(status, changes=plan.changes)


def remove(backend: Backend, applied: AppliedOverlay, segment: Segment) -> Status:
    """Remove a segment from the others, and verify that nothing of it is left."""
    items = applied.items_of(segment, _observe(backend, applied, segment))
    _expect_rows(items)
    plan = applied.removal(items)
    _apply(backend, plan)
    left = list(_left(backend, items))
    if left:
        raise DriftError("; ".join(left), plan.changes)
    decision = items.target.observed.decision
    return Status(items.target.overlay.name, plan.changes, verified=True, decision=decision)


def _observe(backend: Backend, applied: AppliedOverlay, segment: Segment) -> Observed:
    """Return what a segment's items depend on: the device, the bridges, the choice of `auto`."""
    if applied.needs_whole(segment, backend.limits()):
        raise DriftError("the change concerns more than the segment")
    device = applied.target.device
    link = backend.netlink.link(device)
    if link is None or not link.up:
        raise DriftError(f"{device} is down or gone")
    return replace(
        applied.observed,
        bridges=backend.ovsdb.bridges(),
        ports=_ports(backend, applied.target),
        links={link.name: link},
    )


def _ports(backend: Backend, target: Target) -> dict[str, Port]:
    """Return the ports of the tunnel bridge, and of the bridge that has the underlay device."""
    ports = backend.ovsdb.ports(target.overlay.tunnel_bridge)
    if target.userspace and target.underlay_bridge != target.device:
        ports |= backend.ovsdb.ports(target.underlay_bridge)
    return ports


def _expect_rows(items: SegmentItems) -> None:
    """Expect the bridges, and the ports of the tunnel bridge, that all segments need."""
    target = items.target
    there = {*target.observed.bridges.values(), *target.observed.ports.values()}
    for item in desired(target):
        elsewhere = isinstance(item, Port) and item.bridge != target.overlay.tunnel_bridge
        if isinstance(item, Bridge | Port) and not elsewhere and item not in there:
            raise DriftError(f"{item.target} is not as desired")


def _apply(backend: Backend, plan: Plan) -> None:
    try:
        apply.apply(backend, plan, single_segment=True)
    except ApplyError as failed:
        raise DriftError(str(failed), failed.done) from None


def _added(backend: Backend, items: SegmentItems) -> Status:
    """Return the status of the overlay of this segment alone."""
    before, group = items.target, items.segment.flood_group
    target = replace(before, observed=replace(before.observed, ports=_ports(backend, before)))
    joined = backend.is_member(target.device, items.group)
    lookups = Lookups(
        joined=frozenset({items.group} if joined else ()),
        sends=backend.netlink.look_up([group]),
        tunnels=_tunnels(backend, items),
    )
    name = target.overlay.name
    found = assess(target, lookups, Plan(name), _flow_findings(backend, items))
    decision = target.observed.decision
    return Status(name, (), found.healthy, found.segments, found.problems, decision)


def _tunnels(backend: Backend, items: SegmentItems) -> dict[str, RoutePath]:
    if not items.target.userspace:
        return backend.netlink.look_up([items.segment.flood_group], items.target.vtep)
    with backend.vswitchd() as control:
        return dict(control.look_up([items.group]))


def _flow_findings(backend: Backend, items: SegmentItems) -> Iterator[Finding]:
    """Yield missing flows, and undesired ones with the segment's cookie.

    The tunnel bridge's flows that serve all segments are included: without those the segment is
    not in place.
    """
    overlay = items.target.overlay
    tunnel = overlay.tunnel_bridge
    expected = {flow for flow in desired_flows(items.target) if flow.bridge == tunnel}
    found: set[Flow] = set()
    for cookie in (_cookie(items), ownership.cookie(overlay.name)):
        lines = _dump(backend, items.target.observed.bridges[tunnel], cookie, _ALL)
        found |= set(flow_text.read(tunnel, lines, expected))
    underlay = {flow for flow in items.flows if flow.bridge != tunnel}
    missing = [*(expected - found), *(underlay - set(_underlay_flows(backend, items)))]
    for flow in missing:
        yield error("change-pending", flow.target, f"{flow.target}: missing")
    for flow in found - expected:
        yield error("change-pending", flow.target, f"{flow.target}: not desired")


def _underlay_flows(backend: Backend, items: SegmentItems) -> Iterator[Flow]:
    """Yield the group's flows on the underlay's bridge, with the userspace datapath."""
    target = items.target
    bridge = target.observed.bridges.get(target.underlay_bridge)
    if not target.userspace or items.shares or bridge is None:
        return
    cookie = ownership.cookie(target.overlay.name)
    for match in pipeline.underlay_matches(items.segment.flood_group):
        lines = _dump(backend, bridge, cookie, _ALL, match)
        yield from flow_text.read(bridge.name, lines, items.flows)


def _left(backend: Backend, items: SegmentItems) -> Iterator[str]:
    """Yield the items that are left of a removed segment, learned flows too."""
    overlay = items.target.overlay
    bridge = items.target.observed.bridges[overlay.tunnel_bridge]
    lines = _dump(backend, bridge, _cookie(items), _ALL ^ ownership.LEARNED)
    yield from (f"{line.strip()}: still there" for line in lines)
    yield from (f"{flow.target}: still there" for flow in _underlay_flows(backend, items))
    route = None if items.shares else backend.netlink.group_route(items.segment.flood_group)
    if route is not None and ownership.is_ours(route, overlay.name):
        yield f"{route.target}: still there"


def _cookie(items: SegmentItems) -> int:
    segment = items.segment
    return ownership.cookie(items.target.overlay.name, vlan=segment.vlan, vni=segment.vni)


def _dump(backend: Backend, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
    try:
        return backend.openflow.dump(bridge, cookie, mask, match)
    except OpenFlowError as failed:
        raise DriftError(str(failed)) from None
