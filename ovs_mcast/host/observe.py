"""What is there: a machine observed, and read back. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from netaddr import IPAddress

from ..adapters.openflow import OpenFlowError
from ..core import flow_text, health, ownership
from ..core.changes import Plan
from ..core.items import Flow
from ..core.model import Overlay
from ..core.observed import Decision, Observed
from ..core.plan import expected_flows, plan
from ..core.status import SegmentStatus, Status
from ..core.target import method_of, tentative_vtep, vtep_of
from ..errors import UnavailableError
from .backend import Backend

_DETECTION = 8.0  # seconds that duplicate address detection may take


def observe(backend: Backend, overlay: Overlay | str) -> Observed:
    """The machine as it is now, with the flows of this overlay (or of the one so named)."""
    name = overlay if isinstance(overlay, str) else overlay.name
    seen = without_flows(backend, name)
    expected = () if isinstance(overlay, str) else expected_flows(overlay, seen)
    return replace(seen, flows=tuple(_flows(backend, name, seen, expected)))


def without_flows(backend: Backend, name: str) -> Observed:
    """The machine as it is now but for its flows, with what an overlay's keeper holds."""
    seen = Observed(
        bridges=backend.ovsdb.bridges(),
        ports=backend.ovsdb.ports(),
        addresses=backend.netlink.addresses(),
        routes=backend.netlink.group_routes(),
        links=backend.netlink.links(),
        limits=backend.limits(),
        held=backend.keeper(name).held(backend.joined),
    )
    return replace(seen, decision=decision_of(name, seen))


def compare(backend: Backend, overlay: Overlay) -> tuple[Observed, Plan]:
    """The machine as it is, and what would have to change."""
    seen = observe(backend, overlay)
    return seen, plan(overlay, seen)


def decision_of(name: str, seen: Observed) -> Decision | None:
    """What `auto` chose for the overlay before, as it is written down."""
    ours = (bridge for bridge in seen.bridges.values() if bridge.owner == name and bridge.notes)
    return next((Decision.from_notes(bridge.notes) for bridge in ours), None)


def await_detection(backend: Backend, overlay: Overlay) -> None:
    """Until the VTEP is no longer tentative: the kernel takes no route with such a source.

    UnavailableError when duplicate address detection (RFC 4862, 5.4) does not come to an end.
    """

    def tentative() -> IPAddress | None:
        addresses, links = backend.netlink.addresses(), backend.netlink.links()
        return tentative_vtep(overlay, Observed(addresses=addresses, links=links))

    if overlay.family == 4:
        return
    if left := backend.patiently(tentative, bool, _DETECTION, 0.1):
        raise UnavailableError(
            f"{left} on {overlay.underlay.device} is tentative: duplicate address detection does "
            "not end; is there a carrier?"
        )


def verify(backend: Backend, overlay: Overlay, *looks: tuple[Observed, Plan]) -> Status:
    """What is there, read back, when Open vSwitch has had its time to follow.

    ``looks`` are taken first: the machine as seen since its last change, what is left to change.
    """
    fresh = iter(looks)

    def look() -> tuple[Status, bool]:
        seen, left = next(fresh, None) or compare(backend, overlay)
        return _status(backend, overlay, seen, left), bool(left)

    return patiently(backend, overlay, look)


def patiently(
    backend: Backend, overlay: Overlay, look: Callable[[], tuple[Status, bool]]
) -> Status:
    """What is seen once it is as wanted, or when what follows had its time to.

    ``look`` also says whether something is left to change, which does not come by itself.
    """
    seconds = backend.follow if _follows(overlay) else 0
    return backend.patiently(
        look, lambda found: not found[0].verified and not found[1], seconds, 0.25
    )[0]


def _follows(overlay: Overlay) -> bool:
    """Whether something comes after the change: Open vSwitch's routes, or an IPv6 local route."""
    return overlay.datapath == "netdev" or overlay.family == 6


def _status(backend: Backend, overlay: Overlay, seen: Observed, left: Plan) -> Status:
    seen = ways(backend, overlay, seen)
    method = method_of(overlay, seen)
    faults = [str(change) for change in left] + health.faults(overlay, seen)
    segments = {
        segment.vni: SegmentStatus(
            vlan=segment.vlan,
            group=str(segment.flood_group),
            joined_by=method,
            send_path=health.send_path(overlay, seen, segment.flood_group),
        )
        for segment in overlay.segments
    }
    problems = (*faults, *health.warnings(overlay, seen))
    return Status(overlay.name, (), not faults, segments, problems, seen.decision)


def ways(backend: Backend, overlay: Overlay, seen: Observed) -> Observed:
    """What was seen, with who is a member and where programs and the tunnels would send."""
    groups = overlay.flood_groups
    if overlay.datapath == "netdev":
        with backend.vswitchd() as control:
            tunnels = control.routes()
    else:
        tunnels = backend.netlink.look_up(groups, vtep_of(overlay, seen))
    return replace(
        seen,
        joined=backend.joined(overlay.underlay.device),
        sends=backend.netlink.look_up(groups),
        tunnels=tunnels,
    )


def _flows(backend: Backend, name: str, seen: Observed, expected: Sequence[Flow]) -> Iterator[Flow]:
    # Ours are on our own bridges and, with the userspace datapath, on an underlay's.
    for bridge in seen.bridges.values():
        if bridge.owner == name or bridge.datapath == "netdev":
            try:
                lines = backend.openflow.dump(bridge, ownership.cookie(name), ownership.STATIC_MASK)
            except OpenFlowError as error:
                raise UnavailableError(f"ovs-vswitchd does not show its flows: {error}") from None
            yield from flow_text.read(bridge.name, lines, expected)
