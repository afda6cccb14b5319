"""The tables, ports and tunnel fields of the pipeline: what its parts have in common."""

from __future__ import annotations

from dataclasses import dataclass

PATCH, TUNNEL = 1, 2  # ports of the tunnel bridge
CLASSIFY, TAGS, PEER, GROUP, DELIVER, UNICAST, FLOOD = 0, 5, 6, 10, 15, 20, 30

Row = tuple[int, int, str, str, str]  # table, priority, match, actions, summary


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of one address family's tunnel fields in matches and in learn().

    ``udp`` and ``outer_dst`` are for the tunnels' packets themselves, on bridges that they cross.
    """

    src: str
    dst: str
    nxm_src: str
    nxm_dst: str
    udp: str
    outer_dst: str


FIELDS = {
    4: Fields("tun_src", "tun_dst", "NXM_NX_TUN_IPV4_SRC[]", "NXM_NX_TUN_IPV4_DST[]",
              "udp", "nw_dst"),
    6: Fields("tun_ipv6_src", "tun_ipv6_dst", "NXM_NX_TUN_IPV6_SRC[]", "NXM_NX_TUN_IPV6_DST[]",
              "udp6", "ipv6_dst"),
}  # fmt: skip
