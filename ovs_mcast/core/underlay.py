"""The underlay device: whether it can carry the tunnels, and the bridge that has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Finding, error
from .items import Port
from .model import Overlay
from .observed import Link, Observed

# Devices whose ports hand all frames to them, whatever addresses a port has (rx_handler). A VRF is
# a master too, and leaves a device its frames and addresses.
_TAKE_FRAMES = {"bridge", "bond", "team"}
# Kinds that carry no multicast to other hosts: without a wire, or without Ethernet (ipvlan.rst).
_WITHOUT_MULTICAST = {"loopback", "dummy", "vrf", "ipvlan l3", "ipvlan l3s"}


def findings(overlay: Overlay, observed: Observed) -> Iterator[Finding]:
    """Yield why the underlay device cannot carry the tunnels; nothing if it can."""
    device = overlay.underlay.device
    if device not in observed.links:
        yield error(
            "underlay-missing", device, f"there is no device {device}", field="underlay.device"
        )
        return
    reason = _unfit_userspace if overlay.datapath == "netdev" else _unfit_kernel
    if evidence := (
        _own_bridge(overlay, observed)
        or _without_multicast(device, observed)
        or reason(device, observed)
        or _in_vrf(device, observed)
    ):
        yield error("underlay-unfit", device, evidence, field="underlay.device")


def bridge_of(device: str, observed: Observed) -> str:
    """Return the bridge that has the underlay device as its LOCAL or an internal port."""
    port = observed.ports.get(device)
    return device if port is None else port.bridge


def port_of(device: str, observed: Observed) -> str:
    """Return the underlay device's OpenFlow port as a match names it: LOCAL or a number."""
    port = observed.ports.get(device)
    return "LOCAL" if port is None else str(port.ofport)


def nics(device: str, observed: Observed) -> Iterator[Link]:
    """Yield the Linux devices that are ports of the underlay device's bridge, or links of a bond.

    They have an IP stack of their own (userspace datapath). A tap is not a NIC: behind it is a
    guest.
    """
    name = bridge_of(device, observed)
    for port in observed.ports.values():
        if port.bridge == name and port.type in {"", "system"}:
            for member in port.members or (port.name,):
                link = observed.links.get(member)
                if link is not None and link.kind != "tun":
                    yield link


def _own_bridge(overlay: Overlay, observed: Observed) -> str:
    bridge = observed.bridges.get(overlay.underlay.device)
    if bridge is None or bridge.owner != overlay.name:
        return ""
    return f"bridge {bridge.name} is this overlay's own: it is removed with the overlay"


def _without_multicast(device: str, observed: Observed) -> str:
    kind = observed.links[device].kind
    if kind not in _WITHOUT_MULTICAST:
        return ""
    shown = f"{device} is a device of kind {kind}, which" if kind != "loopback" else device
    return f"{shown} carries no multicast to other hosts: name the device that leads to them"


def _in_vrf(device: str, observed: Observed) -> str:
    """Return why a device of a VRF cannot serve: its groups are routed in the VRF's table.

    And an Open vSwitch tunnel hears a VRF's packets with net.ipv4.udp_l3mdev_accept=1 alone.
    """
    master = observed.links.get(observed.links[device].master)
    if master is None or master.kind != "vrf":
        return ""
    return (
        f"{device} is in VRF {master.name}, whose table no route of ours is in: take it out "
        f"(ip link set {device} nomaster), or run Open vSwitch in a network namespace of its own"
    )


def _unfit_kernel(device: str, observed: Observed) -> str:
    if holder := _holder(device, observed):
        return f"{device} is a port of {holder}, which takes its frames: name {holder}"
    return ""


def _unfit_userspace(device: str, observed: Observed) -> str:
    name, port = bridge_of(device, observed), observed.ports.get(device)
    bridge = observed.bridges.get(name)
    if bridge is None or (port is not None and port.type != "internal"):
        hint = f"; {device} is a port of {name}: name that" if port else ""
        return (
            f"{device} is not a bridge: the userspace datapath's underlay is the bridge that holds "
            f"the NIC, or an internal port of it{hint}"
        )
    if bridge.datapath != "netdev":
        return f"bridge {name} is on the {bridge.datapath} datapath, not on netdev"
    if port is not None and (port.ofport or 0) < 1:
        return f"port {port.target} has no OpenFlow port"
    for bond in observed.ports.values():
        if bond.bridge == name and bond.bond_mode == "balance-slb":
            return _doubles(bond)
    return ""


def _doubles(bond: Port) -> str:
    """Return why a bond cannot serve: a switch floods a group to every link of it.

    Open vSwitch drops the copies by their group's Ethernet address (bond_check_admissibility() in
    ofproto/bond.c), which the tunnels' packets have no more when they reach them.
    """
    return (
        f"{bond.name}, a port of {bond.bridge}, is a bond in mode balance-slb, which delivers a "
        "copy of each group packet per link: set bond_mode to active-backup, or balance-tcp with "
        "LACP"
    )


def _holder(device: str, observed: Observed) -> str:
    """Return the bridge or bond that has the device as a port; empty without one."""
    port = observed.ports.get(device)
    if port is not None and port.type in {"", "system"}:
        bridge = observed.bridges.get(port.bridge)
        if bridge is not None and bridge.datapath == "system":
            return bridge.name
    master = observed.links.get(observed.links[device].master)
    return master.name if master is not None and master.kind in _TAKE_FRAMES else ""
