"""VNI to multicast group: valid groups, pools, and groups that share an Ethernet address.

Pure functions on addresses; no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from netaddr import EUI, AddrFormatError, IPAddress, IPNetwork, mac_unix_expanded

MULTICAST = {4: IPNetwork("224.0.0.0/4"), 6: IPNetwork("ff00::/8")}

# Multicast, but not usable by an overlay.
RESERVED_V4 = (
    (IPNetwork("224.0.0.0/24"), "224.0.0.0/24 is never routed and never snooped (RFC 5771)"),
    (IPNetwork("232.0.0.0/8"), "232.0.0.0/8 is for source-specific multicast (RFC 4607)"),
)
# RFC 4291, 2.7, and RFC 7346: usable are 3 (realm) to e (global). In 1 and 2 the same address is
# another group on each interface or link, so a route to it is ambiguous.
RESERVED_SCOPES_V6 = {
    0x0: "IPv6 multicast scope 0 is reserved (RFC 4291)",
    0x1: "IPv6 multicast scope 1 never leaves the interface (RFC 4291)",
    0x2: "IPv6 multicast scope 2 never leaves the link, and is another group on each (RFC 4291)",
    0xF: "IPv6 multicast scope f is reserved (RFC 4291)",
}


def parse_address(value: object) -> IPAddress:
    """Return an address from text; ValueError, with the reason, for other text."""
    if isinstance(value, IPAddress):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an IP address in text")
    try:
        return IPAddress(value)
    except (AddrFormatError, ValueError):
        raise ValueError(f"{value!r} is not an IP address") from None


def parse_pool(value: object) -> IPNetwork:
    """Return a pool of groups from text such as 239.1.0.0/20; ValueError if it is not valid."""
    if not isinstance(value, IPNetwork):
        if not isinstance(value, str) or "/" not in value:
            raise ValueError(f"{value!r} is not a network such as 239.1.0.0/20")
        try:
            value = IPNetwork(value)
        except (AddrFormatError, ValueError):
            raise ValueError(f"{value!r} is not a network such as 239.1.0.0/20") from None
    if value.ip != value.network:
        raise ValueError(f"{value} has host bits set: {value.cidr} is the network")
    if value not in MULTICAST[value.version]:
        raise ValueError(f"{value} is not within {MULTICAST[value.version]}: not multicast")
    if value.version == 6:
        if value.prefixlen < 16:
            raise ValueError(f"{value} spans several scopes: a pool is /16 or longer")
        check_group(IPAddress(value.first, 6))
        return value
    for network, why in RESERVED_V4:
        if value in network or network in value:
            raise ValueError(f"{value} holds reserved groups: {why}")
    return value


def parse_peer(value: object) -> IPNetwork:
    """Return a peer, or a prefix of peers, from text; ValueError if it is no unicast one."""
    if not isinstance(value, IPNetwork):
        try:
            value = IPNetwork(value if isinstance(value, str) else str(parse_address(value)))
        except (AddrFormatError, ValueError):
            raise ValueError(f"{value!r} is not an address or a network of peers") from None
    if value.ip != value.network:
        raise ValueError(f"{value} has host bits set: {value.cidr} is the network")
    if value.prefixlen == 0 or value in MULTICAST[value.version]:
        raise ValueError(f"{value} is no network of peers: it has groups")
    return value


def check_group(group: IPAddress) -> IPAddress:
    """Return the group; ValueError, with the reason, if an overlay cannot use it.

    An IPv6 group has its scope in the fourth hexadecimal digit, whatever its flags (RFC 4291, 2.7).
    """
    if not group.is_multicast():
        raise ValueError(f"{group} is not a multicast address")
    if group.version == 4:
        for network, why in RESERVED_V4:
            if group in network:
                raise ValueError(f"{group}: {why}")
        return group
    scope = (int(group) >> 112) & 0xF
    if scope in RESERVED_SCOPES_V6:
        raise ValueError(f"{group}: {RESERVED_SCOPES_V6[scope]}: scopes 3 to e can be used")
    # Flags 3 and a zero prefix length; with a prefix the group is any-source (RFC 3306).
    if (int(group) >> 116) & 0xF == 3 and (int(group) >> 96) & 0xFFFF == 0:
        raise ValueError(f"{group}: ff3x::/32 is for source-specific multicast (RFC 4607)")
    return group


def group_of(vni: int, pool: IPNetwork) -> IPAddress:
    """Return the default group of a segment: network + (VNI mod size of the pool)."""
    return IPAddress(pool.first + vni % pool.size, pool.version)


def ethernet_of(group: IPAddress) -> str:
    """Return the Ethernet address of frames to the group (RFC 1112, 6.4; RFC 2464, 7)."""
    if group.version == 4:
        value = 0x01005E000000 | (int(group) & 0x7FFFFF)
    else:
        value = 0x333300000000 | (int(group) & 0xFFFFFFFF)
    return str(EUI(value, version=48, dialect=mac_unix_expanded))


def ethernet_aliases(groups: Iterable[IPAddress]) -> list[tuple[str, list[IPAddress]]]:
    """Return Ethernet addresses that several of the groups share, with those groups, sorted.

    A switch that snoops by Ethernet address sends members of one of them the traffic of all.
    """
    by_mac: defaultdict[str, set[IPAddress]] = defaultdict(set)
    for group in groups:
        by_mac[ethernet_of(group)].add(group)
    return [(mac, sorted(members)) for mac, members in sorted(by_mac.items()) if len(members) > 1]


def shared_ethernet(groups: Iterable[IPAddress]) -> Iterator[tuple[str, str]]:
    """Yield groups that share an Ethernet address, as text, each with a warning."""
    for mac, aliases in ethernet_aliases(groups):
        members = ", ".join(map(str, aliases))
        yield (
            members,
            (
                f"{members} share the Ethernet address {mac}: "
                "a switch that snoops by it sends members of one the traffic of the others"
            ),
        )


def check_vtep(vtep: IPAddress) -> IPAddress:
    """Return the VTEP address; ValueError unless it is unicast and usable as an outer source."""
    broadcast = vtep.version == 4 and int(vtep) == 0xFFFFFFFF
    if vtep.is_multicast() or broadcast or vtep.is_loopback() or int(vtep) == 0:
        raise ValueError(f"{vtep} is not a unicast address that other hosts can reach")
    if vtep.version == 6 and vtep.is_link_local():
        raise ValueError(f"{vtep} is link-local: an outer source cannot say which link")
    if vtep.version == 6 and vtep.is_ipv4_mapped():
        raise ValueError(f"{vtep} stands for an IPv4 address: name {vtep.ipv4()}")
    return vtep
