"""What is worth a warning, and what must not be seen after a run. Pure.

Functions of what is wanted and what was seen; what is refused before a run is in preflight.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPAddress

from . import ownership
from .changes import Plan
from .items import Bridge, Port
from .model import Overlay
from .observed import Observed, RoutePath
from .preflight import vxlan_rivals
from .status import Holder, OverlayStatus, SegmentDetail
from .target import method_of, others_addresses, tentative_vtep, vtep_of
from .traffic import Traffic

# Outer IP 20 or 40, UDP 8, VXLAN 8 octets (RFC 7348, 5), and the inner frame's Ethernet 14.
OVERHEAD = {4: 50, 6: 70}


def warnings(overlay: Overlay, observed: Observed) -> list[str]:
    """What works and is yet worth a sentence: the MTU, ports that take some peers' packets."""
    found = overlay.warnings()
    link = observed.links.get(overlay.underlay.device)
    overhead = OVERHEAD[overlay.family]
    if link is not None and link.mtu < 1500 + overhead:
        found.append(
            f"the MTU of {link.name} is {link.mtu}: it leaves the overlay {link.mtu - overhead}, "
            f"less than 1500; {1500 + overhead} would do"
        )
    for port in vxlan_rivals(overlay, observed):
        remote = port.option("remote_ip")
        if remote != "flow":
            found.append(f"port {port.target} takes what {remote} sends: it does not reach us")
    tunnel = observed.bridges.get(overlay.tunnel_bridge, Bridge("", ""))
    found.extend(
        f"port {port.target} is not ours: nothing of the pipeline serves it"
        for port in observed.ports.values()
        if port.bridge == tunnel.name and port.owner != overlay.name
    )
    return found


def faults(overlay: Overlay, observed: Observed) -> list[str]:
    """What was seen afterwards and must not be: ports, membership, and the tunnels' way out."""
    found = []
    device = overlay.underlay.device
    for port in observed.ports.values():
        if port.owner != overlay.name:
            continue
        if port.error and not _peer_is_there(port, observed):
            found.append(f"port {port.target}: {port.error}")
        elif port.ofport is None or port.ofport < 1:
            found.append(f"port {port.target} has no OpenFlow port")
        elif port.ofport_request is not None and port.ofport != port.ofport_request:
            found.append(f"port {port.target} has OpenFlow port {port.ofport}, not as requested")
    if not observed.links[device].up:
        found.append(f"{device} is down: set it up")
    theirs = others_addresses(overlay, observed)
    ordinary = method_of(overlay, observed) != "autojoin"
    for address in overlay.flood_groups:
        path = send_path(overlay, observed, address)
        if ordinary and str(address) not in theirs and path != "wire":
            by = (observed.sends.get(str(address)) or RoutePath(None)).device
            found.append(f"programs' datagrams to {address} leave by {by or 'no device'}")
    found.extend(
        f"{item.target} is tentative: duplicate address detection goes on"
        for item in observed.addresses
        if item.tentative and ownership.is_ours(item, overlay.name)
    )
    if vtep := tentative_vtep(overlay, observed):
        found.append(f"{vtep} is tentative: duplicate address detection goes on")
    for group in map(str, overlay.flood_groups):
        if group not in observed.joined:
            found.append(f"{device} is not a member of {group}")
        way = observed.tunnels.get(group)
        if way is None or way.device != device:
            leave = way.device if way and way.device else "no device"
            found.append(f"the tunnels' packets to {group} leave by {leave}")
    return found


def _peer_is_there(port: Port, observed: Observed) -> bool:
    """A patch port is judged by its peer.

    ovs-vswitchd writes "No usable peer" when it looks while the peer is being moved, and does not
    take it back before its next change of configuration.
    """
    peer = observed.ports.get(port.option("peer"))
    if port.type != "patch" or peer is None or peer.option("peer") != port.name:
        return False
    ends = [observed.bridges.get(end.bridge) for end in (port, peer)]
    same = None not in ends and len({end.datapath for end in ends if end}) == 1
    return same and (peer.ofport or 0) > 0


def send_path(overlay: Overlay, observed: Observed, group: IPAddress) -> str:
    """Where an ordinary program's datagram to the group goes: wire, loopback or none."""
    way = observed.sends.get(str(group))
    if way is None or way.device not in {overlay.underlay.device, "lo"}:
        return "none"
    return "loopback" if way.device == "lo" else "wire"


def kept(
    overlay: Overlay,
    seen: Observed,
    left: Plan,
    traffic: Mapping[int, Traffic],
    holder: Holder,
) -> OverlayStatus:
    """What is there of an overlay, and what is not as it was made: ``left`` would mend it."""
    method = method_of(overlay, seen)
    found = [str(change) for change in left] + faults(overlay, seen)
    segments = {
        segment.vni: SegmentDetail(
            vlan=segment.vlan,
            group=str(segment.flood_group),
            joined_by=method if str(segment.flood_group) in seen.joined else "none",
            send_path=send_path(overlay, seen, segment.flood_group),
            traffic=traffic.get(segment.vni) or Traffic(segment.vlan),
        )
        for segment in overlay.segments
    }
    if not segments:
        found.append("no segment has a flow: has ovs-vswitchd started anew? Run setup again")
    if method == "socket" and holder.who == "nobody":
        found.append("no process holds the groups: run setup again")
    return OverlayStatus(
        overlay=overlay.name,
        healthy=not found,
        underlay=overlay.underlay.device,
        vtep=str(vtep_of(overlay, seen)),
        datapath=overlay.datapath,
        bridge=overlay.bridge,
        tunnel_bridge=overlay.tunnel_bridge,
        held_by=holder if method == "socket" else Holder("kernel"),
        segments=segments,
        problems=(*found, *warnings(overlay, seen)),
    )
