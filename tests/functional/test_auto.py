"""The membership `auto`: autojoin is tried, and kept only where packets show it harmless.

h1 (the host under test) ─ switch ─ l1: what arrives
"""

from __future__ import annotations

import pytest

from ovs_mcast.lab import Lab
from tests.functional.membership_lab import BASE, GROUP, Net, addresses, joined_by, keepers
from tests.functional.node import Node
from tests.functional.programs import AddressEvents
from tests.functional.wire import frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

AUTO = "--membership=auto"


@pytest.mark.either_datapath
def test_auto_tries_autojoin_finds_it_hijacked_and_falls_back(net: Net, either: Node) -> None:
    """The trial's evidence is in report, log and OVSDB; sockets hold; sends are on the wire.

    h1 (auto): autojoin, seen on lo, taken away; then sockets ─ switch ─ l1 (hears, and is heard)
    """
    device = either.host.underlay
    result = either.built(*BASE, AUTO, "-v")
    decision = result.report["decision"]
    route = f"local {GROUP} dev {device} in table local"
    assert (decision["method"], decision["underlay"]) == ("socket", f"{device} IPv4")
    assert f"autojoin of {GROUP}: an ordinary datagram reaches loopback" in decision["evidence"]
    assert route in decision["evidence"]
    assert f"auto: socket: {decision['evidence']}" in " ".join(result.stderr.split())
    for name, value in {
        "membership": "socket",
        "underlay": f'"{device} IPv4"',
        "evidence": f'"{decision["evidence"]}"',
    }.items():
        said = either.host.vsctl("get", "bridge", "br-mcast", f"external_ids:ovs-mcast-{name}")
        assert said.strip() == value
    assert joined_by(result) == {("socket", "wire")}
    assert "autojoin" not in addresses(either)
    assert len(keepers(either)) == 1
    assert net.sent(either) == {"wire"}
    assert net.hears(either)


# Hook output: what this host's programs send, and the kernel's tunnels.
FILTER = (
    "add table ip t; add chain ip t out { type filter hook output priority 0; };"
    " add rule ip t out ip daddr 224.0.0.0/4 udp dport != 4789 drop"
)


@pytest.mark.needs("nft")
def test_a_trial_that_goes_nowhere_is_a_fault(either: Node) -> None:
    """A packet filter takes the trial's datagram: exit 3 with the cause, and nothing is decided.

    h1 (auto; nftables drops what is sent to groups, and then no more) ─ switch
    """
    either.sh(f"nft '{FILTER}'")
    try:
        refused = either.setup(*BASE, AUTO)
        assert refused.status == 3, refused.stderr
        assert f"datagram to {GROUP} does not leave by {either.host.underlay}" in refused.problems
        assert "a packet filter of this host refuses it" in refused.problems
        assert refused.report["decision"] is None
    finally:
        either.sh("nft flush ruleset")
    decision = either.built(*BASE, AUTO).report["decision"]
    assert decision["method"] == "socket"


def test_auto_decides_once(either: Node) -> None:
    """A second run tries nothing again: rtnetlink reports no event, and nothing changes.

    h1 (auto, auto) ─ switch
    """
    events = AddressEvents(either.host)
    first = either.built(*BASE, AUTO)
    assert events.number() > 0
    again = either.built(*BASE, AUTO)
    assert events.number() == 0
    events.close()
    assert (again.report["changed"], again.report["decision"]) == (False, first.report["decision"])


def test_auto_decides_anew_for_another_device(system: Node) -> None:
    """The decision is one for a device: it is made again, and kept again, for the next one.

    h1 (auto on eth0, then on eth1) ─ switch
    """
    system.sh("ip link add eth1 type veth peer name far; ip link set eth1 up; ip link set far up")
    system.sh("ip address add 10.9.0.1/24 dev eth1")
    try:
        system.built(*BASE, AUTO)
        moved = system.built(*BASE, AUTO, "--underlay=eth1")
        assert moved.report["decision"]["underlay"] == "eth1 IPv4"
        assert f"local {GROUP} dev eth1" in moved.report["decision"]["evidence"]
        assert joined_by(moved) == {("socket", "wire")}
        assert system.built(*BASE, AUTO, "--underlay=eth1").report["changed"] is False
        system.torn_down()
    finally:
        system.sh("ip link del eth1")


@pytest.mark.parametrize("method", ["repaired", "peer", "autojoin"])
def test_auto_takes_nothing_repaired_for_evidence(system: Node, method: str) -> None:
    """Groups that are addresses already are no trial: another is tried, and taken away.

    h1 (repaired, peer or autojoin; then auto) ─ switch
    """
    system.built(*BASE, f"--membership={method}")
    result = system.built(*BASE, AUTO)
    assert result.report["decision"]["method"] == "socket"
    assert "reaches loopback" in result.report["decision"]["evidence"]
    assert "inet 239." not in addresses(system)
    assert "peer" not in addresses(system)


def test_auto_on_the_userspace_datapath_tunnels_both_ways(lab: Lab) -> None:
    """Broadcast from each side apart is heard by the other, and ordinary sends are on the wire.

    workload ─ h1 (netdev, auto) ─ switch ─ l1 (Linux vxlan) ─ workload
    """
    host, l1 = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), l1.add_segment(vni=100, group=GROUP)
    run = host.setup(f"--segment=100,group={GROUP}")
    assert run.report["decision"]["method"] == "socket"
    wait_for_members(lab, GROUP, {host.name, l1.name})
    out, back = frame(here.mac), frame(there.mac)
    with hears(lab, here) as heard_here, hears(lab, there) as heard_there:
        here.send(out)
        assert heard_there.wait(1) == [out]
        there.send(back)
        assert heard_here.wait(2) == [out, back]
