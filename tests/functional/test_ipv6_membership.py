"""IPv6 groups are joined by each method, and the addresses that this needs are checked.

h1 (repaired), h2 (socket): Open vSwitch ─┐          VNI 100 in ff05::7:1
                                          ├─ switch  VNI 101 in ff05::7:2
l1, l2: Linux vxlan ──────────────────────┘          (snoops MLD)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ovs_mcast.core.frames import (
    decode_udp,
)
from ovs_mcast.lab import Kind, Workload
from tests.functional.ipv6_lab import (
    GROUP,
    GROUP_MAC,
    NAMES,
    ONE,
    OTHER,
    SEGMENTS,
    Six,
    outer,
)
from tests.functional.membership_lab import joined_by, keepers, local_routes, members
from tests.functional.node import Node, difference
from tests.functional.programs import Program
from tests.functional.wire import (
    eventually,
    frame,
    hears,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.ipv6_fixtures", "tests.functional.node_fixtures")


@pytest.fixture
def node(six: Six) -> Iterator[Node]:
    """A further host with Open vSwitch, torn down at the end."""
    yield from _lent(six)


@pytest.fixture(params=["netdev", "dummy"])
def either(request: pytest.FixtureRequest, six: Six) -> Iterator[Node]:
    """The same with the groups on br-phy, and on eth0, for what needs no tunnel's packets."""
    yield from _lent(six, request.param)


def _lent(six: Six, kind: Kind | None = None) -> Iterator[Node]:
    node = Node(six.lab.add_host(kind=kind), six.warm)
    yield node
    node.torn_down()
    six.lab.switch.run("ip", "link", "del", node.host.name)


@pytest.mark.either_datapath
def test_auto_finds_autojoin_hijacked_and_sockets_tunnel_both_ways(six: Six, node: Node) -> None:
    """`auto` captures its packets on lo and chooses sockets; broadcast passes in both directions.

    h… (auto) ─ switch ─ h1, h2, l1, l2
    """
    here, device = node.host.add_workload(vlan=100), node.host.underlay
    result = node.built(*ONE, "--membership=auto")
    decision = result.report["decision"]
    assert (decision["method"], decision["underlay"]) == ("socket", f"{device} IPv6")
    assert "an ordinary datagram reaches loopback: local ff05::7:" in decision["evidence"]
    assert joined_by(result) == {("socket", "wire")}
    assert len(keepers(node)) == 1
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    assert_heard_both_ways(six, here)
    again = node.built(*ONE, "--membership=auto")
    assert (again.report["changed"], again.report["decision"]) == (False, decision)


def assert_heard_both_ways(six: Six, here: Workload) -> None:
    """A broadcast from here is heard by the four others, and one from each of them here."""
    with ExitStack() as stack:
        heard = {name: stack.enter_context(hears(six.lab, six[name, 100])) for name in NAMES}
        own = stack.enter_context(hears(six.lab, here))
        out = frame(here.mac)
        here.send(out)
        for name in NAMES:
            assert heard[name].wait(1) == [out], name
        sent = [out]
        for name in NAMES:
            sent.append(frame(six[name, 100].mac))
            six[name, 100].send(sent[-1])
            assert own.wait(len(sent)) == sent, name


@pytest.mark.parametrize("method", ["repaired", "socket", "auto"])
def test_teardown_gives_the_host_back(six: Six, either: Node, method: str) -> None:
    """The whole host is compared: links, addresses, routes, memberships, OVSDB, flows.

    h… (set up, torn down) ─ switch
    """
    assert eventually(lambda: "tentative" not in either.sh("ip address"))
    before = either.state()
    result = either.built(*SEGMENTS, f"--membership={method}")
    assert len(result.changes) == len(set(result.changes))  # nothing was made a second time
    assert {GROUP, OTHER} <= members(either)
    assert local_routes(either, GROUP) == ""
    assert sent_to_the_wire(six, either)
    assert either.built(*SEGMENTS, f"--membership={method}").report["changed"] is False
    either.torn_down()
    left = difference(before, either.state())
    assert [line for line in left if "link_resets" not in line] == []


def sent_to_the_wire(six: Six, node: Node) -> bool:
    """Return whether an ordinary program's datagram to the group appears at the host's port."""
    with (
        six.lab.capture(six.lab.switch, node.host.name, decode_udp) as wire,
        Program(node.host, family=6) as program,
    ):
        said = program.send(GROUP)
        return bool(wire.wait(where=lambda datagram: datagram.payload == said))


@pytest.mark.parametrize(
    "method", [pytest.param("repaired", marks=pytest.mark.either_datapath), "socket"]
)
def test_link_down_and_up_is_repaired_where_addresses_are_kept(
    six: Six, node: Node, method: str
) -> None:
    """With keep_addr_on_down the next run restores routes and broadcast in both directions.

    h… (underlay down, up; setup) ─ switch ─ h1, h2, l1, l2
    """
    device = node.host.underlay
    here = node.host.add_workload(vlan=100)
    node.sh(f"echo 1 >/proc/sys/net/ipv6/conf/{device}/keep_addr_on_down")
    node.built(*ONE, f"--membership={method}")
    node.sh(f"ip link set {device} down; ip link set {device} up")
    result = node.built(*ONE, f"--membership={method}")
    assert f"add route {GROUP} dev {device} table local{node.source}" in result.changes
    assert local_routes(node, GROUP) == ""
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    assert_heard_both_ways(six, here)


def test_an_address_that_the_kernel_dropped_is_said_to_be_lost(either: Node) -> None:
    """Without keep_addr_on_down the membership stays, and the kernel takes no such address again.

    h… (repaired; underlay down, up, the VTEP put back by hand; repaired, then socket)
    """
    device = either.host.underlay
    either.built(*ONE, "--membership=repaired")
    either.sh(
        f"ip link set {device} down; ip link set {device} up;"
        f"ip address replace {either.host.addresses[0]} dev {device} nodad"
    )
    result = either.setup(*ONE, "--membership=repaired")
    assert result.status == 1
    assert f"net.ipv6.conf.{device}.keep_addr_on_down=1" in result.problems
    if either.host.datapath == "system":  # where sockets need no address
        assert joined_by(either.built(*ONE, "--membership=socket")) == {("socket", "wire")}


@pytest.mark.parametrize("method", ["repaired", "socket"])
def test_setup_right_after_an_address_waits_for_its_detection(
    six: Six, either: Node, method: str
) -> None:
    """Setup waits for a tentative VTEP; its report is still true afterwards.

    h… (its VTEP is added, and at once set up) ─ switch
    """
    device = either.host.underlay
    either.sh(
        f"echo 1 >/proc/sys/net/ipv6/conf/{device}/accept_dad;"
        f"ip address add fd00::77/64 dev {device}; ip address show dev {device} | grep tentative"
    )
    result = either.built(*ONE, f"--membership={method}", "--vtep=fd00::77")
    assert joined_by(result) == {(method, "wire")}
    assert "tentative" not in either.sh(f"ip address show dev {device} to fd00::77")
    assert sent_to_the_wire(six, either)
    again = either.built(*ONE, f"--membership={method}", "--vtep=fd00::77")
    assert again.report["changed"] is False


def test_an_address_that_another_host_has_is_refused(six: Six, either: Node) -> None:
    """Detection has found the VTEP to be a duplicate: exit status 2, nothing touched.

    h… (wants fd00::3) ─ switch ─ l1 (has it)
    """
    device, taken = either.host.underlay, six.vteps["l1"]
    either.sh(f"echo 1 >/proc/sys/net/ipv6/conf/{device}/accept_dad")
    either.sh(f"ip address add {taken}/64 dev {device}")
    assert eventually(lambda: "dadfailed" in either.sh(f"ip address show dev {device}"))
    # The link-local address has a detection of its own.
    assert eventually(lambda: "scope link tentative" not in either.sh("ip address"))
    before = either.state()
    result = either.setup(*ONE, "--membership=socket", f"--vtep={taken}")
    assert result.status == 2
    assert result.problems.startswith(f"underlay.vtep: another host has {taken} too")
    assert difference(before, either.state()) == []


@pytest.mark.either_datapath
def test_the_source_is_the_vtep_whatever_other_addresses_there_are(six: Six, node: Node) -> None:
    """Both the group's packets and unicast leave from the VTEP, though another address is newer.

    h… (fd00::N, and fd00::aaaa added later) ─ switch ─ l1
    """
    here = node.host.add_workload(vlan=100)
    node.sh(f"ip address add fd00::aaaa/64 dev {node.host.underlay} nodad")
    node.built(*ONE, "--membership=repaired", f"--vtep={node.host.vtep}")
    wait_for_members(six.lab, GROUP, {*NAMES, node.host.name})
    out, back = frame(here.mac), frame(six["l1", 100].mac, here.mac)
    with (
        six.lab.capture(six.lab.switch, node.host.name, outer) as wire,
        hears(six.lab, here) as own,
        hears(six.lab, six["l1", 100]) as theirs,
    ):
        here.send(out)
        assert theirs.wait(1) == [out]
        six["l1", 100].send(back)
        assert own.wait(2) == [out, back]
        answer = frame(here.mac, six["l1", 100].mac)
        here.send(answer)
        assert theirs.wait(3) == [out, back, answer]
        seen = {each.packet.inner: each for each in wire.wait(3)}
    mine = node.host.vtep
    assert (seen[out].packet.source, seen[out].packet.destination) == (mine, GROUP)
    assert seen[back].packet.destination == mine
    assert (seen[answer].packet.source, seen[answer].right) == (mine, True)


def test_groups_that_share_an_ethernet_address_are_a_warning(node: Node) -> None:
    """ff05::7:1 and ff08::7:1 share the low 32 bits: a warning, with status 0.

    h… ─ switch
    """
    segments = (*ONE, "--segment=101,group=ff08::7:1")
    result = node.built(*segments, "--membership=socket")
    assert f"share the Ethernet address {GROUP_MAC}" in result.problems


def test_an_underlay_with_less_than_70_octets_more_is_a_warning(node: Node) -> None:
    """Outer IPv6 takes 20 octets more than IPv4: 1569 is too small an MTU, 1570 is not.

    h… (its underlay of MTU 1569, then 1570) ─ switch
    """
    for mtu in (1569, 1570):
        device = node.host.underlay
        if node.host.datapath == "netdev":
            node.host.vsctl("set", "interface", device, f"mtu_request={mtu}")
        else:
            node.sh(f"ip link set {device} mtu {mtu}")
        result = node.built(*ONE, "--membership=repaired")
        assert ("leaves the overlay 1499" in result.problems) == (mtu == 1569)
