"""Fixtures: hosts of one lab that each test gets as they were when they were new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_mcast.lab import Host, Lab
from tests.functional.machine import Node, State, difference, state
from tests.functional.warm import Warm


class Hosts:
    """A host of each kind, used again as long as tests leave it as it was."""

    def __init__(self, lab: Lab, warm: Warm) -> None:
        self._lab, self._warm = lab, warm
        self._new: dict[bool, tuple[Host, State]] = {}

    def take(self, *, dummy: bool) -> Node:
        """A host that is as new."""
        if dummy in self._new:
            host, pristine = self._new[dummy]
            if not difference(pristine, state(host)):
                return Node(host, self._warm)
        node = self.new(dummy=dummy)
        self._new[dummy] = (node.host, node.state())
        return node

    def new(self, *, dummy: bool) -> Node:
        """A host that nobody else gets."""
        return Node(self._lab.add_host(dummy=dummy), self._warm)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """The process that runs of setup are forked from."""
    server = Warm()
    yield server
    server.close()


@pytest.fixture(scope="session")
def hosts(warm: Warm) -> Iterator[Hosts]:
    """The hosts of one lab."""
    with Lab() as lab:
        yield Hosts(lab, warm)


@pytest.fixture
def node(hosts: Hosts) -> Node:
    """A host with Open vSwitch on the userspace datapath."""
    return hosts.take(dummy=False)


@pytest.fixture
def dummy(hosts: Hosts) -> Node:
    """A host whose Open vSwitch runs with --enable-dummy=system."""
    return hosts.take(dummy=True)
