"""Flows of overlays in both families, as the pipeline makes them and as ovs-ofctl prints them."""

from __future__ import annotations

from netaddr import IPAddress

from ovs_mcast.core import pipeline
from ovs_mcast.core.items import Flow
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Link, Observed
from ovs_mcast.core.target import Target

V4 = IPAddress("10.0.0.1")
V6 = IPAddress("fd00::1")
MAC = "02:00:00:00:00:01"


def printed(flow: Flow) -> str:
    """The line of `ovs-ofctl -O OpenFlow14 dump-flows --no-stats`."""
    match = f",{flow.match}" if flow.match else ""
    return (
        f" cookie={flow.cookie:#x}, table={flow.table}, priority={flow.priority}{match}"
        f" actions={flow.actions}"
    )


def overlay_of(*segments: Segment, datapath: str = "system") -> Overlay:
    return Overlay(underlay=Underlay(device="br-phy"), datapath=datapath, segments=segments)


def on(overlay: Overlay, vtep: IPAddress) -> Target:
    """Return the overlay resolved on a host whose underlay device has the address MAC."""
    device = overlay.underlay.device
    host = Observed(links={device: Link(device, 1500, MAC, True)})
    groups = tuple(map(str, overlay.flood_groups))
    return Target(overlay, host, vtep, "socket", frozenset(), groups)


def everything(overlay: Overlay, vtep: IPAddress = V4) -> list[Flow]:
    made = list(pipeline.tunnel_flows(on(overlay, vtep)))
    if overlay.datapath == "netdev":
        made += pipeline.underlay_flows(on(overlay, vtep))
    return made


def lines(overlay: Overlay, vtep: IPAddress) -> list[str]:
    return [
        f"{flow.table} {flow.priority} {flow.match or 'any'} = {flow.actions}"
        for flow in pipeline.tunnel_flows(on(overlay, vtep))
    ]
