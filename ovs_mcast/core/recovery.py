"""Recovery: an overlay read back from its marks on a host, without its configuration.

Its tunnel bridge keeps the desired overlay (overlay_notes.py). Where an earlier version made it,
bridges, ports, flows and addresses show what was applied last, as far as it is still in place.
Applying it again would change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from . import overlay_notes, ownership, tunnel_port
from .errors import ConfigurationError
from .flow_text import outer_destination, outer_source
from .groups import MULTICAST, parse_address
from .items import Address, Bridge, Flow, Route
from .model import Overlay
from .observed import Observed
from .pipeline_tables import CLASSIFY, DELIVER, FIELDS, FLOOD, GROUP, PEER, TUNNEL
from .target import UNDECIDED, tunnel_bridge_of

_MATCHES_GROUP = re.compile(rf"(?:{FIELDS[4].dst}|{FIELDS[6].dst})=([0-9a-f.:]+)")
_ADMITS = re.compile(rf"(?:{FIELDS[4].src}|{FIELDS[6].src})=([0-9a-f.:/]+),in_port={TUNNEL}")
_LEARNS = re.compile(r"learn\(.*?hard_timeout=(\d+).*?limit=(\d+)")


def recover(name: str, observed: Observed) -> Overlay:
    """Return the overlay of this name as its notes keep it, else as its items show it.

    ConfigurationError if too little of it is left, or if two parts contradict each other, as after
    an interrupted run.
    """
    tunnel = tunnel_bridge_of(name, observed)
    if tunnel is None:
        raise ConfigurationError("its tunnel bridge is missing")
    return overlay_notes.read(name, tunnel.notes) or _by_items(name, observed, tunnel)


def _by_items(name: str, observed: Observed, tunnel: Bridge) -> Overlay:
    flows = [flow for flow in observed.flows if ownership.is_cookie(flow.cookie, name)]
    vtep = next(filter(None, (outer_source(f.actions) for f in flows if f.table == CLASSIFY)), None)
    device = _underlay(name, observed, vtep)
    if device is None:
        raise ConfigurationError("nothing here names the device that carries the tunnels")
    segments = list(_segments(flows))
    learns = _LEARNS.search(next((f.actions for f in flows if f.table == DELIVER), ""))
    patch = observed.ports.get(ownership.port_names(name).patch_tun)
    return Overlay(
        name=name,
        bridge=patch.bridge if patch else _bridge(name, observed, tunnel),
        tunnel_bridge=tunnel.name,
        datapath=tunnel.datapath,
        membership=_membership(
            name, device, tunnel.datapath, observed, {str(one["group"]) for one in segments}
        ),
        underlay={
            "device": device,
            "vtep": vtep,
            **tunnel_port.read(observed.ports.get(ownership.port_names(name).vxlan)),
        },
        segments=segments,
        aging=int(learns[1]) if learns else None,
        learned_limit=int(learns[2]) if learns else None,
        **_peers(flows),
    )


def _peers(flows: Iterable[Flow]) -> Mapping[str, Any]:
    """Return the peers by the flows that admit them; nothing where all are heard."""
    admits = (_ADMITS.fullmatch(f.match) for f in flows if f.actions == f"goto_table:{PEER}")
    found = [admitted[1] for admitted in admits if admitted]
    return {"peers": found, "only_peers": True} if found else {}


def _bridge(name: str, observed: Observed, tunnel: Bridge) -> str | None:
    """Return the bridge for workloads without its patch port: the other one of ours."""
    ours = (bridge.name for bridge in observed.bridges.values() if bridge.owner == name)
    return next((bridge for bridge in ours if bridge != tunnel.name), None)


def _underlay(name: str, observed: Observed, vtep: str | None) -> str | None:
    """Return the device that `auto` or the keeper names, that has our marks, or the VTEP."""
    if observed.decision is not None:
        return observed.decision.device
    if observed.held is not None:
        return observed.held.device
    marked = next((item.device for item in _marked(name, observed)), None)
    holders = (item.device for item in observed.addresses if item.address == vtep)
    return marked or next(holders, None)


def _marked(name: str, observed: Observed) -> Iterator[Address | Route]:
    items: Iterable[Address | Route] = (*observed.addresses, *observed.routes)
    return (item for item in items if ownership.is_ours(item, name))


def _membership(name: str, device: str, datapath: str, observed: Observed, groups: Set[str]) -> str:
    """Return the method, by its items on the device: see the table in methods.py.

    Where others' autojoin addresses serve all groups, it has no addresses, and groups have no
    holder: then `peer` has no routes either.
    """
    if observed.decision is not None and observed.decision.device == device:
        return "auto"
    if observed.held is not None:
        return "socket"
    marked = [item for item in _marked(name, observed) if isinstance(item, Address)]
    ours = {item.address: item for item in marked if parse_address(item.address).is_multicast()}
    foreign = {
        item.address
        for item in observed.addresses
        if item.device == device and item.autojoin and item not in marked
    }
    if not ours and groups and groups <= foreign:
        routed = any(isinstance(item, Route) for item in _marked(name, observed))
        peers = datapath == "system" and not any(":" in group for group in groups)
        return "peer" if peers and not routed else "autojoin"
    if not ours or not any(item.autojoin for item in ours.values()):
        return UNDECIDED
    if any(item.local for item in ours.values()):
        return "peer"
    local = {route.destination for route in observed.routes if route.by_address}
    return "autojoin" if local.issuperset(ours) else "repaired"


def _segments(flows: Iterable[Flow]) -> Iterator[Mapping[str, object]]:
    """Yield segments by the cookies of their flows, with the group of their flood or group flow."""
    found: dict[int, tuple[int, str]] = {}
    for flow in flows:
        vni, vlan = ownership.segment_of(flow.cookie)
        group = None
        if flow.table == FLOOD:
            group = outer_destination(flow.actions)
        elif flow.table == GROUP and vni not in found and (by := _MATCHES_GROUP.search(flow.match)):
            group = by[1]
        if vni and group:
            found[vni] = (vlan, group)
    for vni, (vlan, address) in found.items():
        if parse_address(address) in MULTICAST[parse_address(address).version]:
            yield {"vni": vni, "vlan": vlan, "group": address}
