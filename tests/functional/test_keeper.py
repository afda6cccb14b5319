"""The process that holds groups by sockets: small, alone, found again, replaced, and ended.

h1 (keeper: sockets that are members of the groups on eth0) ─ switch: what h1 says of it ─ l1
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.functional.joins import BASE, KEEPER, SOCKET, Net, files, keepers, members, segments
from tests.functional.machine import Node, difference
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.hosts", "tests.functional.joining")

NOBODY_ELSE = 0x7000006D  # beyond the numbers that users, services and containers get


def the_keeper(node: Node) -> tuple[int, Path]:
    [found] = keepers(node).items()
    return found


def status(directory: Path) -> dict[str, str]:
    lines = (directory / "status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (x.partition(":") for x in lines)}


# What it is


def test_it_is_small_and_has_nothing_but_its_sockets(either: Node) -> None:
    """A process of a user of its own, with no capability or way to one; what it has are sockets.

    h1 (look at /proc)
    """
    either.built(*BASE, SOCKET)
    _, directory = the_keeper(either)
    seen = status(directory)
    print(f"{either.host.underlay}: VmRSS {seen['VmRSS']}, {seen['Threads']} thread")
    assert int(seen["VmRSS"].split()[0]) < 20_000
    assert seen["Uid"] == seen["Gid"] == " ".join([str(NOBODY_ELSE)] * 4)
    assert seen["Groups"] == ""
    for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(seen[capabilities], 16) == 0
    assert (seen["NoNewPrivs"], seen["Threads"], seen["PPid"]) == ("1", "1", "1")
    assert (directory / "environ").read_bytes() == b""
    assert str((directory / "cwd").readlink()) == "/"
    open_ = sorted(str(path.readlink()).partition(":")[0] for path in (directory / "fd").iterdir())
    assert open_ == ["/dev/null"] * 3 + ["socket"] * 2  # 20 groups a socket, and one that listens
    limits = (directory / "limits").read_text()
    for limit in ("Max processes", "Max file size", "Max core file size"):
        assert limits.split(limit)[1].split()[:2] == ["0", "0"]


def test_it_starts_where_the_user_cannot_be_changed(system: Node) -> None:
    """Run without CAP_SETUID and CAP_SETGID, as in a container: root's number, and no power of it.

    h1 (setup with a bounding set)
    """
    command = system.host._setup_command((*BASE, SOCKET))
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    system.host.run("setpriv", "--bounding-set=-setuid,-setgid,-setpcap", *command, env=environment)
    seen = status(the_keeper(system)[1])
    assert seen["Uid"].split()[0] == "0"
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
    assert seen["NoNewPrivs"] == "1"
    assert system.built(*BASE, SOCKET).report["changed"] is False


def test_the_caller_is_let_go(system: Node) -> None:
    """Whoever reads setup's output through pipes sees its end while the keeper lives on.

    h1 (setup, its stdout and stderr piped)
    """
    process = system.host.start_setup(*BASE, SOCKET)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, bool(output)) == (0, True)
    assert len(keepers(system)) == 1


def test_a_stray_user_cannot_end_it(system: Node) -> None:
    """Neither a signal nor a word through its socket reaches it from an unprivileged user.

    h1 (keeper; user 1000)
    """
    system.built(*BASE, SOCKET)
    pid, _ = the_keeper(system)
    path = f"/run/openvswitch/{KEEPER}"
    ask = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    for command in (
        f"kill -9 {pid}",
        f"python3 -c '{ask.replace(chr(39), chr(34))}'",
        f"rm {path}",
    ):
        as_user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", command)
        assert system.host.run(*as_user, check=False).returncode != 0
    assert system.built(*BASE, SOCKET).report["changed"] is False
    assert the_keeper(system)[0] == pid


# Found again, replaced, ended


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
    """Kill -9: --dry-run names what is missing, setup restores it, the group is heard again.

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
@pytest.mark.parametrize("found", [True, False], ids=["before", "after"])
def test_a_killed_replacement_leaves_no_second_one(
    net: Net, system: Node, found: bool, wanted: tuple[int, ...]
) -> None:
    """Setup was killed while two keepers held, before or after the first ended: one goes on.

    h1 (a keeper, and one that was about to take its place; 239.0.7.1 held by both or the second)
    """
    run = system.host.path("/run/openvswitch")
    with net.membership_wire(system) as wire:
        system.built(*segments(1), SOCKET)
        wire.wait_joined("239.0.7.1")
        first, _ = the_keeper(system)
        # As a run leaves it that is killed: the second one's socket has not been renamed yet.
        os.rename(run / KEEPER, run / "kept")
        system.built(*segments(1), SOCKET)
        os.rename(run / KEEPER, run / "ovs-mcast-default.new")
        os.rename(run / "kept", run / KEEPER)
        assert len(keepers(system)) == 2
        if not found:
            system.sh(f"kill -9 {first}")
        system.built(*segments(*wanted), SOCKET)
        assert len(keepers(system)) == 1
        assert files(system) == [KEEPER]
        assert wire.left() == []


def test_teardown_ends_it_with_what_a_killed_run_left(system: Node) -> None:
    """Two keepers, one whose socket has not been renamed yet: neither is left, nor a file.

    h1 (teardown)
    """
    run = system.host.path("/run/openvswitch")
    system.built(*BASE, SOCKET)
    os.rename(run / KEEPER, run / "ovs-mcast-default.new")
    system.built(*BASE, SOCKET)
    system.torn_down()
    assert keepers(system) == {}
    assert files(system) == []


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
