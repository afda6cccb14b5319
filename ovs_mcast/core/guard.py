"""The guard: a workload's own VXLAN packet is never taken for a tunnel's. Pure.

A frame that reaches an address of this host by the bridge for workloads (a gateway, DHCP or another
service on an internal port) can end in the tunnel, and with a VNI of the workload's choice cross
into any segment:

- Userspace datapath: Open vSwitch ends tunnels at every internal port of the host's namespace. It
  compares the destination with the Ethernet and IP addresses of all devices (lib/tnl-ports.c,
  `tnl/ports/show`): the underlay's own, on whatever port the frame comes out. Groups count too.
- Kernel's datapath: the host routes the packet to itself, and the tunnel's socket takes it. A group
  is safe there: the internal port is no member.

One flow on the bridge for workloads drops such packets: by the underlay's Ethernet address, which
no workload has a use for, or by the VTEP's addresses. Nested VXLAN to all others passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import ownership
from .findings import Finding, listed, warning
from .items import Flow
from .pipeline_tables import FIELDS
from .target import Target

_PRIORITY = 0xFFFF  # above all flows of others
# A flow of some overlay's guard, as ovs-ofctl and bridge/dump-flows print it.
PRINTED = re.compile(r"\bpriority=65535,udp6?,reg13=0/0x[89a-f][0-9a-f]{4},\S+[ ,]actions=drop$")


def flows(target: Target) -> Iterator[Flow]:
    """Yield the flows of the bridge for workloads; reg13 keeps those of two overlays distinct."""
    overlay = target.overlay
    if not overlay.guard or not _can_have_flows(target):
        return
    names, own = FIELDS[overlay.family], ownership.register(overlay.name)
    places = [f"dl_dst={target.link.mac}"]
    if not target.userspace:
        places = [f"{names.outer_dst}={address}" for address in target.vteps]
    for place in places:
        match = f"{names.udp},reg13=0/{own:#x},{place},tp_dst={overlay.underlay.udp_port}"
        yield Flow(
            overlay.bridge, 0, _PRIORITY, match, "drop", ownership.cookie(overlay.name),
            "VXLAN of workloads to this host → drop",
        )  # fmt: skip


def warnings(target: Target) -> Iterator[Finding]:
    """Yield the ports by which workloads reach this host where no flow guards it."""
    bridge = target.overlay.bridge
    if target.overlay.guard and _can_have_flows(target):
        return
    cure = "set guard: true"
    if target.overlay.guard:
        cure = f"`ovs-vsctl add bridge {bridge} protocols OpenFlow13`"
    observed = target.observed
    inside = {port.name for port in observed.ports.values()
              if port.bridge == bridge and port.type == "internal"} | {bridge}  # fmt: skip
    there = sorted({item.device for item in observed.addresses} & inside - {target.device})
    if there:
        yield warning(
            "guard-off", bridge,
            f"{listed(there)} on {bridge} has addresses of this host: a workload that reaches it "
            "can send VXLAN to the VTEP, and with that into every segment", cure,
        )  # fmt: skip


def _can_have_flows(target: Target) -> bool:
    """Return whether the bridge, where it is there, speaks a version of OpenFlow with bundles."""
    bridge = target.observed.bridges.get(target.overlay.bridge)
    return bridge is None or bool(bridge.openflow)
