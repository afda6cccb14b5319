"""Sockets that hold groups: many at once, both families, and handed over without a leave."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest
from netaddr import IPAddress

from ovs_mcast.adapters.proc import joined
from ovs_mcast.core.frames import ETHERTYPE_IPV4, decode_ethernet
from ovs_mcast.errors import UnavailableError
from ovs_mcast.lab import Lab
from ovs_mcast.lab.namespace import wait_until
from ovs_mcast.membership.device_groups import DeviceGroups
from tests.functional.probing import call, holding, write

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def groups(first: str, number: int) -> list[IPAddress]:
    return [IPAddress(first) + n for n in range(number)]


def left(frame: bytes) -> str | None:
    """The group that an IGMPv2 leave names (RFC 2236, 2), as hosts send to an IGMPv2 querier."""
    outer = decode_ethernet(frame)
    if outer is None or outer.ethertype != ETHERTYPE_IPV4 or outer.payload[9] != 2:
        return None
    igmp = outer.payload[(outer.payload[0] & 0xF) * 4 :]
    return str(IPv4Address(igmp[4:8])) if igmp[0] == 0x17 else None


@pytest.mark.parametrize("first", ["239.1.0.0", "ff05::1:0"])
def test_every_segment_of_a_host_in_well_under_a_second(lab: Lab, first: str) -> None:
    """4,094 groups are joined, confirmed by /proc and released one by one, with no sysctl changed.

    l1 (4,094 groups) ─ switch
    """
    wanted = groups(first, 4094)

    def join_and_leave() -> tuple[float, int, int, int]:
        with DeviceGroups("eth0") as held:
            begun = time.monotonic()
            held.join(wanted)
            held.join(wanted[:100])  # again: nothing to do
            seconds = time.monotonic() - begun
            before = len(joined("eth0") & set(map(str, wanted)))
            held.leave(wanted[1:])
            left = joined("eth0") & set(map(str, wanted))
            return seconds, before, len(left), len(held.groups)

    host = lab.add_linux_host(addresses=["10.0.0.1/24", "fd00::1/64"])
    write(host, "ipv4/igmp_max_memberships", 20)  # the kernel's default; the lab's hosts have more
    seconds, before, left, held = call(host, join_and_leave)
    assert (before, left, held) == (4094, 1, 1)
    assert seconds < 3


def test_a_handover_sends_no_leave(lab: Lab) -> None:
    """The successor joins before the predecessor leaves: the switch sees one leave, at the end.

    l1 (two holders, one after the other) ─ switch
    """
    group, mark = "239.0.0.1", "239.0.0.99"
    host = lab.add_linux_host()

    def known(group: str) -> None:
        wait_until(lambda: lab.switch.members(group) == {host.name}, "never joined", timeout=5)

    with ExitStack() as later, lab.capture(lab.switch, host.name, left) as leaves:
        with holding(host, group):
            known(group)
            later.enter_context(holding(host, group))
        # A leave would be told before this.
        with holding(host, mark):
            known(mark)
        assert leaves.wait() == [mark]
        later.close()
        assert leaves.wait(2) == [mark, group]


def test_room_is_found_where_the_sysctl_leaves_less(lab: Lab) -> None:
    """With three memberships a socket, more sockets do; with none, the error names the sysctl.

    l1 (igmp_max_memberships 3, then 0) ─ switch
    """
    host = lab.add_linux_host()

    def join(number: int) -> int:
        with DeviceGroups("eth0") as held:
            held.join(groups("239.1.0.0", number))
            return len([one for one in joined("eth0") if one.startswith("239.1.")])

    write(host, "ipv4/igmp_max_memberships", 3)
    assert call(host, join, 10) == 10
    write(host, "ipv4/igmp_max_memberships", 0)
    with pytest.raises(UnavailableError, match="igmp_max_memberships"):
        call(host, join, 1)


def test_a_device_that_is_not_there(lab: Lab) -> None:
    """A missing device is an error; a removed one ends its memberships, and leaving is none.

    l1 (a cable that is pulled out) ─ switch
    """
    host = lab.add_linux_host()

    def join_on(device: str) -> None:
        with DeviceGroups(device) as held:
            held.join(groups("239.1.0.0", 30))
            subprocess.run(["ip", "link", "del", device], check=True)
            held.leave(groups("239.1.0.0", 30))
            assert held.groups == frozenset()

    with pytest.raises(UnavailableError, match="there is no device nosuch"):
        call(host, join_on, "nosuch")
    host.run(*["ip", "link", "add", "cable", "type", "veth", "peer", "name", "other"])
    call(host, join_on, "cable")
