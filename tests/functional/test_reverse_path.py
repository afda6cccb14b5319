"""The reverse-path filter drops what a peer sends to the group: a warning that names the sysctl.

h1 (kernel's datapath, rp_filter) ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

import pytest

from ovs_mcast.lab import Host, Kind, Lab, Workload
from tests.functional.wire import GROUP_1, frame, hears, wait_for_members

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.either_datapath,
]

SEGMENT = f"--segment=100,group={GROUP_1}"


def is_heard(lab: Lab, here: Workload, there: Workload) -> bool:
    """Whether of three broadcasts all arrive, or none."""
    sent = [frame(there.mac) for _ in range(3)]
    with hears(lab, here) as heard:
        for each in sent:
            there.send(each)
        seen = heard.wait(3, timeout=1)
    assert seen in ([], sent)
    return bool(seen)


def warned(host: Host) -> list[str]:
    """The warnings about the filter; they leave the overlay verified."""
    done = host.setup(SEGMENT)
    return [one for one in done.report["problems"] if "rp_filter" in one]


def set_filter(host: Host, value: int) -> None:
    for conf in ("all", host.underlay):
        host.run("sysctl", "-qw", f"net.ipv4.conf.{conf}.rp_filter={value}")


@pytest.mark.parametrize(("value", "strict"), [(1, True), (2, False)])
def test_peers_of_the_subnet_that_is_routed_elsewhere(
    lab: Lab, kind: Kind, value: int, strict: bool
) -> None:
    """Strict, the filter drops all peers, and the device of the route is named; loose, none.

    h1 (10.0.0.0/24 dev br-int) ─ switch ─ l1 (10.0.0.2, broadcasts)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    set_filter(host, 0)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    host.run("ip", "link", "set", "br-int", "up")
    host.run("ip", "route", "replace", "10.0.0.0/24", "dev", "br-int")
    set_filter(host, value)
    dropped = strict and kind == "kernel"
    assert is_heard(lab, here, there) != dropped
    said = warned(host)
    assert bool(said) == dropped
    for one in said:
        assert (
            "packets of hosts of 10.0.0.0/24 are dropped by net.ipv4.conf.eth0.rp_filter=1" in one
        )
        assert "leaves by br-int" in one


def test_peers_of_another_subnet_without_a_route(lab: Lab, kind: Kind) -> None:
    """Loose, the filter drops a peer that no route leads to: said once packets were dropped.

    h1 (no default route, rp_filter 2) ─ switch ─ l1 (10.2.0.1, broadcasts)
    """
    host, peer = lab.add_host(), lab.add_linux_host(addresses=("10.2.0.1/24",))
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    set_filter(host, 2)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    assert warned(host) == []
    assert is_heard(lab, here, there) == (kind != "kernel")
    said = warned(host)
    assert bool(said) == (kind == "kernel")
    for one in said:
        assert "packets of hosts outside of 10.0.0.0/24 are dropped by" in one
        assert "no route leads back" in one
