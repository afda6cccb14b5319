"""The process that holds groups by sockets: small, unprivileged, deaf to other users.

h1 (keeper: sockets that are members of the groups on eth0) ─ switch
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.membership_lab import (
    BASE,
    KEEPER,
    SOCKET,
    Net,
    keepers,
    members,
    segments,
    the_keeper,
)
from tests.functional.node import Node
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")
NOBODY_ELSE = 0x7000006D  # beyond the numbers that users, services and containers get


def status(directory: Path) -> dict[str, str]:
    lines = (directory / "status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (x.partition(":") for x in lines)}


def the_name(node: Node) -> str:
    """Where it listens, without the octet 0 that is before it."""
    [line] = [line for line in node.sh("cat /proc/net/unix").splitlines() if "@ovs-mcast-k" in line]
    return line.split("@")[1]


_END = """
import os, socket
os.setresuid({user}, {user}, {user})
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect("\\0{name}")
    caller.sendall(b"end")
    assert caller.recv(1)
"""
_STRAY = """
import os, socket
os.setresuid(1000, 1000, 1000)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("\\0{name}")
    listener.listen()
    print("there", flush=True)
    while True:
        with listener.accept()[0] as caller:
            caller.recv(99)
            caller.sendall(b'{{"pid": 1, "device": "eth0", "index": 2}}')
"""


def end_by(node: Node, name: str, user: int) -> int:
    """Return the exit status of another user's program that asks the keeper to end."""
    script = _END.format(name=name, user=user)
    return node.host.run(sys.executable, "-c", script, check=False).returncode


def test_it_is_small_and_has_nothing_but_its_sockets(either: Node) -> None:
    """The keeper has its own user, no capability and no means to gain one, and only sockets.

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
    """A reader of setup's output through pipes gets its end while the keeper lives on.

    h1 (setup, its stdout and stderr piped)
    """
    process = system.host.start_setup(*BASE, SOCKET)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, bool(output)) == (0, True)
    assert len(keepers(system)) == 1


def test_a_stray_user_cannot_end_it(system: Node) -> None:
    """Neither a signal nor a request of an unprivileged user ends the keeper.

    h1 (keeper; user 1000)
    """
    system.built(*BASE, SOCKET)
    pid, _ = the_keeper(system)
    as_user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    for command in (("kill", "-9", str(pid)), ("rm", f"/run/openvswitch/{KEEPER}")):
        assert system.host.run(*as_user, *command, check=False).returncode != 0
    name = the_name(system)
    assert end_by(system, name, user=1000) != 0
    assert system.built(*BASE, SOCKET).report["changed"] is False
    assert the_keeper(system)[0] == pid
    assert end_by(system, name, user=0) == 0
    assert eventually(lambda: keepers(system) == {})


def test_a_stray_user_cannot_be_it(net: Net, system: Node) -> None:
    """Who listens at a name like the keeper's, newer than its own, is no keeper unless it is root.

    h1 (keeper; user 1000 at a name; setup, teardown)
    """
    system.built(*BASE, SOCKET)
    other = the_name(system)[:-20] + "9" * 20
    process = system.host.popen(sys.executable, "-c", _STRAY.format(name=other))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "there"
        assert system.built(*BASE, SOCKET).report["changed"] is False
        assert system.built(*segments(1, 2), SOCKET).report["changed"] is True
        assert len(keepers(system)) == 1
        system.torn_down()
        assert keepers(system) == {}
        assert members(system) == set()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
