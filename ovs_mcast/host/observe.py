"""Observe a host, compare it with an overlay, verify what is in place. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from netaddr import IPAddress

from ..adapters.openflow import NoBridgeError, OpenFlowError
from ..core import (
    flow_text,
    ownership,
    peers,
    reverse_path,
    traffic,
    udp_port,
    underlay,
    underlay_bridge,
    workload_bridge,
)
from ..core.changes import Plan
from ..core.health import assess
from ..core.items import Bridge, Flow
from ..core.model import Overlay
from ..core.observed import Decision, InnerSample, Lookups, Observed, OuterSample, ReversePath
from ..core.packet_filter import RuleSet
from ..core.plan import desired_flows, expected_flows, plan_for
from ..core.preflight import check
from ..core.status import Status
from ..core.target import Target, tentative_vtep
from ..errors import UnavailableError
from .backend import Backend, Vswitchd

_Sample = TypeVar("_Sample", InnerSample, OuterSample)
_START = 1.0  # seconds from the answer of an ovs-vswitchd that starts to its first bridge
_DETECTION = 8.0  # seconds that duplicate address detection may take


def observe(backend: Backend, overlay: Overlay | str) -> Observed:
    """Return the host as it is now, with the flows of this overlay (or of the one so named)."""
    name = overlay if isinstance(overlay, str) else overlay.name
    observed = observe_without_flows(backend, name)
    expected = () if isinstance(overlay, str) else expected_flows(overlay, observed)
    return _with_flows(backend, name, observed, expected)


def observe_without_flows(backend: Backend, name: str) -> Observed:
    """Return the host as it is now but for its flows, with what the overlay's keeper holds."""
    bridges = backend.ovsdb.bridges()
    return Observed(
        bridges=bridges,
        ports=backend.ovsdb.ports(),
        addresses=backend.netlink.addresses(),
        routes=backend.netlink.group_routes(),
        links=backend.netlink.links(),
        limits=backend.limits(),
        held=backend.keeper(name).held(backend.joined),
        decision=Decision.of(name, bridges.values()),
    )


def observe_for(backend: Backend, overlay: Overlay) -> Observed:
    """Return the host as it is now but for its flows, with what `check` needs."""
    return with_needs(backend, overlay, observe_without_flows(backend, overlay.name))


def with_needs(backend: Backend, overlay: Overlay, observed: Observed) -> Observed:
    """Return the host with whether it has the datapath, and who holds the UDP port.

    Holders are looked for where they can be in the way.
    """
    with backend.vswitchd() as control:
        there = control.has_datapath(overlay.datapath)
    holders: tuple[str, ...] = ()
    if udp_port.may_be_held(overlay, observed):
        holders = backend.udp_holders(overlay.underlay.udp_port)
    return replace(observed, datapath_there=there, udp_holders=holders)


def compare(
    backend: Backend, overlay: Overlay, decision: Decision | None = None
) -> tuple[Target, Plan]:
    """Return the overlay resolved on the host as it is now, and what must change there.

    ``decision`` is the choice of `auto`, where the tunnel bridge does not keep it yet.
    ConfigurationError if preflight refuses the overlay.
    """
    observed = observe_for(backend, overlay)
    target = check(overlay, replace(observed, decision=decision) if decision else observed)
    seen = _with_flows(backend, overlay.name, target.observed, desired_flows(target))
    target = replace(target, observed=seen)
    return target, plan_for(target)


def await_detection(backend: Backend, overlay: Overlay) -> None:
    """Wait until the VTEP is no longer tentative: the kernel takes no route with such a source.

    UnavailableError when duplicate address detection (RFC 4862, 5.4) does not come to an end.
    """

    def tentative() -> IPAddress | None:
        link = backend.netlink.links().get(overlay.underlay.device)
        return tentative_vtep(overlay, backend.netlink.addresses(), link)

    if overlay.family == 4:
        return
    if left := backend.poll(tentative, bool, _DETECTION, 0.1):
        raise UnavailableError(
            f"{left} on {overlay.underlay.device} is tentative: duplicate address detection does "
            "not end; is there a carrier?",
            reason="device", device=overlay.underlay.device,
        )  # fmt: skip


def verify(backend: Backend, overlay: Overlay, first: tuple[Target, Plan] | None = None) -> Status:
    """Return what is in place, read back once Open vSwitch has had time to follow.

    ``first`` is a comparison made since the last change, to save one.
    """
    compared = [] if first is None else [first]

    def inspect() -> tuple[Status, bool]:
        target, pending = compared.pop() if compared else compare(backend, overlay)
        found = assess(target, lookups(backend, target), pending)
        decision = target.observed.decision
        status = Status(
            overlay.name, (), found.healthy, found.segments, found.problems, decision,
            found.findings,
        )  # fmt: skip
        return status, found.settled

    return await_verified(backend, overlay, inspect)


def await_verified(
    backend: Backend, overlay: Overlay, inspect: Callable[[], tuple[Status, bool]]
) -> Status:
    """Return the status that ``inspect`` returns once it is verified, or at the deadline.

    ``inspect`` also returns whether its problems are settled: then waiting is useless.
    """
    # Open vSwitch's route table follows the kernel's; so does an IPv6 address's local route.
    follows = overlay.datapath == "netdev" or overlay.family == 6
    status, _pending = backend.poll(
        inspect,
        lambda seen: not seen[0].verified and not seen[1],
        backend.follow if follows else 0,
        0.25,
    )
    return status


def lookups(backend: Backend, target: Target) -> Lookups:
    """Return the groups joined, and the paths of programs', the tunnels' and workloads' packets."""
    groups, learned = target.overlay.flood_groups, target.observed.peers
    with backend.vswitchd() as control:
        traces, underlay_traces = _traces(control, target), _underlay_traces(control, target)
        if target.userspace:
            tunnels, ways = control.routes(), control.look_up(learned)
    if not target.userspace:
        tunnels = backend.netlink.look_up(groups, target.vtep)
        ways = backend.netlink.look_up([IPAddress(peer) for peer in learned], target.vtep)
    arp = {}
    if target.userspace and target.overlay.family == 4:
        nics = underlay.nics(target.device, target.observed)
        arp = {nic.name: backend.arp_settings(nic.name) for nic in nics}
    reverse = _reverse_path(backend, target)
    joined, sends = backend.joined(target.device), backend.netlink.look_up(groups)
    rules = RuleSet.read(backend.rule_set())
    return Lookups(joined, sends, tunnels, arp, ways, traces, underlay_traces, reverse, rules)


def _reverse_path(backend: Backend, target: Target) -> ReversePath | None:
    """Return what rp_filter decides by, where it can drop what peers send."""
    if target.userspace or target.overlay.family != 4:
        return None
    rp_filter = backend.arp_settings(target.device).rp_filter
    if not rp_filter:
        return None
    near, far = reverse_path.neighbour(target), peers.FAR[4]
    ways = backend.netlink.look_up([near, far])
    return ReversePath(rp_filter, ways[str(near)], ways[str(far)], backend.reverse_path_drops())


def _traces(control: Vswitchd, target: Target) -> dict[InnerSample, str]:
    """Return what the bridge for workloads does with frames, if its flows leave it open."""
    bridge = target.overlay.bridge
    return _traced(control, bridge, workload_bridge.samples(target, control.flows(bridge)))


def _underlay_traces(control: Vswitchd, target: Target) -> dict[OuterSample, str]:
    """Return what the underlay's bridge does with the tunnels' packets."""
    return _traced(control, target.underlay_bridge, underlay_bridge.samples(target))


def _traced(control: Vswitchd, bridge: str, asked: Sequence[_Sample]) -> dict[_Sample, str]:
    answers = control.trace(bridge, [each.flow for each in asked]) if asked else {}
    return {each: answers[each.flow] for each in asked if each.flow in answers}


def dump_flows(
    backend: Backend, name: str, bridges: Iterable[Bridge], dump: Callable[[Bridge], list[str]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each bridge that may have flows of the overlay, and those flows as printed.

    Flows of ours are on our own bridges, on that for workloads and, with the userspace datapath, on
    an underlay's. All are asked: an interrupted run may have changed which one is which.
    """
    for bridge in bridges:
        if bridge.owner == name or bridge.datapath == "netdev" or bridge.openflow:
            yield bridge.name, _flows_of(backend, bridge, dump)


def _flows_of(backend: Backend, bridge: Bridge, dump: Callable[[Bridge], list[str]]) -> list[str]:
    """Return the flows of a bridge; none where ovs-vswitchd could not make it.

    So where its datapath is missing. A bridge of an ovs-vswitchd that starts is there soon.
    """

    def look() -> list[str] | OpenFlowError:
        try:
            return dump(bridge)
        except OpenFlowError as error:
            return error

    seen = backend.poll(look, lambda found: isinstance(found, NoBridgeError), _START, 0.05)
    if isinstance(seen, NoBridgeError):
        with backend.vswitchd():  # UnavailableError where it is not there
            return []
    if isinstance(seen, OpenFlowError):
        raise UnavailableError(f"ovs-vswitchd does not show its flows: {seen}", reason="vswitchd")
    return seen


def _with_flows(
    backend: Backend, name: str, observed: Observed, expected: Iterable[Flow]
) -> Observed:
    """Return the host with the overlay's flows, and the VTEPs of those that were learned."""

    def dump(bridge: Bridge) -> list[str]:
        return backend.openflow.dump(bridge, ownership.cookie(name), ownership.OVERLAY_MASK)

    wanted = tuple(expected)
    flows: list[Flow] = []
    peers: set[str] = set()
    for bridge, lines in dump_flows(backend, name, observed.bridges.values(), dump):
        learned, static = flow_text.split_learned(lines)
        flows += flow_text.read(bridge, static, wanted)
        peers |= traffic.learned_vteps(learned)
    return replace(observed, flows=tuple(flows), peers=frozenset(peers))
