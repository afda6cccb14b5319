"""An overlay as its marks show it, without its configuration. Pure.

What this reads back from bridges, ports, flows and addresses is what `setup` or the agent was last
asked for, as far as it is still there: asking for it again would change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set

from ..errors import ConfigurationError
from . import ownership
from .groups import MULTICAST, parse_address
from .items import Address, Bridge, Flow, Route
from .model import Overlay
from .observed import Observed
from .pipeline import CLASSIFY, DELIVER, FIELDS, FLOOD, GROUP
from .target import UNDECIDED

_OUTER_SOURCE = re.compile(r"set_field:([0-9a-f.:]+)->tun_(?:ipv6_)?src")
_FLOODS_TO = re.compile(r"set_field:([0-9a-f.:]+)->tun_(?:ipv6_)?dst")
_COMES_BY = re.compile(rf"(?:{FIELDS[4].dst}|{FIELDS[6].dst})=([0-9a-f.:]+)")
_LEARNS = re.compile(r"learn\(.*?hard_timeout=(\d+).*?limit=(\d+)")


def discover(name: str, seen: Observed) -> Overlay:
    """The overlay of this name as ``seen.flows`` and the rest show it.

    ConfigurationError if there is too little of it to say, or if two parts contradict each other,
    as after a run that was cut short.
    """
    tunnel = _tunnel_bridge(name, seen)
    flows = [flow for flow in seen.flows if ownership.is_cookie(flow.cookie, name)]
    vtep = _first(_OUTER_SOURCE, (flow for flow in flows if flow.table == CLASSIFY))
    device = _underlay(name, seen, vtep)
    if device is None:
        raise ConfigurationError("nothing here says which device carries the tunnels")
    port = seen.ports.get(f"vxlan-{ownership.suffix(name)}")
    options = dict(port.options) if port else {}
    segments = list(_segments(flows))
    learns = _LEARNS.search(next((f.actions for f in flows if f.table == DELIVER), ""))
    patch = seen.ports.get(f"patch-tun-{ownership.suffix(name)}")
    return Overlay(
        name=name,
        bridge=patch.bridge if patch else _other_bridge(name, seen, tunnel.name),
        tunnel_bridge=tunnel.name,
        datapath=tunnel.datapath,
        membership=_membership(name, device, seen, {str(one["group"]) for one in segments}),
        underlay={
            "device": device,
            "vtep": vtep,
            "udp_port": int(options.get("dst_port", "4789")),
            "ttl": int(options.get("ttl", "64")),
        },
        segments=segments,
        aging=int(learns[1]) if learns else None,
        learned_limit=int(learns[2]) if learns else None,
    )


def _tunnel_bridge(name: str, seen: Observed) -> Bridge:
    """The bridge that holds the VXLAN port; without one, that of ours which is secure."""
    port = seen.ports.get(f"vxlan-{ownership.suffix(name)}")
    if port is not None and port.owner == name:
        return seen.bridges[port.bridge]
    ours = (bridge for bridge in seen.bridges.values() if bridge.owner == name)
    found = next((bridge for bridge in ours if bridge.fail_mode == "secure"), None)
    if found is None:
        raise ConfigurationError("its tunnel bridge is gone")
    return found


def _other_bridge(name: str, seen: Observed, tunnel: str) -> str | None:
    ours = (bridge.name for bridge in seen.bridges.values() if bridge.owner == name)
    return next((bridge for bridge in ours if bridge != tunnel), None)


def _first(pattern: re.Pattern[str], flows: Iterable[Flow]) -> str | None:
    found = (pattern.search(flow.actions) for flow in flows)
    return next((match[1] for match in found if match), None)


def _underlay(name: str, seen: Observed, vtep: str | None) -> str | None:
    """The device that `auto` or the keeper names, that has marks of ours, or that has the VTEP."""
    if seen.decision is not None:
        return seen.decision.device
    if seen.held is not None:
        return seen.held.device
    marked = next((item.device for item in _marked(name, seen)), None)
    holders = (item.device for item in seen.addresses if item.address == vtep)
    return marked or next(holders, None)


def _marked(name: str, seen: Observed) -> Iterator[Address | Route]:
    items: Iterable[Address | Route] = (*seen.addresses, *seen.routes)
    return (item for item in items if ownership.is_ours(item, name))


def _membership(name: str, device: str, seen: Observed, wanted: Set[str]) -> str:
    """The method, by what it leaves on the device: see the table in methods.py.

    With somebody else's autojoin addresses for all groups it leaves none, and nobody holds them.
    """
    if seen.decision is not None and seen.decision.device == device:
        return "auto"
    if seen.held is not None:
        return "socket"
    marked = [item for item in _marked(name, seen) if isinstance(item, Address)]
    groups = {item.address: item for item in marked if parse_address(item.address).is_multicast()}
    theirs = {
        item.address
        for item in seen.addresses
        if item.device == device and item.autojoin and item not in marked
    }
    if not groups and wanted and wanted <= theirs:
        return "autojoin"
    if not groups or not any(item.autojoin for item in groups.values()):
        return UNDECIDED
    if any(item.local for item in groups.values()):
        return "peer"
    local = {route.destination for route in seen.routes if route.by_address}
    return "autojoin" if local.issuperset(groups) else "repaired"


def _segments(flows: Iterable[Flow]) -> Iterator[Mapping[str, object]]:
    """Segments by the cookies of their flows, and the group that floods go to or come by."""
    found: dict[int, tuple[int, str]] = {}
    for flow in flows:
        vni, vlan = ownership.segment_of(flow.cookie)
        group = None
        if flow.table == FLOOD:
            group = _FLOODS_TO.search(flow.actions)
        elif flow.table == GROUP and vni not in found:
            group = _COMES_BY.search(flow.match)
        if vni and group:
            found[vni] = (vlan, group[1])
    for vni, (vlan, address) in found.items():
        if parse_address(address) in MULTICAST[parse_address(address).version]:
            yield {"vni": vni, "vlan": vlan, "group": address}
