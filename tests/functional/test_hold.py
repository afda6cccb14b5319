"""`setup --hold`: the groups are held in the foreground, as a service of systemd would.

h1 (setup --hold) ─ switch: what h1 says of its memberships
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.functional.membership_lab import (
    BASE,
    GROUP,
    KEEPER,
    SOCKET,
    Net,
    files,
    joined_by,
    keepers,
    members,
    segments,
)
from tests.functional.node import Node

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


@contextmanager
def notified(node: Node) -> Iterator[socket.socket]:
    """A datagram socket of the host in place of systemd's: /run/notify."""
    path = node.host.path("/run/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(30)
        try:
            yield systemd
        finally:
            path.unlink()


def test_hold_takes_its_place_and_ends_in_order(net: Net, system: Node) -> None:
    """--hold holds in the foreground: READY=1 when it does, found by setup, gone on SIGTERM.

    h1 (keeper; then --hold) ─ port of the switch: no leave until SIGTERM
    """
    with net.membership_wire(system) as wire, notified(system) as systemd:
        system.built(*segments(1, 2), SOCKET)
        wire.wait_joined("239.0.7.1")
        wire.wait_joined("239.0.7.2")
        run = system.start(*segments(1, 2), SOCKET, "--hold", env={"NOTIFY_SOCKET": "/run/notify"})
        assert systemd.recv(64) == b"READY=1"
        assert keepers(system) == {}
        assert members(system) == {"239.0.7.1", "239.0.7.2"}
        assert wire.left() == []
        assert system.built(*segments(1, 2), SOCKET).report["changed"] is False
        assert keepers(system) == {}
        os.kill(run.pid, signal.SIGTERM)
        ended = run.wait()
        assert (ended.status, ended.report["verified"]) == (0, True)
        assert set(wire.left()) == {"239.0.7.1", "239.0.7.2"}
    assert files(system) == []


def test_setup_takes_the_place_of_hold(net: Net, system: Node) -> None:
    """A run for other groups ends the one in the foreground, which exits 0; no group is left.

    h1 (--hold; then setup) ─ port of the switch
    """
    with net.membership_wire(system) as wire, notified(system) as systemd:
        run = system.start(*segments(1), SOCKET, "--hold", env={"NOTIFY_SOCKET": "/run/notify"})
        assert systemd.recv(64) == b"READY=1"
        wire.wait_joined("239.0.7.1")
        system.built(*segments(1, 2), SOCKET)
        assert run.wait().status == 0
        assert wire.left() == []
        assert files(system) == [KEEPER]
        assert len(keepers(system)) == 1


@pytest.mark.parametrize("method", ["autojoin", "repaired", "peer"])
def test_hold_returns_where_the_kernel_holds(system: Node, method: str) -> None:
    """There is nothing to hold: ready at once, and the end.

    h1 (--hold with a method of the kernel's)
    """
    with notified(system) as systemd:
        held = system.built(
            *BASE, f"--membership={method}", "--hold", env={"NOTIFY_SOCKET": "/run/notify"}
        )
        assert systemd.recv(64) == b"READY=1"
    assert {method for method, _ in joined_by(held)} == {method}
    assert GROUP in members(system)
    assert (keepers(system), files(system)) == ({}, [])
