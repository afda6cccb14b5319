"""Admission: which packets of the underlay, and which frames of workloads, the pipeline takes. Pure.

| what | why it is dropped |
|---|---|
| a packet from a group, or from an address that no host has | nobody can be answered there (RFC 1122, 3.2.1.3; RFC 4291, 2.5 to 2.7) |
| with `only_peers`, a packet from anybody else | VXLAN believes any source (RFC 7348, 7) |
| a frame with a VLAN tag within its segment, both ways | RFC 7348, 6.1, asks for it; `inner_vlan: keep` passes them |

Open vSwitch matches one VLAN tag at a time, so a workload's tag is taken off for the look, and put on
again. It sees the tag within as an Ethernet type: with `other_config:vlan-limit` 1, the default.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator

from .findings import Finding, listed, warning
from .model import Overlay
from .pipeline_tables import (
    CLASSIFY,
    FIELDS,
    FLOOD,
    PATCH,
    PEER,
    TAGS,
    TUNNEL,
    UNICAST,
    Row,
)
from .target import Target
from .workload_bridge import members

# Sources that no host has: of "this network", loopback, groups and class E; unspecified, loopback,
# groups.
NO_HOST = {4: ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"), 6: ("::/127", "ff00::/8")}
TAGGED = "vlan_tci=0x1000/0x1000"
_SAVE = "move:NXM_OF_VLAN_TCI[]->NXM_NX_REG0[0..15]"
_RESTORE = "push_vlan:0x8100,move:NXM_NX_REG0[0..15]->NXM_OF_VLAN_TCI[]"


def warnings(target: Target) -> Iterator[Finding]:
    """Yield the ports whose workloads' own tags are dropped."""
    if target.overlay.inner_vlan == "keep":
        return
    tunnels = [port.name for port in members(target) if "dot1q-tunnel" in port.vlans]
    if tunnels:
        yield warning(
            "inner-tags", target.overlay.bridge,
            f"{listed(tunnels)} is a dot1q-tunnel port, and the tags of its workload are dropped",
            "set inner_vlan: keep, here and on all hosts",
        )  # fmt: skip


def from_underlay(target: Target) -> Iterator[Row]:
    """Yield the flows that drop packets of the underlay, before those that deliver."""
    overlay = target.overlay
    source = FIELDS[overlay.family].src
    for network in NO_HOST[overlay.family]:
        yield (
            CLASSIFY, 106, f"{source}={network},in_port={TUNNEL}", "drop",
            f"from {network}, which no host has → drop",
        )  # fmt: skip
    if overlay.inner_vlan == "drop":
        yield CLASSIFY, 105, f"in_port={TUNNEL},{TAGGED}", "drop", "with a tag → drop"
    if overlay.only_peers:
        for peer in overlay.peers:
            shown = peer.ip if peer.size == 1 else peer
            yield (
                CLASSIFY, 95, f"{source}={shown},in_port={TUNNEL}", f"goto_table:{PEER}",
                f"from peer {shown} → deliver",
            )  # fmt: skip
        yield CLASSIFY, 94, f"in_port={TUNNEL}", "drop", "from no peer → drop"


def destinations(overlay: Overlay) -> tuple[int, str]:
    """Return the table that looks at a packet's destination, and the match of what comes there."""
    return (PEER, "") if overlay.only_peers else (CLASSIFY, f",in_port={TUNNEL}")


def from_workloads(target: Target) -> Iterator[Row]:
    """Yield the flows that take the frames of workloads: to 30 or 20, or to a look at tags."""
    names = FIELDS[target.vtep.version]
    # Explicit, so that no local route of a group can send our packets to lo; set here and not in
    # each segment's flows, so that a new VTEP address changes two flows.
    source = f"set_field:{target.vtep}->{names.src}"
    group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
    if target.overlay.inner_vlan == "keep":
        yield (CLASSIFY, 100, f"in_port={PATCH},{group}", f"{source},goto_table:{FLOOD}",
               "broadcast and multicast → flood")  # fmt: skip
        yield (CLASSIFY, 90, f"in_port={PATCH}", f"{source},goto_table:{UNICAST}",
               "unicast → learned")  # fmt: skip
        return
    yield (CLASSIFY, 100, f"in_port={PATCH},{TAGGED}",
           f"{source},{_SAVE},pop_vlan,goto_table:{TAGS}", "from workloads → tags")  # fmt: skip
    yield TAGS, 3, TAGGED, "drop", "with a second tag → drop"
    for number, kind in enumerate(("0x8100", "0x88a8"), 1):
        yield TAGS, number, f"dl_type={kind}", "drop", f"with a second tag of type {kind} → drop"
    yield (TAGS, 0, "", f"{_RESTORE},goto_table:{UNICAST}", "with one tag → learned, or flood")
