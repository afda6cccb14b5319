"""One segment more or less on a machine whose overlay is in place: changed and read back alone.

The number of messages does not depend on how many segments there are. Whatever is not as it is
expected to be raises UnexpectedError: then the whole has to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netaddr import IPAddress

from ..adapters.openflow import OpenFlowError
from ..core import flow_text, health, ownership, pipeline
from ..core.changes import Change, Plan
from ..core.incremental import AppliedOverlay, SegmentItems
from ..core.items import Bridge, Flow, Port
from ..core.model import Overlay, Segment
from ..core.observed import Observed, RoutePath
from ..core.plan import wanted, wanted_flows
from ..core.status import SegmentStatus, Status
from ..core.target import method_of
from ..errors import ApplyError
from . import apply, observe
from .backend import Backend

_ALL = (1 << 64) - 1


class DriftError(Exception):
    """Something is not as expected; ``done`` are the changes that were made all the same."""

    def __init__(self, what: str, done: tuple[Change, ...] = ()) -> None:
        super().__init__(what)
        self.done = done


def add(backend: Backend, place: AppliedOverlay, segment: Segment) -> Status:
    """Put a segment in place beside the others, and read it back."""
    seen, vtep = _look(backend, place, segment)
    alone = place.alone(segment, seen, vtep)
    _expect_rows(alone, seen, vtep)
    if not alone.shares and backend.netlink.group_route(segment.flood_group) is not None:
        raise DriftError(f"there is a route to {alone.group}")
    plan = place.addition(alone, seen)
    _apply(backend, plan)
    status = observe.patiently(
        backend, alone.overlay, lambda: (_added(backend, alone, seen, vtep), False)
    )
    if not status.verified:
        raise DriftError("; ".join(status.problems), plan.changes)
    return replace(status, changes=plan.changes)


def remove(backend: Backend, place: AppliedOverlay, segment: Segment) -> Status:
    """Take a segment away from beside the others, and see that it is gone."""
    seen, vtep = _look(backend, place, segment)
    alone = place.alone(segment, seen, vtep)
    _expect_rows(alone, seen, vtep)
    plan = place.removal(alone)
    _apply(backend, plan)
    left = list(_left(backend, alone, seen))
    if left:
        raise DriftError("; ".join(left), plan.changes)
    return Status(alone.overlay.name, plan.changes, verified=True, decision=seen.decision)


def _look(backend: Backend, place: AppliedOverlay, segment: Segment) -> tuple[Observed, IPAddress]:
    """What a segment's items depend on: the device, the bridges, what `auto` has chosen."""
    overlay = place.first
    if place.needs_the_whole(segment, backend.limits()):
        raise DriftError("more than the segment is in question")
    link = backend.netlink.link(overlay.underlay.device)
    if link is None or not link.up:
        raise DriftError(f"{overlay.underlay.device} is down or gone")
    seen = Observed(
        bridges=backend.ovsdb.bridges(),
        ports=backend.ovsdb.ports(overlay.tunnel_bridge),
        links={link.name: link},
        decision=place.decision,
    )
    return seen, place.vtep


def _expect_rows(alone: SegmentItems, seen: Observed, vtep: IPAddress) -> None:
    """The bridges, and the ports of the tunnel bridge, that all segments need."""
    there = {*seen.bridges.values(), *seen.ports.values()}
    for item in wanted(alone.overlay, seen, vtep):
        elsewhere = isinstance(item, Port) and item.bridge != alone.overlay.tunnel_bridge
        if isinstance(item, Bridge | Port) and not elsewhere and item not in there:
            raise DriftError(f"{item.target} is not as wanted")


def _apply(backend: Backend, plan: Plan) -> None:
    try:
        apply.apply(backend, plan)
    except ApplyError as error:
        done = tuple(change for change in error.done if isinstance(change, Change))
        raise DriftError(str(error), done) from None


def _added(backend: Backend, alone: SegmentItems, seen: Observed, vtep: IPAddress) -> Status:
    overlay, segment = alone.overlay, alone.segment
    group, device = segment.flood_group, overlay.underlay.device
    seen = replace(
        seen,
        ports=backend.ovsdb.ports(overlay.tunnel_bridge),
        joined=frozenset({alone.group} if backend.is_member(device, alone.group) else ()),
        sends=backend.netlink.look_up([group]),
        tunnels=_tunnel(backend, overlay, group, vtep),
    )
    faults = [*_flow_faults(backend, alone, seen, vtep), *health.faults(overlay, seen)]
    status = SegmentStatus(
        vlan=segment.vlan,
        group=alone.group,
        joined_by=method_of(overlay, seen),
        send_path=health.send_path(overlay, seen, group),
    )
    problems = (*faults, *health.warnings(overlay, seen))
    return Status(overlay.name, (), not faults, {segment.vni: status}, problems, seen.decision)


def _tunnel(
    backend: Backend, overlay: Overlay, group: IPAddress, vtep: IPAddress
) -> dict[str, RoutePath]:
    if overlay.datapath != "netdev":
        return backend.netlink.look_up([group], vtep)
    with backend.vswitchd() as control:
        return {str(group): control.route(str(group))}


def _flow_faults(
    backend: Backend, alone: SegmentItems, seen: Observed, vtep: IPAddress
) -> Iterator[str]:
    """Flows that are missing, or are there under the segment's cookie and should not be.

    Of the tunnel bridge those that serve all segments are looked at too: without them the segment
    is not in place.
    """
    overlay = alone.overlay
    name = overlay.tunnel_bridge
    tunnel = {flow for flow in wanted_flows(overlay, seen, vtep) if flow.bridge == name}
    found = set()
    for cookie in (_cookie(alone), ownership.cookie(overlay.name)):
        lines = _dump(backend, seen.bridges[name], cookie, _ALL)
        found |= set(flow_text.read(name, lines, tunnel))
    yield from (f"{flow.target}: missing" for flow in tunnel - found)
    yield from (f"{flow.target}: not wanted" for flow in found - tunnel)
    there = _on_underlay(backend, alone, seen)
    beneath = {flow for flow in alone.flows if flow.bridge != name}
    yield from (f"{flow.target}: missing" for flow in beneath - set(there))


def _on_underlay(backend: Backend, alone: SegmentItems, seen: Observed) -> Iterator[Flow]:
    """What the underlay's bridge has of ours for the group, with the userspace datapath."""
    device = alone.overlay.underlay.device
    if alone.overlay.datapath != "netdev" or alone.shares or device not in seen.bridges:
        return
    for match in pipeline.underlay_matches(alone.segment.flood_group):
        lines = _dump(
            backend, seen.bridges[device], ownership.cookie(alone.overlay.name), _ALL, match
        )
        yield from flow_text.read(device, lines, alone.flows)


def _left(backend: Backend, alone: SegmentItems, seen: Observed) -> Iterator[str]:
    """What is still there of a segment that was taken away, learned flows too."""
    overlay, group = alone.overlay, alone.segment.flood_group
    bridge = seen.bridges[overlay.tunnel_bridge]
    lines = _dump(backend, bridge, _cookie(alone), _ALL ^ ownership.LEARNED)
    yield from (f"{line.strip()}: still there" for line in lines)
    yield from (f"{flow.target}: still there" for flow in _on_underlay(backend, alone, seen))
    route = None if alone.shares else backend.netlink.group_route(group)
    if route is not None and ownership.is_ours(route, overlay.name):
        yield f"{route.target}: still there"


def _cookie(alone: SegmentItems) -> int:
    segment = alone.segment
    return ownership.cookie(alone.overlay.name, vlan=segment.vlan, vni=segment.vni)


def _dump(backend: Backend, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
    try:
        return backend.openflow.dump(bridge, cookie, mask, match)
    except OpenFlowError as error:
        raise DriftError(str(error)) from None
