"""The options of the VXLAN port: the overlay's, those of its configuration, an operator's. Pure.

The port is flow-based both ways: Open vSwitch refuses a multicast remote_ip, and with a local_ip
the port hears no group. An option that the overlay neither needs nor was given is an operator's,
and stays unless it breaks the overlay. Names and values: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from dataclasses import replace

from .fields import VXLAN_UDP_PORT
from .items import Port
from .model import Overlay, Underlay
from .target import Target

# They change which VNIs are accepted, or the header, whose flags peers then drop.
_BREAKING = {"in_key", "out_key", "exts", "packet_type"}
_BOOLEANS = {"true": True, "false": False}


def options(target: Target) -> dict[str, str]:
    """Return the options that the overlay needs, and those that its configuration names."""
    underlay = target.overlay.underlay
    needed = {
        "remote_ip": "flow", "local_ip": "flow", "key": "flow",
        "dst_port": str(underlay.udp_port), "ttl": str(underlay.ttl),
    }  # fmt: skip
    if target.vtep.version == 6:
        # A Linux vxlan device drops IPv6 packets without a UDP checksum (noudp6zerocsumrx).
        needed["csum"] = "true"
    return needed | configured(target.overlay)


def configured(overlay: Overlay) -> dict[str, str]:
    """Return the options that the configuration names, in place of Open vSwitch's defaults."""
    underlay = overlay.underlay
    values = {
        "tos": underlay.tos, "df_default": underlay.df, "csum": underlay.checksum,
        "egress_pkt_mark": underlay.mark,
    }  # fmt: skip
    return {name: str(value).lower() for name, value in values.items() if value is not None}


def with_operators(port: Port, target: Target) -> Port:
    """Return a desired port of ours with the options that an operator has set on it."""
    before = target.observed.ports.get(port.name)
    if before is None or before.owner != port.owner or before.type != port.type:
        return port
    broken = _BREAKING | set(before.configured)
    if target.userspace:
        # Open vSwitch looks up its routes with the mark, and learns none that has one.
        broken.add("egress_pkt_mark")
    kept = {name: value for name, value in before.options if name not in broken}
    return replace(port, options=tuple(sorted((kept | dict(port.options)).items())))


def read(port: Port | None) -> dict[str, object]:
    """Return the keys of `underlay` in a configuration that made this port; None for a default."""
    if port is None:
        return {}
    found = dict(port.options)
    named = {name: found.get(name, "") for name in port.configured}
    tos = named.get("tos", "")
    return {
        "udp_port": _number(found.get("dst_port", ""), VXLAN_UDP_PORT),
        "ttl": _number(found.get("ttl", ""), Underlay.model_fields["ttl"].default),
        "tos": tos if tos == "inherit" else _number(tos),
        "df": _BOOLEANS.get(named.get("df_default", "")),
        "checksum": _BOOLEANS.get(named.get("csum", "")),
        "mark": _number(named.get("egress_pkt_mark", "")),
    }


def _number(text: str, default: int | None = None) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else default
