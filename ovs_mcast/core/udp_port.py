"""Who else has the overlay's UDP port: other VXLAN ports, Linux vxlan devices, programs. Pure.

One flow-based port takes all VXLAN on a UDP port, and the kernel opens the port once. Without the
port the overlay is refused; once the overlay has the port, others are named and it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import ownership
from .fields import VXLAN_UDP_PORT
from .findings import Finding, error, warning
from .groups import parse_address
from .items import Port
from .model import Overlay
from .observed import Link, Observed
from .target import Target, tunnel_bridge_of

# The kernel itself, or a process of another PID namespace.
UNSEEN = "no process that is seen here, but a socket (of a VXLAN device in another namespace?)"

_DATAPATH = "ovs-system"
_ATOI = re.compile(r"\s*([+-]?\d+)")
_STRTOULL = re.compile(r"\s*\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)")


def may_be_held(overlay: Overlay, observed: Observed) -> bool:
    """Return whether a program could keep the UDP port from the overlay: to find it costs a search.

    The kernel's datapath opens a socket for it, that of its device vxlan_sys_4789.
    """
    device = f"vxlan_sys_{overlay.underlay.udp_port}"
    return overlay.datapath == "system" and device not in observed.links


def is_used(number: int, observed: Observed) -> bool:
    """Return whether a VXLAN device or port of this host is on a UDP port."""
    return any(link.udp_port == number for link in observed.links.values()) or any(
        port.type == "vxlan" and _number(port) == number for port in observed.ports.values()
    )


def refusals(target: Target) -> Iterator[Finding]:
    """Yield why the overlay cannot have the UDP port; nothing if it has a VXLAN port already."""
    if _own(target) is not None:
        return
    number = target.overlay.underlay.udp_port
    for port in _flow_based(target):
        yield error(
            "udp-port-taken", port.target,
            f"port {port.target}{_whose(port)} takes all VXLAN on UDP port {number}: "
            "one flow-based port can", field="underlay.udp_port",
        )  # fmt: skip
    for link in _linux_devices(target):
        if link.up:
            yield error(
                "udp-port-taken", link.name,
                f"the Linux vxlan device {link.name} holds UDP port {number}",
                field="underlay.udp_port",
            )  # fmt: skip
    for holder in () if kept_away(target) else _holders(target):
        yield error(
            "udp-port-taken", holder, f"{holder} holds UDP port {number}",
            "end it, or give the overlay another udp_port on every host",
            field="underlay.udp_port",
        )  # fmt: skip


def kept_away(target: Target) -> bool:
    """Return whether an overlay in place is to have no VXLAN port: a program holds the UDP port.

    ovs-vswitchd tries to open the socket of such a port without end, some twenty times a second.
    """
    if not _holders(target) or not may_be_held(target.overlay, target.observed):
        return False
    if _own(target) is not None:
        return True
    name = target.overlay.name
    missing = ownership.port_names(name).vxlan not in target.observed.ports
    return missing and tunnel_bridge_of(name, target.observed) is not None


def faults(target: Target) -> Iterator[Finding]:
    """Yield a tunnel that the kernel's datapath has not, and ports of others to one peer.

    A port whose UDP port is changed to one that is taken Open vSwitch drops from the datapath: it
    shows no error and does not try again (3.1.0). ovs-system is the kernel's datapath itself.

    Open vSwitch prefers a port to one peer to a flow-based port. It takes what its remote_ip sends
    to its local_ip, to any address without one (tnl_port_receive() in ofproto/tunnel.c); one with
    an error takes nothing. Open vSwitch accepts a group as local_ip.
    """
    own, observed = _own(target), target.observed
    lost = may_be_held(target.overlay, observed) and _DATAPATH in observed.links
    if kept_away(target):
        yield error(
            "udp-port-taken", target.overlay.name,
            f"{', '.join(_holders(target))} has UDP port {target.overlay.underlay.udp_port}: the "
            "overlay has no VXLAN port until that is free",
            "end it, or give the overlay another udp_port on every host",
        )  # fmt: skip
    elif own is not None and not own.error and lost:
        yield error(
            "port-failed", own.target,
            f"port {own.target} is not in the kernel's datapath{held_by(own, target)}",
            f"delete the port (ovs-vsctl del-port {own.name}) and run setup again",
        )  # fmt: skip
    for port in _rivals(target):
        remote = port.option("remote_ip")
        if remote != "flow" and not port.error and _receives_ours(port, target):
            yield error(
                "peer-diverted", port.target,
                f"port {port.target} takes what {remote} sends: it does not reach us",
                "delete the port, or give the overlay another udp_port on every host",
            )  # fmt: skip


def warnings(target: Target) -> Iterator[Finding]:
    """Yield the others on the UDP port that the overlay has."""
    number = target.overlay.underlay.udp_port
    for port in _flow_based(target):
        yield warning(
            "udp-port-shared", port.target,
            f"port {port.target}{_whose(port)} is flow-based on UDP port {number} too: "
            "one such port works, and this overlay has it", "delete the port, or give it another",
        )  # fmt: skip
    for link in _linux_devices(target):
        yield warning(
            "udp-port-shared", link.name,
            f"the Linux vxlan device {link.name} is on UDP port {number} too: while this overlay "
            f"has it, nothing reaches {link.name}", "delete the device, or give it another dstport",
        )  # fmt: skip


def held_by(port: Port, target: Target) -> str:
    """Return who holds the UDP port of a port of ours that failed, as the end of a sentence."""
    if port.type != "vxlan":
        return ""
    holders = [*_holders(target)]
    holders += [f"port {one.target}" for one in _flow_based(target) if not one.error]
    holders += [f"the Linux vxlan device {one.name}" for one in _linux_devices(target) if one.up]
    number = target.overlay.underlay.udp_port
    return f": {', '.join(holders)} has UDP port {number}" if holders else ""


def _own(target: Target) -> Port | None:
    """Return the VXLAN port that the overlay has on the UDP port, working or not."""
    port = target.observed.ports.get(ownership.port_names(target.overlay.name).vxlan)
    if port is None or port.owner != target.overlay.name:
        return None
    return port if _number(port) == target.overlay.underlay.udp_port else None


def _holders(target: Target) -> tuple[str, ...]:
    """Return the programs on the UDP port; or the kernel, if no device known here explains it."""
    found = target.observed.udp_holders
    number = target.overlay.underlay.udp_port
    known = is_used(number, target.observed)
    return tuple(holder for holder in found if holder != UNSEEN or not known)


def _number(port: Port) -> int:
    """Return the UDP port as Open vSwitch reads it: htons(atoi()), in lib/netdev-vport.c."""
    read = _ATOI.match(port.option("dst_port") or str(VXLAN_UDP_PORT))
    return int(read[1]) & 0xFFFF if read else 0


def _key(port: Port) -> str:
    """Return flow, or the VNI as Open vSwitch reads it: strtoull() of base 0."""
    text = port.option("in_key") or port.option("key") or "0"
    if text == "flow":
        return text
    read = _STRTOULL.match(text)
    number = read[1] if read else "0"
    base = 16 if number[1:2] in {"x", "X"} else 8 if number.startswith("0") else 10
    return str(int(number, base))


def _rivals(target: Target) -> Iterator[Port]:
    """Yield ports of others that take VXLAN packets of ours: all, or those of some peers."""
    keys = {"flow", *(str(segment.vni) for segment in target.overlay.segments)}
    for port in target.observed.ports.values():
        if (
            port.type == "vxlan"
            and port.owner != target.overlay.name
            and _number(port) == target.overlay.underlay.udp_port
            and _key(port) in keys
        ):
            yield port


def _flow_based(target: Target) -> Iterator[Port]:
    return (port for port in _rivals(target) if port.option("remote_ip") == "flow")


def _linux_devices(target: Target) -> Iterator[Link]:
    """Yield Linux vxlan devices on the UDP port; one that is down does not hold it.

    vxlan_sys_4789 is how the kernel datapath carries any VXLAN port of Open vSwitch.
    """
    number = target.overlay.underlay.udp_port
    for link in target.observed.links.values():
        if link.udp_port == number and not link.name.startswith("vxlan_sys_"):
            yield link


def _whose(port: Port) -> str:
    return f", overlay {port.owner}'s," if port.owner else ""


def _receives_ours(port: Port, target: Target) -> bool:
    """Return whether the port's local_ip is an address that our packets are sent to."""
    local = port.option("local_ip", "flow")
    if local == "flow":
        return True
    try:
        return parse_address(local) in {target.vtep, *target.overlay.flood_groups}
    except ValueError:
        return False  # Open vSwitch refuses the port
