"""The process that holds groups by sockets is found again, replaced, restored and ended.

h1 (keeper: sockets that are members of the groups on eth0) ─ switch
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.functional.membership_lab import (
    BASE,
    GROUP,
    KEEPER,
    SOCKET,
    Net,
    files,
    keepers,
    members,
    segments,
    the_keeper,
)
from tests.functional.node import Node, difference
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")
_SECOND = """
import os
from pathlib import Path
from ovs_mcast.core.items import GroupMembership
from ovs_mcast.membership.keeper import Keeper
keeper = Keeper(Path("/run/openvswitch"), "default")
keeper._end_others = lambda _name: os.kill(os.getpid(), 9)
keeper.replace(GroupMembership("eth0", ("{group}",)))
"""


def second(node: Node, group: str) -> None:
    """One more keeper, as a run leaves it that is killed before it ends the one that was there."""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    script = _SECOND.format(group=group)
    assert node.host.run(sys.executable, "-c", script, env=environment, check=False).returncode


def test_it_is_found_again(either: Node) -> None:
    """The next setup finds that the groups are held: the same process, and nothing to change.

    h1 (setup, setup)
    """
    either.built(*BASE, SOCKET)
    pid, _ = the_keeper(either)
    before = either.state()
    assert either.built(*BASE, SOCKET).report["changed"] is False
    assert either.setup(*BASE, SOCKET, "--dry-run").status == 0
    assert the_keeper(either)[0] == pid
    assert difference(before, either.state()) == []


def test_another_set_of_groups_is_held_without_leaving_one(net: Net, either: Node) -> None:
    """Replaced on a change: only the group that goes is left, as seen on the wire.

    h1 (groups 1 2, then 2 3) ─ port of the switch: look here
    """
    with net.membership_wire(either) as wire:
        either.built(*segments(1, 2), SOCKET)
        pid, _ = the_keeper(either)
        wire.wait_joined("239.0.7.1")
        wire.wait_joined("239.0.7.2")
        changed = either.built(*segments(2, 3), SOCKET)
        assert [change for change in changed.changes if "membership" in change] == [
            f"update membership 2 groups dev {either.host.underlay} by sockets"
        ]
        wire.wait_joined("239.0.7.3")
        assert wire.left() == ["239.0.7.1"]
        assert the_keeper(either)[0] != pid
        assert members(either) == {"239.0.7.2", "239.0.7.3"}
        either.built(*segments(1, 2, 3), SOCKET)
        assert wire.left() == []
        either.torn_down()
        assert set(wire.left()) == {"239.0.7.1", "239.0.7.2", "239.0.7.3"}


def test_killed_it_is_restored(net: Net, system: Node) -> None:
    """After kill -9 --dry-run names the loss, and setup restores the keeper.

    h1 (keeper killed) ─ switch ─ l1 (sends)
    """
    system.built(*BASE, SOCKET)
    pid, _ = the_keeper(system)
    system.sh(f"kill -9 {pid}")
    assert eventually(lambda: members(system) == set())
    missed = system.setup(*BASE, SOCKET, "--dry-run")
    assert (missed.status, missed.changes) == (4, ["add membership 2 groups dev eth0 by sockets"])
    assert system.built(*BASE, SOCKET).changes == missed.changes
    assert net.hears(system)
    system.sh(f"kill -9 {the_keeper(system)[0]}")
    system.torn_down()
    assert files(system) == []


@pytest.mark.parametrize("wanted", [(1,), (1, 2)], ids=["same", "more"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_killed_replacement_leaves_no_second_one(
    net: Net, system: Node, first: bool, wanted: tuple[int, ...]
) -> None:
    """Setup was killed while two keepers held, before or after the first ended: one goes on.

    h1 (a keeper, and one that was about to take its place; 239.0.7.1 held by both or the second)
    """
    with net.membership_wire(system) as wire:
        system.built(*segments(1), SOCKET)
        wire.wait_joined("239.0.7.1")
        former, _ = the_keeper(system)
        second(system, "239.0.7.1")
        assert len(keepers(system)) == 2
        if not first:
            system.sh(f"kill -9 {former}")
        system.built(*segments(*wanted), SOCKET)
        assert len(keepers(system)) == 1
        assert files(system) == [KEEPER]
        assert wire.left() == []


def test_teardown_ends_it_with_what_a_killed_run_left(system: Node) -> None:
    """Two keepers, of which one was about to take the other's place: neither is left, nor a file.

    h1 (teardown)
    """
    system.built(*BASE, SOCKET)
    second(system, GROUP)
    assert len(keepers(system)) == 2
    system.host.path(f"/run/openvswitch/{KEEPER}").with_suffix(".new").touch()
    system.torn_down()
    assert keepers(system) == {}
    assert files(system) == []


@pytest.mark.parametrize("gone", ["empty", "read-only"])
def test_it_does_without_a_file(net: Net, system: Node, gone: str) -> None:
    """The keeper works when its run directory is made anew, or is not writable.

    h1 (keeper; setup for the same, for other groups, teardown) ─ port of the switch
    """
    run = "/run/openvswitch"
    with net.membership_wire(system) as wire:
        system.built(*segments(1, 2), SOCKET)
        wire.wait_joined("239.0.7.1")
        wire.wait_joined("239.0.7.2")
        pid, _ = the_keeper(system)
        if gone == "empty":
            system.sh(f"rm {run}/*.keeper")
        else:
            system.sh(f"mount --bind {run} {run}; mount -o remount,bind,ro {run}")
        assert system.built(*segments(1, 2), SOCKET).report["changed"] is False
        assert the_keeper(system)[0] == pid
        system.built(*segments(2, 3), SOCKET)
        assert len(keepers(system)) == 1
        assert members(system) == {"239.0.7.2", "239.0.7.3"}
        assert wire.left() == ["239.0.7.1"]
        system.torn_down()
        assert keepers(system) == {}
        assert members(system) == set()
        if gone == "read-only":
            system.sh(f"umount {run}; rm {run}/*.keeper")


def test_a_device_that_was_made_anew_is_joined_again(system: Node) -> None:
    """A device of the same name is another: nothing of it is held, and the next setup joins.

    h1 (eth1 removed and made again)
    """
    make = "ip link add eth1 type veth peer name far; ip link set far up; ip link set eth1 up"
    make += "; ip address add 10.9.0.1/24 dev eth1"
    system.sh(make)
    system.built(*BASE, SOCKET, "--underlay=eth1")
    pid, _ = the_keeper(system)
    system.sh(f"ip link del eth1; {make}")
    again = system.built(*BASE, SOCKET, "--underlay=eth1")
    assert "update membership 2 groups dev eth1 by sockets" in again.changes
    assert the_keeper(system)[0] != pid
    assert any(line.startswith("eth1 010000EF") for line in system.state()["igmp"])
    system.torn_down()
    system.sh("ip link del eth1")


def test_two_overlays_have_two(system: Node) -> None:
    """Each has its own, and its own teardown ends it.

    h1 (overlays default and other)
    """
    other = ("--name=other", "--bridge=br-two", "--tunnel-bridge=br-mcast2", "--udp-port=4790")
    system.built(*segments(1), SOCKET)
    first, _ = the_keeper(system)
    system.built(*segments(2), SOCKET, *other)
    assert files(system) == [KEEPER, "ovs-mcast-other.keeper"]
    assert len(keepers(system)) == 2
    system.torn_down("other")
    assert keepers(system).keys() == {first}
    assert members(system) == {"239.0.7.1"}
    assert system.built(*segments(1), SOCKET).report["changed"] is False
