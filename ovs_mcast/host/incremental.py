"""Add, change or remove one segment of an overlay in place: changed and read back alone.

The number of messages does not depend on the number of segments. Anything that is not as expected
raises DriftError: then the overlay must be reconciled as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..adapters.openflow import OpenFlowError
from ..core import flow_text, loops, ownership, pipeline
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


def change(
    backend: Backend, applied: AppliedOverlay, before: Segment | None, after: Segment | None
) -> Status:
    """Put one segment in place of another among the others, and read it back; None for none.

    Nothing changes where the segment is there already, but it is read back.
    """
    segments = [one for one in (before, after) if one is not None]
    observed = _observe(backend, applied, segments)
    if after is not None:
        _refuse_loops(applied.target, after, observed)
    old = None if before is None else applied.items_of(before, observed)
    new = None if after is None else applied.items_of(after, observed)
    either = new or old
    assert either is not None  # one of the two is given
    bridge = _expect_rows(either.target)
    regrouped = new is not None and (old is None or old.group != new.group)
    if new is not None and regrouped and not new.shares and _routed(backend, new):
        raise DriftError(f"there is a route to {new.group}")
    plan = applied.change(bridge, old, new)
    _apply(backend, plan)
    status = Status(plan.overlay, verified=True, decision=observed.decision)
    if new is not None:
        status = observe.await_verified(
            backend, new.target.overlay, lambda: _in_place(backend, new)
        )
    left = [] if old is None else list(_left(backend, old, new))
    if new is None:
        left += map(str, _shared_findings(backend, either))
    if left or not status.verified:
        raise DriftError("; ".join([*left, *status.problems]), plan.changes)
    return replace(status, changes=plan.changes)


def _refuse_loops(target: Target, segment: Segment, observed: Observed) -> None:
    """Refuse a VLAN that another overlay has on the same bridge."""
    for finding in loops.refusals(target.overlay, [segment], observed.bridges):
        raise replace(finding, field="vlan").refusal()


def _routed(backend: Backend, items: SegmentItems) -> bool:
    return backend.netlink.group_route(items.segment.flood_group) is not None


def _observe(backend: Backend, applied: AppliedOverlay, segments: Iterable[Segment]) -> Observed:
    """Return what a segment's items depend on: the device, the bridges, the choice of `auto`."""
    if any(applied.needs_whole(segment, backend.limits()) for segment in segments):
        raise DriftError("the change concerns more than the segment")
    device = applied.target.device
    link = backend.netlink.link(device)
    if link is None or not link.up:
        raise DriftError(f"{device} is down or gone")
    vtep = applied.target.vtep
    if backend.netlink.look_up([vtep]).get(str(vtep), RoutePath(None)).device != "lo":
        raise DriftError(f"{vtep} is no address of this host")
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


def _expect_rows(target: Target) -> Bridge:
    """Expect the bridges, and the ports of the tunnel bridge, that all segments need.

    Return the tunnel bridge. Its notes are followed already (AppliedOverlay.follow()).
    """
    observed, tunnel = target.observed, target.overlay.tunnel_bridge
    ports = set(observed.ports.values())
    for item in desired(target):
        if isinstance(item, Bridge):
            seen = observed.bridges.get(item.name)
            there = seen is not None and replace(seen, notes=item.notes) == item
        else:
            there = not isinstance(item, Port) or item.bridge != tunnel or item in ports
        if not there:
            raise DriftError(f"{item.target} is not as desired")
    return observed.bridges[tunnel]


def _apply(backend: Backend, plan: Plan) -> None:
    try:
        apply.apply(backend, plan, single_segment=True)
    except ApplyError as failed:
        raise DriftError(str(failed), failed.done) from None


def _in_place(backend: Backend, items: SegmentItems) -> tuple[Status, bool]:
    """Return the status of the overlay of this segment alone, and whether waiting is useless."""
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
    status = Status(
        name, (), found.healthy, found.segments, found.problems, decision, found.findings
    )
    return status, found.settled


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
    yield from _differing(backend, items, _cookie(items))
    yield from _shared_findings(backend, items)
    tunnel = items.target.overlay.tunnel_bridge
    underlay = {flow for flow in items.flows if flow.bridge != tunnel}
    for flow in underlay - set(_underlay_flows(backend, items)):
        yield error("change-pending", flow.target, f"{flow.target}: missing")


def _shared_findings(backend: Backend, items: SegmentItems) -> Iterator[Finding]:
    """Yield what is amiss of the tunnel bridge's flows that serve all segments."""
    yield from _differing(backend, items, ownership.cookie(items.target.overlay.name))


def _differing(backend: Backend, items: SegmentItems, cookie: int) -> Iterator[Finding]:
    """Yield the flows of a cookie that the tunnel bridge lacks, and those that are not desired."""
    tunnel = items.target.overlay.tunnel_bridge
    expected = {flow for flow in desired_flows(items.target)
                if flow.bridge == tunnel and flow.cookie == cookie}  # fmt: skip
    lines = _dump(backend, items.target.observed.bridges[tunnel], cookie, _ALL)
    found = set(flow_text.read(tunnel, lines, expected))
    for flow in expected - found:
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


def _left(backend: Backend, items: SegmentItems, now: SegmentItems | None) -> Iterator[str]:
    """Yield what is left of a removed or changed segment, learned flows too."""
    overlay = items.target.overlay
    bridge = items.target.observed.bridges[overlay.tunnel_bridge]
    if now is None or _cookie(now) != _cookie(items):
        lines = _dump(backend, bridge, _cookie(items), _ALL ^ ownership.LEARNED)
        yield from (f"{line.strip()}: still there" for line in lines)
    if now is not None and now.group == items.group:
        return
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
