"""The library as an agent embeds it: its examples, threads, asyncio.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 ─ switch
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.functional.embedding import run
from tests.functional.membership_lab import members
from tests.functional.node import Node

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


def overlay(node: Node, *vnis: int) -> dict[str, Any]:
    return {
        "datapath": node.host.datapath,
        "membership": "socket",
        "underlay": {"device": node.host.underlay},
        "segments": [{"vni": vni, "group": f"239.0.7.{vni}"} for vni in vnis],
    }


def test_the_examples_that_need_a_machine_run(system: Node, tmp_path: Path) -> None:
    """The examples in the docstrings of Host, connect and aio run as they stand.

    h1 (doctest)
    """
    with run(system, "examples", overlay(system, 1), tmp_path) as program:
        told = program.says()
        program.end()
    assert told["failed"] == []
    assert told["tried"] >= 6


def test_the_event_loop_goes_on(system: Node, tmp_path: Path) -> None:
    """A reconcile that waits for another run blocks nothing; a call cancelled in time is not made.

    What has begun when it is cancelled is finished before close is; no thread, no descriptor is
    left.

    h1 (a program with an event loop, and somebody who holds the lock)
    """
    with run(system, "ticking", overlay(system, 1), tmp_path) as program:
        assert program.says() == {"done before": False, "verified": True, "threads": 4}
        assert program.tell("add") == {"added": [77], "cancelled": True}
        assert program.says() == "ended"
        program.end()
    assert members(system) == set()
    assert "tun_id=0x4d" not in system.host.ofctl("dump-flows", "br-mcast")
    assert "tun_id=0x1" in system.host.ofctl("dump-flows", "br-mcast")


def test_many_threads_use_one_host(system: Node, tmp_path: Path) -> None:
    """Segments come and go from four threads at once: all is as one after the other had made it.

    h1 (a program with four threads and one Host)
    """
    with run(system, "crowd", overlay(system, 1), tmp_path) as program:
        assert program.says() == [1, *range(200, 208)]
        assert program.says() == []
        program.end()


def test_two_processes_add_and_remove_at_once(system: Node, tmp_path: Path) -> None:
    """Neither takes away what the other added; a process that starts later knows them all.

    h1 (two programs that never called reconcile, `setup` before them)
    """
    system.built("--segment=1,group=239.0.7.1", "--membership=socket")
    with (
        run(system, "adder", overlay(system), tmp_path) as one,
        run(system, "adder", overlay(system), tmp_path) as other,
    ):
        one.word("add 200 25")
        there, _changes, _ = other.tell("add 300 25")
        assert {1, *range(300, 325)} <= set(there)
        one.says()
        assert one.tell("remove 300")[0] == [1, *range(200, 225), *range(301, 325)]
        again, changes, _ = other.tell("add 200 3")
        assert (again, changes) == ([1, *range(200, 225), *range(301, 325)], 0)
        one.end()
        other.end()
    same = system.setup("--segment=1,group=239.0.7.1", "--membership=socket", "--dry-run")
    flows = [line for line in same.changes if line.startswith("remove flow")]
    assert len(flows) == 3 * 49
    assert system.host.ofctl("dump-flows", "br-mcast", "table=30").count("dl_vlan") == 50


def test_an_add_after_a_restart_of_ovs_vswitchd_puts_all_back_at_once(
    system: Node, tmp_path: Path
) -> None:
    """The flows of segments that other processes added, too; it waits for nothing that is gone.

    h1 (two programs; ovs-vswitchd starts anew)
    """
    system.built("--segment=1,group=239.0.7.1", "--membership=socket")
    with (
        run(system, "adder", overlay(system), tmp_path) as one,
        run(system, "adder", overlay(system), tmp_path) as other,
    ):
        one.tell("add 202")
        other.tell("add 203")
        system.host.stop_vswitchd()
        system.host.start_vswitchd()
        there, changes, seconds = one.tell("add 204")
        assert there == [1, 202, 203, 204]
        assert changes > 4 * 3
        assert seconds < 4.5  # of the 5 s for which Open vSwitch is waited for where it may follow
        one.end()
        other.end()
    same = system.setup("--segment=1,group=239.0.7.1", "--membership=socket", "--dry-run")
    assert len([line for line in same.changes if line.startswith("remove flow")]) == 3 * 3


def test_hosts_that_are_never_closed(system: Node, tmp_path: Path) -> None:
    """Threads and descriptors go with them, and Python's -W shows a ResourceWarning of each.

    h1 (a program)
    """
    with run(system, "dropped", overlay(system), tmp_path) as program:
        assert program.says() == ["ResourceWarning: a Host was never closed"] * 5
        program.end()


@contextmanager
def stopped(node: Node, daemon: str) -> Iterator[None]:
    """A daemon of the host that is there and does nothing."""
    pid = node.host.path(f"/run/openvswitch/{daemon}.pid").read_text().strip()
    node.host.run("kill", "-STOP", pid)
    try:
        yield
    finally:
        node.host.run("kill", "-CONT", pid)


def test_no_call_waits_without_end_for_a_database_that_does_not_answer(
    system: Node, tmp_path: Path
) -> None:
    """It says who does not answer; afterwards the same Host goes on.

    h1 (a program; ovsdb-server is stopped, then killed and started anew)
    """
    with run(system, "patient", overlay(system, 1), tmp_path) as program:
        program.tell("plan")
        with stopped(system, "ovsdb-server"):
            said, seconds = program.tell("connect")
            assert said.startswith("ovsdb: no ovsdb-server answers at unix:")
            assert seconds < 10
            said, seconds = program.tell("add")
            assert said.startswith("ovsdb: no ovsdb-server answers at unix:"), said
            assert seconds < 30  # not the minute of another run that holds it
        assert program.tell("reconcile")[0] == "done"
        system.host.stop_ovsdb()
        assert program.tell("plan")[0].startswith("ovsdb: no ovsdb-server answers")
        system.host.start_ovsdb()
        assert program.tell("add")[0] == "done"
        program.end()


def test_no_call_waits_without_end_for_an_ovs_vswitchd_that_does_not_answer(
    system: Node, tmp_path: Path
) -> None:
    """So where it is stopped in the middle of things.

    h1 (a program; ovs-vswitchd is stopped)
    """
    with run(system, "patient", overlay(system, 1), tmp_path) as program:
        program.tell("plan")
        with stopped(system, "ovs-vswitchd"):
            os.write(program._words, b"reconcile\n")
            said, _seconds = program.says(60)
            assert said.startswith("vswitchd: ovs-vswitchd does not answer")
        assert program.tell("add")[0] == "done"
        program.end()


@pytest.mark.parametrize("method", ["socket", "repaired"])
def test_another_network_namespace(system: Node, tmp_path: Path, method: str) -> None:
    """A program of another namespace works in Open vSwitch's, which only its calls enter.

    h1 (a program in a network namespace of its own)
    """
    wanted = overlay(system, 1, 2) | {"membership": method}
    with run(system, "elsewhere", wanted, tmp_path) as program:
        assert program.says() == [
            True, True, True,
            "netns: there is no network namespace no-such-namespace: No such file or directory",
        ]  # fmt: skip
        program.end()
    assert members(system) == {"239.0.7.1", "239.0.7.2"}
    arguments = [f"--segment={vni},group=239.0.7.{vni}" for vni in (1, 2)]
    assert system.built(*arguments, f"--membership={method}").changes == []
    system.torn_down()
