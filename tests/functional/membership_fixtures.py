"""Fixtures: hosts that join groups, each in the state of a new host before and after a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_mcast.lab import Kind, Lab
from tests.functional.membership_lab import GROUP, Net, files, keepers, wait_for_port
from tests.functional.node import Node, State, difference, state
from tests.functional.programs import Program
from tests.functional.warm import Warm
from tests.functional.wire import eventually, lab_scope


@pytest.fixture(scope=lab_scope)
def net(warm: Warm, kind: Kind) -> Iterator[Net]:
    """The lab of all tests of memberships."""
    with Lab(kind=kind) as lab:
        l1 = lab.add_linux_host()
        with Program(l1).join(GROUP, "eth0"):
            wait_for_port(lab, GROUP, l1.name)
            yield Net(lab, warm, l1)


class Nodes:
    """A host of each kind, for tests that restore its state."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._new: dict[str, tuple[Node, State]] = {}

    def __getitem__(self, kind: str) -> tuple[Node, State]:
        if kind not in self._new:
            number = 101 + len(self._new)
            ipv4, ipv6 = f"10.0.0.{number}/24", f"fd00::{number}/64"
            addresses = (ipv6,) if kind == "ipv6" else (ipv4,)
            # Where the datapath under test is the userspace one, the kernel joins without frames.
            joins: Kind = "kernel" if self._net.lab.kind == "kernel" else "dummy"
            node = self._net.node("netdev" if kind == "netdev" else joins, addresses=addresses)
            # The link-local address of IPv6 is not steady before its duplicate address detection.
            assert eventually(lambda: "tentative" not in node.sh("ip address"))
            self._new[kind] = node, state(node.host)
        return self._new[kind]


@pytest.fixture(scope=lab_scope)
def nodes(net: Net) -> Nodes:
    """The hosts of that lab."""
    return Nodes(net)


def _lent(nodes: Nodes, kind: str) -> Iterator[Node]:
    node, pristine = nodes[kind]
    yield node
    for name in ("default", "other"):
        node.torn_down(name)
    assert keepers(node) == {}
    assert files(node) == []
    left = difference(pristine, state(node.host))
    assert [line for line in left if "link_resets" not in line] == []


@pytest.fixture
def system(nodes: Nodes) -> Iterator[Node]:
    """A host on which the kernel joins and sends: eth0, 10.0.0.101."""
    yield from _lent(nodes, "system")


@pytest.fixture
def ipv6(nodes: Nodes) -> Iterator[Node]:
    """The same with fd00::… on eth0."""
    yield from _lent(nodes, "ipv6")


@pytest.fixture
def netdev(nodes: Nodes) -> Iterator[Node]:
    """A host on the userspace datapath: br-phy, with eth0 as a port."""
    yield from _lent(nodes, "netdev")


@pytest.fixture(params=["system", "netdev"])
def either(request: pytest.FixtureRequest, nodes: Nodes) -> Iterator[Node]:
    """A host of each of these kinds, in turn."""
    yield from _lent(nodes, request.param)
