"""Preflight: the refusals of a host, before anything is touched.

`check` raises the first finding as a ConfigurationError that names the field of the configuration,
or as an UnavailableError where the host must change; `findings` yields all, for a diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import loops, ownership, udp_port, underlay
from .errors import ConfigurationError, UnavailableError
from .findings import Finding, error
from .items import Address
from .model import Overlay
from .observed import Observed
from .target import Target, method_of, resolve, tunnel_bridge_of

_MEMBERSHIP_OCTETS = 48  # struct ip_mc_socklist: what one join takes of net.core.optmem_max


def check(overlay: Overlay, observed: Observed) -> Target:
    """Return the overlay resolved on this host.

    ConfigurationError if the host cannot have it, UnavailableError if not now.
    """
    _refuse(_unresolved(overlay, observed))
    target = resolve(overlay, observed)
    _refuse(_resolved(target))
    return target


def findings(overlay: Overlay, observed: Observed) -> list[Finding]:
    """Return everything that refuses the overlay on this host; empty where `check` passes."""
    found = list(_unresolved(overlay, observed))
    if found:
        return found
    device = overlay.underlay.device
    try:
        target = resolve(overlay, observed)
    except ConfigurationError as refused:
        return [error("vtep-unusable", device, refused.reason, field=refused.field)]
    except UnavailableError as missing:
        return [error("vtep-unusable", device, str(missing), reason="device")]
    return list(_resolved(target))


def _refuse(found: Iterable[Finding]) -> None:
    for finding in found:
        raise finding.refusal()


def _unresolved(overlay: Overlay, observed: Observed) -> Iterator[Finding]:
    """Yield findings that need no VTEP: the method, names of bridges, the device, the datapath."""
    yield from _method(overlay, observed)
    yield from _bridges(overlay, observed)
    yield from loops.refusals(overlay, overlay.segments, observed.bridges)
    yield from _names(overlay, observed)
    yield from underlay.findings(overlay, observed)
    if not observed.datapath_there:
        yield error(
            "datapath-missing", overlay.datapath,
            "the kernel's datapath is not there: Open vSwitch has found no module openvswitch",
            "`modprobe openvswitch` and restart ovs-vswitchd, or --datapath netdev",
            reason="datapath",
        )  # fmt: skip


def _resolved(target: Target) -> Iterator[Finding]:
    """Yield findings of a resolved overlay: UDP port, groups, routes."""
    yield from udp_port.refusals(target)
    yield from _groups(target)
    yield from _routes(target)


def _method(overlay: Overlay, observed: Observed) -> Iterator[Finding]:
    method = method_of(overlay, observed.decision)
    if overlay.family == 6 and method == "autojoin":
        yield error(
            "method-unfit", method,
            "an IPv6 autojoin address takes what this host sends to lo, whatever its source",
            "use repaired or socket", field="membership",
        )  # fmt: skip
    elif overlay.family == 6 and method == "peer":
        yield error(
            "method-unfit", method, "an IPv6 address has no peer form", "use repaired or socket",
            field="membership",
        )  # fmt: skip
    elif overlay.datapath == "netdev" and method == "peer":
        yield error(
            "method-unfit", method,
            "the userspace datapath receives by its own addresses, not by a peer address",
            "use repaired or socket", field="membership",
        )  # fmt: skip


def _bridges(overlay: Overlay, observed: Observed) -> Iterator[Finding]:
    bridge = observed.bridges.get(overlay.bridge)
    if bridge is not None and bridge.owner != overlay.name and bridge.datapath != overlay.datapath:
        yield error(
            "datapath-differs", bridge.name,
            f"{bridge.name} exists on the {bridge.datapath} datapath: "
            f"a patch port cannot reach it from the {overlay.datapath} datapath",
            field="datapath",
        )  # fmt: skip
    tunnel = observed.bridges.get(overlay.tunnel_bridge)
    if tunnel is not None and tunnel.owner != overlay.name:
        whose = f"overlay {tunnel.owner}'s" if tunnel.owner else "not ours"
        yield error(
            "bridge-taken", tunnel.name, f"{tunnel.name} exists and is {whose}", "name another",
            field="tunnel_bridge",
        )  # fmt: skip
    owner = bridge.owner if bridge is not None else None
    if (
        bridge is not None
        and owner is not None
        and owner != overlay.name
        and (tunnel_bridge_of(owner, observed) == bridge)
    ):
        yield error(
            "bridge-taken", bridge.name,
            f"{bridge.name} is the tunnel bridge of overlay {bridge.owner}", field="bridge",
        )  # fmt: skip
    for field, name in (("bridge", overlay.bridge), ("tunnel_bridge", overlay.tunnel_bridge)):
        taken = name in observed.links or name in observed.ports
        if taken and name not in observed.bridges:
            yield error(
                "bridge-taken", name,
                f"{name} is a device or a port, not a bridge of Open vSwitch", "name another",
                field=field,
            )  # fmt: skip


def _names(overlay: Overlay, observed: Observed) -> Iterator[Finding]:
    for other in sorted(observed.overlays() - {overlay.name}):
        if ownership.number(other) == ownership.number(overlay.name):
            yield error(
                "name-collides", other, f"its marks are those of overlay {other}",
                "choose another name", field="name",
            )  # fmt: skip
    for name in ownership.port_names(overlay.name):
        port = observed.ports.get(name)
        if port is not None and port.owner != overlay.name:
            yield error(
                "port-taken", name,
                f"port {port.target} has the name of a port of ours and is not ours", field="name",
            )  # fmt: skip


def _groups(target: Target) -> Iterator[Finding]:
    device, groups = target.device, set(target.groups)
    held = [
        item
        for item in target.observed.addresses
        if item.device == device and item.address in groups
    ]
    joins = target.method != "socket"
    for item in sorted(held, key=lambda item: item.address):
        if ownership.is_ours(item, target.overlay.name):
            continue
        if ownership.is_any_overlays(item):
            yield _others_group(item.address, device)
        elif joins and not item.autojoin:
            yield error(
                "group-taken", item.address,
                f"{device} already has the address {item.address}, without autojoin, "
                "and it is not ours", field="segments",
            )  # fmt: skip
    if joins and target.overlay.family == 4:
        yield from _limits(target, groups - {item.address for item in held if item.autojoin})


def _others_group(group: str, device: str) -> Finding:
    return error(
        "group-taken", group, f"{group} on {device} belongs to another overlay of ours",
        "choose another group", field="segments",
    )  # fmt: skip


def _routes(target: Target) -> Iterator[Finding]:
    """Yield conflicting routes: the kernel has one host route of a destination and metric."""
    name, groups = target.overlay.name, set(target.groups)
    by_peers = {
        (item.device, item.address)
        for item in target.observed.addresses
        if item.local and ownership.is_ours(item, name)
    }
    for route in target.observed.routes:
        if route.destination not in groups:
            continue
        made_by_peer = (route.device, route.destination) in by_peers
        marked = route.metric == target.metric and not made_by_peer
        if marked and route.protocol != ownership.PROTOCOL:
            yield error(
                "route-taken", route.target,
                f"route {route.target} metric {route.metric} is not ours and in the way",
                field="segments",
            )  # fmt: skip
        theirs = ownership.is_any_overlays(route) and not ownership.is_ours(route, name)
        if theirs and route.device == target.device:
            yield _others_group(route.destination, route.device)


def _limits(target: Target, new: set[str]) -> Iterator[Finding]:
    """Yield findings of autojoin without room: all addresses share one socket (mc_autojoin_sk)."""
    slots = [a for a in target.observed.addresses if a.autojoin and ":" not in a.address]
    need = len(slots) + len(new)
    field = "groups" if target.overlay.groups is not None else "segments"
    evidence = f"{len(new)} more autojoin groups, with {len(slots)} here, are {need}"
    if leaving := _leaving(target, slots):
        evidence += f" ({leaving} of them are released only afterwards)"
    limit, octets = target.observed.limits.igmp_max_memberships, target.observed.limits.optmem_max
    if limit is not None and new and need > limit:
        yield error(
            "memberships-full", "net.ipv4.igmp_max_memberships",
            f"{evidence}: the kernel holds {limit}. Set net.ipv4.igmp_max_memberships={need} "
            "or more in this namespace, use --membership socket, or let segments share groups "
            "(a smaller pool)", field=field,
        )  # fmt: skip
    if octets is not None and new and need > octets // _MEMBERSHIP_OCTETS:
        yield error(
            "memberships-full", "net.core.optmem_max",
            f"{evidence}: net.core.optmem_max={octets} has room for "
            f"{octets // _MEMBERSHIP_OCTETS}. Set it to {need * _MEMBERSHIP_OCTETS} or more, "
            "or let segments share groups", field=field,
        )  # fmt: skip


def _leaving(target: Target, slots: Iterable[Address]) -> int:
    """Return how many autojoin groups of ours a run removes; it adds the new ones first."""
    mine = {item.address for item in slots if ownership.is_ours(item, target.overlay.name)}
    return len(mine - set(target.groups))
