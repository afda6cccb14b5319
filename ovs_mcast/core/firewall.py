"""Whether this host's packet filter drops packets of the overlay, by its rule set. Pure.

What only packets show (another host's filter, a switch) is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .findings import Finding, warning
from .packet_filter import Packet, RuleSet
from .target import Target

Fields = Mapping[str, str | int]
_IN = ("ingress", "prerouting", "input")
_OUT = ("output", "postrouting")


def warnings(target: Target, rules: RuleSet) -> Iterator[Finding]:
    """Yield the rules and policies that drop packets of the overlay for certain."""
    found: dict[str, list[str]] = {}
    for packet in packets(target):
        if by := rules.dropped_by(packet):
            found.setdefault(by, []).append(packet.what)
    for by, what in found.items():
        yield warning(
            "packet-filter", by, f"nftables drops {' and '.join(what)}: {by}",
            "nft --handle list ruleset shows it",
        )  # fmt: skip


def packets(target: Target) -> Iterator[Packet]:
    """Yield a packet of each kind that Linux carries for the overlay.

    The userspace datapath takes and sends tunnels' packets past Linux.
    """
    if not target.userspace and target.groups:
        yield from _tunnel(target)
    if target.overlay.family == 4:
        yield _control(target, _IN, "IGMP queries", "224.0.0.1", "")
        yield _control(target, _OUT, "IGMP reports", "224.0.0.22", "")
    else:
        yield _control(target, _IN, "MLD queries", "ff02::1", "mld-listener-query")
        yield _control(target, _OUT, "MLD reports", "ff02::16", "mld2-listener-report")


def _tunnel(target: Target) -> Iterator[Packet]:
    group, vtep = target.groups[0], str(target.vtep)
    ip = "ip" if target.overlay.family == 4 else "ip6"
    port = target.overlay.underlay.udp_port
    udp: Fields = {"meta l4proto": "udp", "udp dport": port, "th dport": port, "ct state": "new"}
    for hooks, what, known in (
        (_IN, f"VXLAN to {group}", {f"{ip} daddr": group, "meta pkttype": "multicast"}),
        (_IN, f"VXLAN to {vtep}", {f"{ip} daddr": vtep, "meta pkttype": "unicast"}),
        (_OUT, f"VXLAN from this host to {group}", {f"{ip} daddr": group, f"{ip} saddr": vtep}),
        (_OUT, "VXLAN from this host to peers", {f"{ip} saddr": vtep}),
    ):
        yield _packet(target, hooks, what, "udp", {**udp, **known})


def _control(target: Target, hooks: tuple[str, ...], what: str, to: str, kind: str) -> Packet:
    if target.overlay.family == 4:
        return _packet(target, hooks, what, "igmp", {
            "ip daddr": to, "meta l4proto": "igmp", "ct state": "new",
        })  # fmt: skip
    # Behind a hop-by-hop header (RFC 3810, 5), and not tracked.
    known: Fields = {"ip6 daddr": to, "meta l4proto": "ipv6-icmp", "icmpv6 type": kind}
    return _packet(target, hooks, what, "icmpv6", known)


def _packet(
    target: Target, hooks: tuple[str, ...], what: str, protocol: str, known: Fields
) -> Packet:
    ip = "ip" if target.overlay.family == 4 else "ip6"
    into, out = (target.device, "") if hooks == _IN else ("", target.device)
    fields: dict[str, str | int] = {
        "meta nfproto": f"ipv{target.overlay.family}", "meta protocol": ip,
        "meta iifname": into, "meta iif": into, "meta oifname": out, "meta oif": out, **known,
    }  # fmt: skip
    if ip == "ip":
        fields["ip protocol"] = protocol
    protocols = frozenset({ip, protocol})
    return Packet(what, hooks, target.overlay.family, target.device, protocols, fields)
