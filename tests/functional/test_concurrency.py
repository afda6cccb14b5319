"""Of two runs at once one waits for the other and reports it; they never mix.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from ovs_mcast import UnavailableError
from ovs_mcast.adapters.ovsdb.connection import Ovsdb
from tests.functional.node import Node, difference, wrapper

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

ONE = ("--segment", "100,group=239.0.0.1", "--segment", "101,group=239.0.0.2")
WAITS = "another run of ovs_mcast holds this Open vSwitch: waiting"


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until it holds; an error if it never does."""
    Retrying(
        retry=retry_if_result(lambda answer: not answer),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.02),
    )(holds)


@contextmanager
def stalled(node: Node, directory: Path, *arguments: str) -> Iterator[int]:
    """A run that stays where it is, in the midst of its work; gives its process id.

    It has begun, holds the lock, and its ovs-ofctl, about to install flows, waits.
    """
    gate = directory / "gate"
    os.mkfifo(gate)
    path = wrapper(
        directory, "ovs-ofctl",
        f'case "$*" in *--bundle*) : >{directory}/there; read go <{gate};; esac',
    )  # fmt: skip
    run = node.start(*arguments, env={"PATH": path})
    eventually((directory / "there").exists)
    try:
        yield run.pid
    finally:
        # Opened both ways, so that it is open whether or not anybody reads.
        with open(os.open(gate, os.O_RDWR), "w") as go:
            go.write("go\n" * 9)
            go.flush()
            run.wait()


def test_four_runs_of_one_configuration(node: Node) -> None:
    """All four exit 0; one has made the changes, the others found nothing left to do."""
    runs = [node.start(*ONE) for _ in range(4)]
    results = [run.wait() for run in runs]
    assert [result.status for result in results] == [0] * 4, [r.stderr for r in results]
    assert all(result.report["verified"] for result in results)
    assert sorted(result.report["changed"] for result in results) == [False] * 3 + [True]
    assert node.setup("--dry-run", *ONE).status == 0
    node.torn_down()


def test_four_configurations_do_not_mix(node: Node) -> None:
    """Four runs at once all exit 0, and the machine has exactly one of the four overlays.

    Four runs, each with another segment, UDP port, tunnel bridge and TTL.
    """
    before = node.state()
    wanted = [
        ("--segment", f"{100 + n},group=239.0.{n}.1", "--udp-port", f"{4789 + n}", "--ttl", f"{n}")
        + (("--tunnel-bridge", "br-t") if n % 2 else ())
        for n in range(1, 5)
    ]
    results = [run.wait() for run in [node.start(*arguments) for arguments in wanted]]
    assert [result.status for result in results] == [0] * 4, [r.stderr for r in results]
    there = [node.setup("--dry-run", *arguments) for arguments in wanted]
    assert sorted(told.status for told in there) == [0, 4, 4, 4]
    node.torn_down()
    assert difference(before, node.state()) == []


def test_overlays_of_two_names(node: Node) -> None:
    """Two overlays at once, apart in all but br-int: both are there. On one UDP port: one is.

    br-int ═ br-mcast ─ vxlan 4789 ─ br-phy      overlay default
    br-int ═ br-blue ─ vxlan 4790 ─ br-phy       overlay blue
    """
    before = node.state()
    blue = ("--name", "blue", "--tunnel-bridge", "br-blue", "--segment", "200,group=239.0.0.200")
    apart = (*blue, "--udp-port", "4790")
    results = [run.wait() for run in (node.start(*ONE), node.start(*apart))]
    assert [result.status for result in results] == [0, 0], [r.stderr for r in results]
    assert [node.setup("--dry-run", *one).status for one in (ONE, apart)] == [0, 0]
    node.torn_down()
    node.torn_down("blue")
    results = [run.wait() for run in (node.start(*ONE), node.start(*blue))]
    assert sorted(result.status for result in results) == [0, 2]
    assert "UDP port 4789" in next(r for r in results if r.status == 2).problems
    node.torn_down()
    node.torn_down("blue")
    assert difference(before, node.state()) == []


def test_the_second_waits_and_says_so(node: Node, tmp_path: Path) -> None:
    """While the first is at work the second touches nothing; then it finds all done."""
    with stalled(node, tmp_path, *ONE):
        halfway = node.state()
        second = node.start(*ONE)
        eventually(lambda: WAITS in second.said())
        assert difference(halfway, node.state()) == []
        told = node.setup("--dry-run", *ONE)
        assert told.status == 4, "--dry-run waits for nobody"
    result = second.wait()
    assert (result.status, result.changes) == (0, [])
    assert result.report["problems"] == []
    node.torn_down()


def test_a_teardown_waits_too(node: Node, tmp_path: Path) -> None:
    """Setup at work, teardown behind it: all is made, then all is gone."""
    before = node.state()
    with stalled(node, tmp_path, *ONE):
        second = node.start("--teardown")
        eventually(lambda: WAITS in second.said())
    result = second.wait()
    assert (result.status, result.report["changed"]) == (0, True)
    assert difference(before, node.state()) == []


def test_the_holder_is_killed(node: Node, tmp_path: Path) -> None:
    """Kill -9 of the run that is at work: the one that waits goes on, and completes it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = wrapper(
        tmp_path, "ovs-ofctl",
        f'case "$*" in *--bundle*) : >{tmp_path}/there; read go <{gate}; exit 1;; esac',
    )  # fmt: skip
    first = node.start(*ONE, env={"PATH": path})
    eventually((tmp_path / "there").exists)
    second = node.start(*ONE)
    eventually(lambda: WAITS in second.said())
    first.kill()
    result = second.wait()
    assert first.wait().status == -9
    assert (result.status, result.report["verified"]) == (0, True)
    assert result.changes
    assert node.setup("--dry-run", *ONE).status == 0
    with open(os.open(gate, os.O_RDWR | os.O_NONBLOCK), "w") as go:
        go.write("go\n")
        go.flush()
        eventually(lambda: node.host.run("pidof", "-x", "ovs-ofctl", check=False).returncode)
    node.torn_down()


def test_patience_has_an_end(node: Node) -> None:
    """A run that waits too long fails with advice and has touched nothing.

    h1, whose database another process holds
    """
    socket = f"unix:{node.host.path('/run/openvswitch/db.sock')}"
    told: list[str] = []
    with closing(Ovsdb(socket)) as holder, closing(Ovsdb(socket)) as other:
        with (
            holder.exclusive(5),
            pytest.raises(UnavailableError, match="another run of ovs_mcast"),
            other.exclusive(0.3, on_wait=lambda _seconds: told.append("waits")),
        ):
            pytest.fail("both hold it")
        assert set(told) == {"waits"}
        with other.exclusive(5):
            pass


def test_a_connection_ends(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends even if its connection's thread sees the end before the lock is released.

    h1, whose database this process is connected to
    """
    ovsdb = Ovsdb(f"unix:{node.host.path('/run/openvswitch/db.sock')}")
    connection = ovsdb._connection

    def sees_nothing() -> None:
        eventually(lambda: not connection.is_running)

    monkeypatch.setattr(connection.txns, "get_nowait", sees_nothing)
    ovsdb._set_lock(None)
    end = Thread(target=ovsdb.close, daemon=True)
    end.start()
    end.join(10)
    assert not end.is_alive()
