"""The pipeline: segments to flows, as text in the form that ovs-ofctl prints.

The tables of the tunnel bridge (patch port 1, VXLAN port 2):

| table | does |
|---|---|
| 0 classify | from the patch port: outer source = VTEP, to 5 (`inner_vlan: keep`: group addresses to 30, else to 20); from the VXLAN port: what is not admitted and what we sent ourselves is dropped, to an address of the underlay device to 15, else to 10 (`only_peers`: to 6) |
| 5 tags | a second VLAN tag: drop; else to 20 |
| 6 peer | from a peer: to an address of the underlay device to 15, else to 10 |
| 10 group | (VNI, group) of a segment: to 15 |
| 15 deliver | per VNI: push the segment's VLAN, learn into 20, out of the patch port |
| 20 unicast | learned: (VLAN, MAC) to one VTEP; no entry: to 30 |
| 30 flood | per VLAN: pop it, set VNI and group, out of the VXLAN port |

Each segment has its own learn(), so that its limit holds per segment: a flood of MACs in one leaves
the others learning. delete_learned removes what a segment learned with the segment.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator

from netaddr import IPAddress

from . import admission, ownership
from .fields import LINUX_UDP_PORT, VXLAN_UDP_PORT
from .groups import MULTICAST, ethernet_of
from .items import Flow
from .model import Overlay, Segment
from .pipeline_tables import (
    CLASSIFY,
    DELIVER,
    FIELDS,
    FLOOD,
    GROUP,
    PATCH,
    TUNNEL,
    UNICAST,
    Row,
)
from .target import Target

# Above what an operator's own flows on the underlay bridge usually have, below what they can have.
UNDERLAY_PRIORITY = 64000
_SEEN = "reg13=0/0x1"
_MARK_SEEN = "load:0x1->NXM_NX_REG13[0],resubmit(,0)"


_Row = tuple[int, str, str, str]  # priority above the lowest, match, actions, summary


def tunnel_flows(target: Target) -> Iterator[Flow]:
    """Yield every flow of the tunnel bridge that learn() does not make."""
    yield from _shared_flows(target)
    for segment in target.overlay.segments:
        yield from segment_flows(target, segment)


def _shared_flows(target: Target) -> Iterator[Flow]:
    overlay, vtep = target.overlay, target.vtep
    names = FIELDS[vtep.version]
    cookie = ownership.cookie(overlay.name)
    table, comes = admission.destinations(overlay)
    rows: tuple[Row, ...] = (
        (CLASSIFY, 110, f"in_port={TUNNEL},dl_src=01:00:00:00:00:00/01:00:00:00:00:00", "drop",
         "no frame comes from a group address"),
        *admission.from_workloads(target),
        *admission.from_underlay(target),
        (CLASSIFY, 100, f"{names.src}={vtep},in_port={TUNNEL}", "drop", "from ourselves → drop"),
        *((table, 90, f"{names.dst}={address}{comes}", f"goto_table:{DELIVER}",
           f"to VTEP {address} → deliver") for address in target.vteps),
        (table, 80, comes.removeprefix(","), f"goto_table:{GROUP}", "to a group → which one"),
        (UNICAST, 0, "", f"goto_table:{FLOOD}", "unknown unicast → flood"),
    )  # fmt: skip
    for number, priority, match, actions, summary in rows:
        yield Flow(overlay.tunnel_bridge, number, priority, match, actions, cookie, summary)


def segment_flows(target: Target, segment: Segment) -> Iterator[Flow]:
    """Yield the three flows of one segment; their cookie holds its VNI and VLAN."""
    overlay = target.overlay
    names = FIELDS[target.vtep.version]
    vni, vlan, group = segment.vni, segment.vlan, segment.flood_group
    cookie = ownership.cookie(overlay.name, vlan=vlan, vni=vni)
    rows = (
        (GROUP, f"tun_id={vni:#x},{names.dst}={group}", f"goto_table:{DELIVER}",
         f"VNI {vni} from {group}"),
        (DELIVER, f"tun_id={vni:#x}",
         f"push_vlan:0x8100,set_field:{0x1000 | vlan}->vlan_vid,"
         f"{_learn(overlay, segment)},output:{PATCH}", f"VNI {vni} → vlan {vlan}"),
        (FLOOD, f"dl_vlan={vlan}",
         f"pop_vlan,set_field:{vni:#x}->tun_id,set_field:{group}->{names.dst},output:{TUNNEL}",
         f"vlan {vlan} → {group}"),
    )  # fmt: skip
    for table, match, actions, summary in rows:
        yield Flow(overlay.tunnel_bridge, table, 1, match, actions, cookie, summary)


def _learn(overlay: Overlay, segment: Segment) -> str:
    """Learn (VLAN, source MAC) → its VTEP. hard_timeout: a MAC ages from the last frame it sent."""
    names = FIELDS[segment.flood_group.version]
    cookie = ownership.cookie(overlay.name, vlan=segment.vlan, vni=segment.vni, learned=True)
    return (
        f"learn(table={UNICAST},hard_timeout={overlay.aging},priority=1,delete_learned,"
        f"cookie={cookie:#x},limit={overlay.learned_limit},"
        "NXM_OF_VLAN_TCI[0..11],"  # as just pushed
        f"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        f"load:0->NXM_OF_VLAN_TCI[],load:{segment.vni:#x}->NXM_NX_TUN_ID[],"
        f"load:{names.nxm_src}->{names.nxm_dst},output:NXM_OF_IN_PORT[])"
    )


def underlay_flows(target: Target) -> Iterator[Flow]:
    """Yield the flows of the bridge that holds the NIC, which the userspace datapath needs.

    Its tunnels listen on the underlay device's own Ethernet address, and resolve the outer
    destination by ARP or neighbour discovery. So a copy of each group frame goes to that Ethernet
    address, the way of any unicast frame: the bridge's other flows and its VLANs and bonds decide
    whether it arrives. reg13 marks copy and frame as seen. Requests for a group are answered here.
    """
    overlay, vtep, local_mac = target.overlay, target.vtep, target.link.mac
    if not overlay.flood_groups:
        return
    bridge, local, port = target.underlay_bridge, target.underlay_port, overlay.underlay.udp_port
    cookie = ownership.cookie(overlay.name)
    answers = _answer_arp if overlay.family == 4 else _answer_discovery
    udp, field = FIELDS[overlay.family].udp, FIELDS[overlay.family].outer_dst
    rows = [
        (1, f"{udp},{_SEEN},in_port={local},tp_dst={port}", _MARK_SEEN,
         "VXLAN from this host → its usual way"),
    ]  # fmt: skip
    if overlay.family == 6:
        rows.append((
            2, f"udp6,{_SEEN},in_port={local},ipv6_src={vtep},tp_dst={port}",
            f"{_rewrite_source(vtep)},{_MARK_SEEN}", f"VXLAN from this host → truly from {vtep}",
        ))  # fmt: skip
    if overlay.family == 4:
        rows += _counting(target, udp, field)
    for group in overlay.flood_groups:
        rows.append((
            0, f"{udp},{_SEEN},{field}={group},tp_dst={port}",
            f"load:0x1->NXM_NX_REG13[0],clone(set_field:{local_mac}->eth_dst,resubmit(,0)),"
            "resubmit(,0)", f"{group} → the tunnel",
        ))  # fmt: skip
    for above, match, actions, summary in [*rows, *answers(target)]:
        yield Flow(bridge, 0, UNDERLAY_PRIORITY + above, match, actions, cookie, summary)


def other_vxlan_port(overlay: Overlay) -> int:
    """Return the UDP port of peers that were made with a default that is not the overlay's.

    Linux's vxlan devices have 8472 unless told otherwise (ip-link(8)).
    """
    return LINUX_UDP_PORT if overlay.underlay.udp_port != LINUX_UDP_PORT else VXLAN_UDP_PORT


def _counting(target: Target, udp: str, field: str) -> Iterator[_Row]:
    """Yield flows that count what no tunnel takes, on its usual way.

    Fragments, which Open vSwitch does not reassemble for its tunnels; in a match they have UDP port
    0 (ovs-ofctl(8), set-frags). Packets to groups on the other UDP port of VXLAN. IPv4 alone: to
    add such flows beside IPv6 tunnels lost a frame of each (Open vSwitch 3.1.0, under load).
    """
    overlay, own = target.overlay, ownership.register(target.overlay.name) << 1 | 1
    groups, port = MULTICAST[overlay.family], other_vxlan_port(overlay)
    for destination in (target.vtep, groups):
        yield (
            3, f"{udp},reg13=0/{own:#x},{field}={destination},nw_frag=first", _MARK_SEEN,
            f"fragments to {destination} → counted",
        )  # fmt: skip
    yield (
        3, f"{udp},reg13=0/{own:#x},{field}={groups},tp_dst={port}", _MARK_SEEN,
        f"VXLAN on UDP port {port} → counted",
    )  # fmt: skip


def underlay_matches(group: IPAddress) -> tuple[str, str]:
    """Return the matches that select the flows of one group on the underlay's bridge."""
    if group.version == 4:
        return f"udp,nw_dst={group}", f"arp,arp_tpa={group}"
    return f"udp6,ipv6_dst={group}", f"icmp6,icmp_type=135,nd_target={group}"


def _rewrite_source(vtep: IPAddress) -> str:
    """Always rewrite the outer IPv6 source.

    The userspace datapath of Open vSwitch 3.1 records tun_ipv6_src, but sends from the source of
    its route, which for a group is the group. A set_field is dropped where its value equals the
    recorded one; pending changes are carried out before check_pkt_larger reads a packet's length.
    """
    return (
        "set_field:::->ipv6_src,check_pkt_larger(65535)->NXM_NX_REG13[1],"
        f"set_field:{vtep}->ipv6_src"
    )


def _answer_arp(target: Target) -> Iterator[_Row]:
    overlay, local = target.overlay, target.underlay_port
    own = ownership.register(overlay.name)
    for group in overlay.flood_groups:
        mac = ethernet_of(group)
        yield (
            0, f"arp,reg13=0/{own:#x},in_port={local},arp_tpa={group},arp_op=1",
            "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:2->arp_op,"
            "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
            f"set_field:{mac}->arp_sha,set_field:{group}->arp_spa,IN_PORT",
            f"ARP for {group} → {mac}",
        )  # fmt: skip


def _answer_discovery(target: Target) -> Iterator[_Row]:
    """Turn a solicitation into the advertisement (RFC 4861, 4.3 and 4.4), in two steps.

    OpenFlow lets only an advertisement have a target link-layer address: 33:33 and the low 32 bits
    of the group (RFC 2464, 7).
    """
    overlay, local = target.overlay, target.underlay_port
    own = ownership.register(overlay.name)
    for group in overlay.flood_groups:
        yield (
            0,
            f"icmp6,reg13=0/{own:#x},in_port={local},icmp_type=135,icmp_code=0,nd_target={group}",
            "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],"
            f"set_field:{group}->ipv6_src,set_field:{target.vtep}->ipv6_dst,"
            "set_field:136->icmpv6_type,set_field:2->nd_options_type,"
            f"load:{own:#x}->NXM_NX_REG13[],resubmit(,0)",
            f"neighbour solicitation for {group} → advertisement",
        )
    yield (
        0, f"icmp6,reg13={own:#x},in_port={local},icmp_type=136,icmp_code=0",
        "move:NXM_NX_ND_TARGET[0..31]->NXM_NX_ND_TLL[0..31],load:0x3333->NXM_NX_ND_TLL[32..47],"
        "IN_PORT", "advertisement → the group's Ethernet address",
    )  # fmt: skip
