"""A peer whose broadcasts are heard, and which unicast does not reach: no route, or a low TTL.

h1 (setup) ─ switch ─ l1 (Linux vxlan, in another subnet on the same wire)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ovs_mcast.lab import Host, Lab, Workload
from tests.functional.test_status import status
from tests.functional.wire import GROUP_1, eventually, frame, hears, learned, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SEGMENT = f"--segment=100,group={GROUP_1}"
FAR, GATEWAY = "10.2.0.1", "10.0.0.254"


def hear(lab: Lab, here: Workload, there: Workload) -> None:
    """Let a workload of the peer broadcast until it is heard here, which teaches its VTEP."""
    with hears(lab, here) as heard:
        sent = frame(there.mac)
        there.send(sent)
        assert heard.wait(1) == [sent]


@contextmanager
def far_peer(lab: Lab, *options: str) -> Iterator[tuple[Host, Workload, Workload]]:
    """A host, its workload, and that of a peer in another subnet."""
    host, peer = lab.add_host(), lab.add_linux_host(addresses=(f"{FAR}/24",))
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    for conf in ("all", host.underlay):
        host.run("sysctl", "-qw", f"net.ipv4.conf.{conf}.rp_filter=0")
    assert host.setup(SEGMENT, *options).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    hear(lab, here, there)
    yield host, here, there


@pytest.mark.either_datapath
def test_a_peer_without_a_route_is_named(lab: Lab) -> None:
    """Setup and status name the peer that no route leads to; with a route all is well.

    h1 (10.0.0.1, no default route) ─ switch ─ l1 (10.2.0.1)
    """
    with far_peer(lab) as (host, here, there):
        problem = f"no route from {host.vtep} to peer {FAR}: no unicast leaves"
        done = host.setup(SEGMENT)
        assert (done.status, done.report["changed"]) == (3, False)
        assert [problem in one for one in done.report["problems"]] == [True]
        seen = status(host)
        assert seen.returncode == 3
        assert problem in " ".join(seen.stdout.split())

        host.run("ip", "address", "add", "10.2.0.9/24", "dev", host.underlay)
        lab.linux_hosts[0].run("ip", "route", "add", f"{host.vtep}/32", "dev", "eth0")
        assert eventually(lambda: host.setup(SEGMENT).status == 0)
        answer = frame(here.mac, there.mac)
        with hears(lab, there) as heard:
            assert eventually(lambda: _arrives(here, answer, heard.seen))


def _arrives(sender: Workload, sent: bytes, seen: Callable[[float], list[bytes]]) -> bool:
    sender.send(sent)
    return sent in seen(0.2)


@pytest.mark.either_datapath
def test_a_peer_beyond_the_ttl_is_named(lab: Lab) -> None:
    """With TTL 1 a peer behind a gateway is a problem that names both; with TTL 2 it is none.

    h1 (route to 10.2.0.0/24 via 10.0.0.254) ─ switch ─ l1 (10.2.0.1)
    """
    with far_peer(lab, "--ttl=1") as (host, _here, _there):
        host.run("ip", "route", "add", "10.2.0.0/24", "via", GATEWAY, "dev", host.underlay)
        problem = f"peer {FAR} behind gateway {GATEWAY}, where packets of TTL 1 end"
        done = host.setup(SEGMENT, "--ttl=1")
        assert done.status == 3
        assert [problem in one for one in done.report["problems"]] == [True]
        assert "raise underlay.ttl" in done.report["problems"][0]

        done = host.setup(SEGMENT, "--ttl=2")
        assert (done.status, done.report["problems"]) == (0, [])


def test_the_first_unicast_by_a_gateway_arrives(lab: Lab) -> None:
    """Setup has resolved the gateway, and the userspace datapath loses no frame to ask for it.

    h1 (10.2.0.0/24 via l2) ─ switch ─ l2 (router, 10.0.0.254), l1 (10.2.0.1)
    """
    host, peer = lab.add_host(), lab.add_linux_host(addresses=(f"{FAR}/24",))
    router = lab.add_linux_host(addresses=(f"{GATEWAY}/24",))
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    router.run("ip", "route", "add", "10.2.0.0/24", "dev", "eth0")
    peer.run("ip", "route", "add", f"{GATEWAY}/32", "dev", "eth0")
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    host.run("ip", "route", "add", "default", "via", GATEWAY, "dev", host.underlay)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    hear(lab, here, there)
    with hears(lab, there) as heard:
        sent = [frame(here.mac, there.mac) for _ in range(5)]
        for each in sent:
            here.send(each)
        assert heard.wait(5) == sent


def test_a_vtep_without_its_subnet_is_named(lab: Lab) -> None:
    """Open vSwitch takes no route for a /32: broadcasts are heard, and unicast does not leave.

    h1 (10.0.0.1/32, route to 10.0.0.0/24) ─ switch ─ l1 (10.0.0.2)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    for command in (
        f"address delete {host.vtep}/24 dev br-phy",
        f"address add {host.vtep}/32 dev br-phy",
        f"route add 10.0.0.0/24 dev br-phy src {host.vtep}",
    ):
        host.run("ip", *command.split())
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    hear(lab, here, there)
    assert there.mac in learned(host, 100)
    done = host.setup(SEGMENT)
    assert done.status == 3
    [problem] = done.report["problems"]
    assert f"no route from {host.vtep} to peer {peer.vtep}" in problem
    assert f"{host.vtep} must have the prefix length of its subnet" in problem
