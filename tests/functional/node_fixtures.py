"""Fixtures: hosts of one lab, each given to a test in the state of a new host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_mcast.lab import Host, Kind, Lab
from tests.functional.agents import kill_all
from tests.functional.node import Node, State, difference, state
from tests.functional.warm import Warm


class Hosts:
    """A host of each kind, reused while its state is that of a new host."""

    def __init__(self, lab: Lab, warm: Warm) -> None:
        self._lab, self._warm = lab, warm
        self._new: dict[Kind | None, tuple[Host, State]] = {}

    def take(self, kind: Kind | None = None) -> Node:
        """Return a host in the state of a new one, by default of the kind under test."""
        if kind in self._new:
            host, pristine = self._new[kind]
            if not difference(pristine, state(host)):
                return Node(host, self._warm)
        node = self.new(kind)
        self._new[kind] = (node.host, node.state())
        return node

    def new(self, kind: Kind | None = None) -> Node:
        """Return a host that no other test uses."""
        return Node(self._lab.add_host(kind=kind), self._warm)


@pytest.fixture(scope="session")
def hosts(warm: Warm, kind: Kind) -> Iterator[Hosts]:
    """The hosts of one lab."""
    with Lab(kind=kind) as lab:
        yield Hosts(lab, warm)


@pytest.fixture
def node(hosts: Hosts) -> Node:
    """A host with Open vSwitch on the datapath under test."""
    return hosts.take()


@pytest.fixture
def dummy(hosts: Hosts) -> Node:
    """A host whose Open vSwitch runs with --enable-dummy=system."""
    return hosts.take("dummy")


@pytest.fixture
def no_agent_is_left() -> Iterator[None]:
    """End the agents that a test has left, as one that failed does."""
    yield
    kill_all()
