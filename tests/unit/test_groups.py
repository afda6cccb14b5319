"""VNI to group, valid groups, and groups that share an Ethernet address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from ovs_mcast.core import groups

V4_GROUPS = st.integers(0xE0000000, 0xEFFFFFFF).map(lambda value: IPAddress(value, 4))
V6_GROUPS = st.integers(0xFF << 120, (1 << 128) - 1).map(lambda value: IPAddress(value, 6))


@given(V4_GROUPS | st.ip_addresses(v=4).map(lambda address: IPAddress(str(address))))
def test_an_ipv4_group_is_multicast_and_not_reserved(address: IPAddress) -> None:
    """224.0.0.0/24 and 232.0.0.0/8 are refused, and all that is not 224.0.0.0/4."""
    known = ipaddress.ip_address(str(address))
    reserved = [ipaddress.ip_network(text) for text in ("224.0.0.0/24", "232.0.0.0/8")]
    usable = known.is_multicast and not any(known in network for network in reserved)
    assert _accepted(address) == usable


@given(V6_GROUPS)
def test_an_ipv6_group_has_a_scope_that_leaves_the_link(address: IPAddress) -> None:
    """Scopes 0, 1, 2 and f are refused whatever the flags, and the source-specific range."""
    text = address.format(dialect=None).lower()
    first = ipaddress.ip_address(text).exploded
    specific = first[2] == "3" and first[5:9] == "0000"
    assert _accepted(address) == (first[3] not in "012f" and not specific)


def _accepted(address: IPAddress) -> bool:
    try:
        return groups.check_group(address) == address
    except ValueError:
        return False


@pytest.mark.parametrize(
    "group",
    ["224.0.0.0", "224.0.0.255", "232.0.0.0", "232.255.255.255", "223.255.255.255", "240.0.0.0",
     "10.0.0.1", "ff01::1", "ff02::1", "ff12::1", "ff00::1", "ff0f::1", "ff35::1", "fe80::1",
     "fd00::1"],
)  # fmt: skip
def test_what_cannot_be_a_group_is_refused(group: str) -> None:
    """Reserved addresses and addresses just outside multicast are refused."""
    with pytest.raises(ValueError, match=group):
        groups.check_group(IPAddress(group))


@pytest.mark.parametrize(
    "group",
    ["224.0.1.0", "231.255.255.255", "233.0.0.0", "239.255.255.255", "ff03::1", "ff05::1",
     "ff0e::1", "ff18::1", "ff35:40:fd00::1"],
)  # fmt: skip
def test_what_can_be_a_group_is_accepted(group: str) -> None:
    """Addresses just inside the usable ranges are accepted."""
    assert groups.check_group(IPAddress(group)) == IPAddress(group)


@given(st.integers(1, (1 << 24) - 1), st.integers(12, 32), st.integers(0, (1 << 24) - 1))
def test_the_group_of_a_segment_is_in_its_pool(vni: int, bits: int, low: int) -> None:
    """The group is network + (VNI mod size), so it is in the pool, and each size in turn."""
    pool = IPNetwork(f"{IPAddress(0xEF000000 | low)}/{bits}").cidr
    group = groups.group_of(vni, pool)
    assert group in pool
    assert int(group) == pool.first + vni % (1 << (32 - bits))
    assert groups.group_of(vni + pool.size, pool) == group


def test_the_group_of_a_segment_in_an_ipv6_pool() -> None:
    """A pool may be far larger than the number of VNIs; the group has its family."""
    group = groups.group_of(0xFFFFFF, groups.parse_pool("ff05::/16"))
    assert str(group) == "ff05::ff:ffff"
    assert groups.group_of(1, IPNetwork("ff05::/128")).version == 6


@pytest.mark.parametrize("pool", ["239.1.0.0/20", "239.0.0.0/8", "239.1.2.3/32", "225.0.0.0/8",
                                  "ff05::/16", "ff05::/112", "ff3e:40:fd00::/96"])  # fmt: skip
def test_a_pool_is_a_network_of_groups(pool: str) -> None:
    """A network that is wholly multicast without reserved groups is a valid pool."""
    assert str(groups.parse_pool(pool)) == pool


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("239.1.0.1/20", "239.1.0.0/20"),
        ("10.0.0.0/8", "not multicast"),
        ("224.0.0.0/3", "not multicast"),
        ("224.0.0.0/4", "reserved"),
        ("224.0.0.0/23", "reserved"),
        ("224.0.0.128/25", "reserved"),
        ("232.0.0.0/5", "reserved"),
        ("232.1.0.0/16", "reserved"),
        ("ff00::/8", "several scopes"),
        ("ff00::/15", "several scopes"),
        ("ff02::/16", "link"),
        ("ff01::/64", "interface"),
        ("ff35::/16", "source-specific"),
        ("239.1.0.0", "not a network"),
        ("239.1.0.0/33", "not a network"),
        ("nonsense/8", "not a network"),
        ("", "not a network"),
        (239, "not a network"),
        (None, "not a network"),
        (True, "not a network"),
    ],
)
def test_what_cannot_be_a_pool_is_refused(pool: object, why: str) -> None:
    """A refusal names the mistake and, for host bits, the network."""
    with pytest.raises(ValueError, match=why):
        groups.parse_pool(pool)


@pytest.mark.parametrize("value", [None, 1, True, 0xEF000001, "", "239.0.0", "239.0.0.256", "::g",
                                   "239.0.0.1/32", " 239.0.0.1", "eth0", b"239.0.0.1"])  # fmt: skip
def test_what_is_not_an_address_in_text_is_refused(value: object) -> None:
    """Numbers, networks, abbreviations and names are not addresses."""
    with pytest.raises(ValueError, match="is not an IP address"):
        groups.parse_address(value)


@pytest.mark.parametrize(
    ("group", "mac"),
    [
        ("239.0.0.1", "01:00:5e:00:00:01"),
        ("239.128.0.1", "01:00:5e:00:00:01"),
        ("224.127.255.255", "01:00:5e:7f:ff:ff"),
        ("ff05::1", "33:33:00:00:00:01"),
        ("ff05::1:2:ff03:4", "33:33:ff:03:00:04"),
    ],
)
def test_the_ethernet_address_of_a_group(group: str, mac: str) -> None:
    """The low 23 bits of an IPv4 group, the low 32 of an IPv6 one."""
    assert groups.ethernet_of(IPAddress(group)) == mac


@given(V4_GROUPS)
def test_thirty_two_ipv4_groups_share_an_ethernet_address(group: IPAddress) -> None:
    """Groups that differ in the five bits that are lost have the same Ethernet address."""
    low = int(group) & 0x7FFFFF
    same = [IPAddress(0xE0000000 | high << 23 | low, 4) for high in range(32)]
    assert {groups.ethernet_of(other) for other in same} == {groups.ethernet_of(group)}
    [(mac, members)] = groups.ethernet_aliases(same)
    assert (mac, members) == (groups.ethernet_of(group), same)


@given(st.lists(V4_GROUPS | V6_GROUPS, max_size=8))
def test_aliases_are_groups_of_one_ethernet_address(some: list[IPAddress]) -> None:
    """Aliases are two or more groups, each reported once; a single group never is."""
    found = groups.ethernet_aliases([*some, *some])
    for mac, members in found:
        assert len(members) == len(set(members)) > 1
        assert {groups.ethernet_of(member) for member in members} == {mac}
    reported = {member for _, members in found for member in members}
    alone = [groups.ethernet_of(group) for group in set(some) - reported]
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize(
    "vtep",
    ["0.0.0.0", "127.0.0.1", "127.9.9.9", "239.0.0.1", "255.255.255.255", "::", "::1", "ff05::1",
     "fe80::1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_what_cannot_be_an_outer_source_is_refused(vtep: str) -> None:
    """No host can answer to a group, broadcast, loopback, link-local, mapped or unset one."""
    with pytest.raises(ValueError, match=vtep):
        groups.check_vtep(IPAddress(vtep))


@pytest.mark.parametrize("vtep", ["10.0.0.1", "192.0.2.1", "169.254.0.1", "fd00::1", "2001:db8::1"])
def test_a_unicast_address_can_be_an_outer_source(vtep: str) -> None:
    """Private, public and IPv4 link-local addresses are fine."""
    assert groups.check_vtep(IPAddress(vtep)) == IPAddress(vtep)
