"""Hosts join groups by each method, with its effect on ordinary programs' sends.

h1 (the host under test) ─ switch: what h1 says of its memberships ─ l1: what arrives
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.functional.membership_lab import (
    BASE,
    BASE_6,
    GROUP,
    GROUP_6,
    Net,
    addresses,
    joined_by,
    keepers,
    local_routes,
    members,
)
from tests.functional.node import Node, difference
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

METHODS = {
    "autojoin": {("autojoin", "loopback")},
    "repaired": {("repaired", "wire")},
    "peer": {("peer", "wire")},
    "socket": {("socket", "wire")},
}
ON_NETDEV = ("autojoin", "repaired", "socket")


# Each method


@pytest.mark.either_datapath
@pytest.mark.parametrize("method", METHODS)
def test_a_method_where_the_kernel_joins_and_sends(net: Net, system: Node, method: str) -> None:
    """Each method joins, sends and receives; the report names where ordinary sends really go.

    h1 (kernel) ─ switch ─ l1 (captures; sends)
    """
    result = system.built(*BASE, f"--membership={method}")
    assert joined_by(result) == METHODS[method]
    assert {GROUP, "239.0.0.2"} <= members(system)
    assert net.sent(system) == ({"lo"} if method == "autojoin" else {"wire"})
    assert net.hears(system)
    assert len(keepers(system)) == (method == "socket")
    assert bool(local_routes(system)) == (method == "autojoin")
    assert system.built(*BASE, f"--membership={method}").report["changed"] is False


@pytest.mark.parametrize("method", ON_NETDEV)
def test_a_method_on_the_userspace_datapath(net: Net, netdev: Node, method: str) -> None:
    """The same on the LOCAL port of the bridge that holds the NIC.

    h1 (br-phy) ─ switch ─ l1 (captures; sends)
    """
    result = netdev.built(*BASE, f"--membership={method}")
    assert joined_by(result) == METHODS[method]
    assert {GROUP, "239.0.0.2"} <= members(netdev)
    assert net.sent(netdev) == ({"lo"} if method == "autojoin" else {"wire"})
    assert net.hears(netdev)
    assert len(keepers(netdev)) == (method == "socket")
    assert netdev.built(*BASE, f"--membership={method}").report["changed"] is False


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("fixture", "walk"),
    [
        ("system", "autojoin repaired peer socket autojoin peer repaired socket repaired autojoin "
                   "socket peer autojoin"),
        ("netdev", "autojoin repaired socket autojoin socket repaired autojoin"),
        ("ipv6", "repaired socket repaired"),
    ],
    ids=["system", "netdev", "ipv6"],
)  # fmt: skip
def test_no_change_of_method_leaves_a_group(
    net: Net, request: pytest.FixtureRequest, fixture: str, walk: str, version: int
) -> None:
    """No change from one method to another sends a leave on the wire.

    h1 (IGMPv2 or v3, MLDv1 or v2) ─ port of the switch: look here
    """
    node: Node = request.getfixturevalue(fixture)
    device = node.host.underlay
    force = f"/proc/sys/net/ipv4/conf/{device}/force_igmp_version"
    groups = ["239.0.7.1", "239.0.7.2"]
    if fixture == "ipv6":
        force = f"/proc/sys/net/ipv6/conf/{device}/force_mld_version"
        groups, version = ["ff05::8:1", "ff05::8:2"], version - 1
    node.sh(f"echo {version} >{force}")
    segments = [f"--segment={vni},group={group}" for vni, group in enumerate(groups, 100)]
    steps = walk.split()
    left = {}
    try:
        with net.membership_wire(node) as wire:
            node.built(*segments, f"--membership={steps[0]}")
            for group in groups:
                wire.wait_joined(group)
            assert wire.left() == []
            for before, after in pairwise(steps):
                node.built(*segments, f"--membership={after}")
                left[before, after] = wire.left()
            node.torn_down()
            assert set(wire.left()) == set(groups)
    finally:
        node.sh(f"echo 0 >{force}")
    assert {pair: groups for pair, groups in left.items() if groups} == {}


@pytest.mark.parametrize(
    ("fixture", "method", "segments", "field"),
    [
        ("netdev", "peer", BASE, "membership"),
        ("ipv6", "peer", BASE_6, "membership"),
        ("ipv6", "autojoin", BASE_6, "membership"),
        ("netdev", "autojoin", BASE_6, "membership"),
    ],
)
def test_what_cannot_be_is_refused(
    request: pytest.FixtureRequest, fixture: str, method: str, segments: tuple[str, ...], field: str
) -> None:
    """Exit status 2 with the field at fault, and nothing touched.

    h1 ─ switch
    """
    node: Node = request.getfixturevalue(fixture)
    before = node.state()
    result = node.setup(*segments, f"--membership={method}")
    assert result.status == 2
    assert result.problems.startswith(f"{field}: ")
    assert difference(before, node.state()) == []


# Without a process, and after the link was down


@pytest.mark.either_datapath
def test_peer_lives_on_without_a_process(net: Net, system: Node) -> None:
    """No keeper and no local route; the link goes down and up, and nothing needs a repair.

    h1 (peer; eth0 down, up) ─ switch ─ l1
    """
    system.built(*BASE, "--membership=peer")
    system.sh("ip link set eth0 down; ip link set eth0 up")
    again = system.built(*BASE, "--membership=peer")
    assert again.report["changed"] is False
    assert keepers(system) == {}
    assert local_routes(system) == ""
    assert net.sent(system) == {"wire"}
    assert net.hears(system)


@pytest.mark.either_datapath
@pytest.mark.parametrize("method", ["repaired", "socket"])
def test_what_the_link_took_is_put_back(net: Net, either: Node, method: str) -> None:
    """After the link was down --dry-run lists the lost routes, and the next run restores them.

    h1 (underlay down, up) ─ switch ─ l1
    """
    device = either.host.underlay
    either.built(*BASE, f"--membership={method}")
    before = keepers(either).keys()
    either.sh(f"ip link set {device} down; ip link set {device} up")
    missed = either.setup(*BASE, f"--membership={method}", "--dry-run")
    assert missed.status == 4
    groups = (GROUP, "239.0.0.2")
    routes = {f"add route {group} dev {device}{either.source}" for group in groups}
    back = {f"remove route local {group} dev {device} table local" for group in groups}
    made_local = method == "repaired" or either.host.kind == "netdev"
    assert set(missed.changes) == routes | (back if made_local else set())
    assert bool(local_routes(either)) == made_local
    assert either.built(*BASE, f"--membership={method}").changes == missed.changes
    assert net.sent(either) == {"wire"}
    assert net.hears(either)
    assert keepers(either).keys() == before


# Limits


def many(number: int) -> tuple[str, ...]:
    return tuple(f"--segment={vni},group=239.3.0.{vni}" for vni in range(1, number + 1))


@pytest.mark.parametrize("method", ["autojoin", "repaired", "peer"])
def test_one_group_too_many_is_foreseen(system: Node, method: str) -> None:
    """With 20 groups joined, one by another program, the 21st is refused beforehand.

    h1: 239.77.0.1 by an autojoin of somebody else's, 19 groups of ours, and one more
    """
    system.sh("ip address add 239.77.0.1/32 dev lo scope host autojoin")
    system.built(*many(19), f"--membership={method}")
    before = system.state()
    result = system.setup(*many(20), f"--membership={method}")
    assert result.status == 2
    assert "net.ipv4.igmp_max_memberships=21" in result.problems
    assert "--membership socket" in result.problems
    assert result.problems.startswith("segments: ")
    assert difference(before, system.state()) == []
    assert joined_by(system.built(*many(25), "--membership=socket")) == {("socket", "wire")}
    assert len([g for g in members(system) if g.startswith("239.3.0.")]) == 25
    system.torn_down()
    system.sh("ip address del 239.77.0.1/32 dev lo")


def test_a_refusal_in_the_middle_is_finished_by_the_next_run(net: Net) -> None:
    """A leaked slot, which no counting sees: exit 1 with the cure; each of the cures finishes.

    h1: 239.77.0.1 on a device that was removed; 20 groups of ours
    """
    node = net.node("dummy")
    node.sh("ip link add gone type veth peer name far; ip link set gone up")
    node.sh("ip address add 239.77.0.1/32 dev gone scope host autojoin; ip link del gone")
    failed = node.setup(*many(20), "--membership=repaired")
    assert failed.status == 1
    assert "net.ipv4.igmp_max_memberships" in failed.problems
    assert node.setup(*many(20), "--membership=repaired", "--dry-run").status == 4
    assert joined_by(node.built(*many(20), "--membership=socket")) == {("socket", "wire")}
    node.sh("echo 21 >/proc/sys/net/ipv4/igmp_max_memberships")
    assert joined_by(node.built(*many(20), "--membership=repaired")) == {("repaired", "wire")}
    assert keepers(node) == {}
    node.torn_down()
    assert not [group for group in members(node) if group.startswith("239.3.0.")]


def test_every_group_that_there_can_be_joins_by_sockets(net: Net, tmp_path: Path) -> None:
    """4,094 segments with a group each: 205 sockets in one process, the second run finds all.

    h1 (205 sockets) ─ switch
    """
    node = net.node("dummy")
    config = tmp_path / "overlay.json"
    segments = ", ".join(f"{{vni: {vni}}}" for vni in range(1, 4095))
    config.write_text(
        "{membership: socket, underlay: {device: eth0}, groups: 239.16.0.0/16, "
        f"segments: [{segments}]}}"
    )
    result = node.built(f"--config={config}")
    assert len([group for group in members(node) if group.startswith("239.16.")]) == 4094
    [(pid, directory)] = keepers(node).items()
    sockets = [path for path in (directory / "fd").iterdir() if "socket" in str(path.readlink())]
    assert len(sockets) == 205 + 1  # and the one that listens
    again = node.built(f"--config={config}")
    assert again.report["changed"] is False
    assert set(keepers(node)) == {pid}
    print(f"4,094 groups: {result.seconds:.1f} s, again {again.seconds:.1f} s")


# IPv6


@pytest.mark.parametrize("method", ["repaired", "socket", "auto"])
def test_ipv6_groups(net: Net, ipv6: Node, method: str) -> None:
    """The kernel has joined, and after duplicate address detection sends still reach the wire.

    h1 (fd00::, ff05::7:1) ─ switch ─ l1
    """
    result = ipv6.built(*BASE_6, f"--membership={method}")
    used = "socket" if method == "auto" else method
    assert joined_by(result) == {(used, "wire")}
    if method == "auto":
        assert "reaches loopback" in result.report["decision"]["evidence"]
        assert result.report["decision"]["underlay"] == "eth0 IPv6"
    assert GROUP_6 in members(ipv6)
    assert eventually(lambda: "tentative" not in addresses(ipv6))
    assert local_routes(ipv6, GROUP_6) == ""
    assert net.sent(ipv6, GROUP_6) == {"wire"}
    assert ipv6.built(*BASE_6, f"--membership={method}").report["changed"] is False


def test_ipv6_groups_leave_by_the_underlay_where_others_have_ipv6_too(net: Net) -> None:
    """All sends use the underlay device although another device's ff00::/8 came first.

    h1 (eth1 has IPv6, then eth0 has) ─ eth0: switch ─ l1
    """
    node = net.node("dummy", addresses=("fd00::77/64",))
    node.sh(
        "ip link set eth0 down; echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6;"
        "ip link add eth1 type veth peer name far; ip link set far up; ip link set eth1 up;"
        "ip address add fd01::1/64 dev eth1 nodad"
    )
    assert eventually(lambda: "ff00::/8 dev eth1" in node.sh("ip -6 route show table local"))
    node.sh("ip link set eth0 up; ip address replace fd00::77/64 dev eth0 nodad")
    assert eventually(lambda: "ff00::/8 dev eth0" in node.sh("ip -6 route show table local"))
    for method in ("repaired", "socket"):
        assert joined_by(node.built(*BASE_6, f"--membership={method}")) == {(method, "wire")}
        assert net.sent(node, GROUP_6) == {"wire"}
    node.torn_down()
    assert "dev eth1" in node.sh(f"ip -6 route get {GROUP_6}")
