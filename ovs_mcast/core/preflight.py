"""What this machine refuses before anything is touched. Pure.

Each refusal is a ConfigurationError that names the field, and says what is in the way.
"""

from __future__ import annotations

from collections.abc import Iterator

from netaddr import IPAddress

from ..errors import ConfigurationError
from . import ownership
from .items import Port
from .model import Overlay
from .observed import Observed
from .target import method_of, vtep_of

_MEMBERSHIP_OCTETS = 48  # struct ip_mc_socklist: what one join takes of net.core.optmem_max


def refuse(overlay: Overlay, observed: Observed) -> IPAddress:
    """The VTEP address; ConfigurationError if this machine as it is cannot have the overlay."""
    _refuse_method(overlay, observed)
    _refuse_names(overlay, observed)
    _refuse_underlay(overlay, observed)
    vtep = vtep_of(overlay, observed)
    _refuse_rivals(overlay, observed)
    _refuse_groups(overlay, observed)
    _refuse_routes(overlay, observed)
    return vtep


def _refuse_method(overlay: Overlay, observed: Observed) -> None:
    method = method_of(overlay, observed)
    if overlay.family == 6 and method == "autojoin":
        raise ConfigurationError(
            "an IPv6 autojoin address takes what this host sends to lo, whatever its source: "
            "use repaired or socket",
            field="membership",
        )
    if overlay.family == 6 and method == "peer":
        raise ConfigurationError(
            "an IPv6 address has no peer form: use repaired or socket", field="membership"
        )
    if overlay.datapath == "netdev" and method == "peer":
        raise ConfigurationError(
            "the userspace datapath receives by its own addresses, and a peer is none: "
            "use repaired or socket",
            field="membership",
        )


def _refuse_names(overlay: Overlay, observed: Observed) -> None:
    bridge = observed.bridges.get(overlay.bridge)
    if bridge is not None and bridge.owner != overlay.name and bridge.datapath != overlay.datapath:
        raise ConfigurationError(
            f"{bridge.name} exists on the {bridge.datapath} datapath: "
            f"a patch port cannot reach it from the {overlay.datapath} datapath",
            field="datapath",
        )
    tunnel = observed.bridges.get(overlay.tunnel_bridge)
    if tunnel is not None and tunnel.owner != overlay.name:
        whose = f"overlay {tunnel.owner}'s" if tunnel.owner else "not ours"
        raise ConfigurationError(
            f"{tunnel.name} exists and is {whose}: name another", field="tunnel_bridge"
        )
    if bridge is not None and bridge.owner not in {None, overlay.name} and bridge.fail_mode:
        raise ConfigurationError(
            f"{bridge.name} is the tunnel bridge of overlay {bridge.owner}", field="bridge"
        )
    for field, name in (("bridge", overlay.bridge), ("tunnel_bridge", overlay.tunnel_bridge)):
        taken = name in observed.links or name in observed.ports
        if taken and name not in observed.bridges:
            raise ConfigurationError(
                f"{name} is a device or a port, and no bridge of Open vSwitch: name another",
                field=field,
            )
    for other in sorted(observed.overlays() - {overlay.name}):
        if ownership.number(other) == ownership.number(overlay.name):
            raise ConfigurationError(
                f"its marks are those of overlay {other}: choose another name", field="name"
            )
    suffix = ownership.suffix(overlay.name)
    for name in (f"patch-int-{suffix}", f"patch-tun-{suffix}", f"vxlan-{suffix}"):
        port = observed.ports.get(name)
        if port is not None and port.owner != overlay.name:
            raise ConfigurationError(
                f"port {port.target} has the name of a port of ours and is not ours", field="name"
            )


def _refuse_underlay(overlay: Overlay, observed: Observed) -> None:
    device = overlay.underlay.device
    if device not in observed.links:
        raise ConfigurationError(f"there is no device {device}", field="underlay.device")
    bridge = observed.bridges.get(device)
    if bridge is not None and bridge.owner == overlay.name:
        raise ConfigurationError(
            f"bridge {device} is this overlay's own: it goes when it is not wanted any more",
            field="underlay.device",
        )
    if overlay.datapath != "netdev":
        return
    if bridge is None:
        port = observed.ports.get(device)
        hint = f"; {device} is a port of {port.bridge}: name that" if port else ""
        raise ConfigurationError(
            f"{device} is not a bridge: the userspace datapath's underlay is the bridge that holds "
            f"the NIC{hint}",
            field="underlay.device",
        )
    if bridge.datapath != "netdev":
        raise ConfigurationError(
            f"bridge {device} is on the {bridge.datapath} datapath, not on netdev",
            field="underlay.device",
        )


def _key_matters(port: Port, overlay: Overlay) -> bool:
    key = port.option("in_key") or port.option("key") or "0"
    return key == "flow" or key in {str(segment.vni) for segment in overlay.segments}


def vxlan_rivals(overlay: Overlay, observed: Observed) -> Iterator[Port]:
    """Ports of others that take VXLAN packets of ours, or some peers' of them."""
    for port in observed.ports.values():
        udp_port = port.option("dst_port") or "4789"
        if (
            port.type == "vxlan"
            and port.owner != overlay.name
            and udp_port == str(overlay.underlay.udp_port)
            and _key_matters(port, overlay)
        ):
            yield port


def _refuse_rivals(overlay: Overlay, observed: Observed) -> None:
    udp_port = overlay.underlay.udp_port
    for port in vxlan_rivals(overlay, observed):
        if port.option("remote_ip") == "flow":
            whose = f", overlay {port.owner}'s," if port.owner else ""
            raise ConfigurationError(
                f"port {port.target}{whose} takes all VXLAN on UDP port {udp_port}: "
                "one flow-based port can",
                field="underlay.udp_port",
            )
    for link in observed.links.values():
        # vxlan_sys_4789 is how the kernel datapath carries any VXLAN port of Open vSwitch.
        if link.udp_port == udp_port and not link.name.startswith("vxlan_sys_"):
            raise ConfigurationError(
                f"the Linux vxlan device {link.name} holds UDP port {udp_port}",
                field="underlay.udp_port",
            )


def _refuse_groups(overlay: Overlay, observed: Observed) -> None:
    device = overlay.underlay.device
    groups = {str(group) for group in overlay.flood_groups}
    held = [item for item in observed.addresses if item.device == device and item.address in groups]
    for item in sorted(held, key=lambda item: item.address):
        group = item.address
        if ownership.is_ours(item, overlay.name):
            continue
        if ownership.is_any_overlays(item):
            raise ConfigurationError(
                f"{group} on {device} belongs to another overlay of ours: choose another group",
                field="segments",
            )
        joins = method_of(overlay, observed) != "socket"
        if joins and not item.autojoin:
            raise ConfigurationError(
                f"{device} already has the address {group}, without autojoin, and it is not ours",
                field="segments",
            )
    if method_of(overlay, observed) != "socket" and overlay.family == 4:
        _refuse_too_many(overlay, observed, groups - {i.address for i in held if i.autojoin})


def _refuse_routes(overlay: Overlay, observed: Observed) -> None:
    """Destination and metric are all that tells the kernel's host routes apart."""
    metric = ownership.metric(overlay.name)
    groups = {str(group) for group in overlay.flood_groups}
    by_peers = {
        (item.device, item.address)
        for item in observed.addresses
        if item.local and ownership.is_ours(item, overlay.name)
    }
    for route in observed.routes:
        made_by_peer = (route.device, route.destination) in by_peers
        marked = route.metric == metric and not made_by_peer
        if marked and route.protocol != ownership.PROTOCOL and route.destination in groups:
            raise ConfigurationError(
                f"route {route.target} metric {route.metric} is not ours and in the way",
                field="segments",
            )
        if (
            route.device == overlay.underlay.device
            and route.destination in groups
            and ownership.is_any_overlays(route)
            and not ownership.is_ours(route, overlay.name)
        ):
            raise ConfigurationError(
                f"{route.destination} on {route.device} belongs to another overlay of ours: "
                "choose another group",
                field="segments",
            )


def _refuse_too_many(overlay: Overlay, observed: Observed, new: set[str]) -> None:
    """All IPv4 autojoin addresses of a namespace share one socket (net->ipv4.mc_autojoin_sk)."""
    slots = [item for item in observed.addresses if item.autojoin and ":" not in item.address]
    groups = {str(group) for group in overlay.flood_groups}
    mine = [item for item in slots if ownership.is_ours(item, overlay.name)]
    leaving = [item for item in mine if item.address not in groups]
    need = len(slots) + len(new)
    limit = observed.limits.igmp_max_memberships
    field = "groups" if overlay.groups is not None else "segments"
    says = f"{len(new)} more autojoin groups, with {len(slots)} here, are {need}"
    if leaving:
        says += f" (the {len(leaving)} that go are let go last)"
    if limit is not None and new and need > limit:
        raise ConfigurationError(
            f"{says}: the kernel holds {limit}. Set net.ipv4.igmp_max_memberships={need} "
            "or more in this namespace, use --membership socket, or let segments share groups "
            "(a smaller pool)",
            field=field,
        )
    octets = observed.limits.optmem_max
    if octets is not None and new and need > octets // _MEMBERSHIP_OCTETS:
        raise ConfigurationError(
            f"{says}: net.core.optmem_max={octets} has room for {octets // _MEMBERSHIP_OCTETS}. "
            f"Set it to {need * _MEMBERSHIP_OCTETS} or more, or let segments share groups",
            field=field,
        )
