"""The library as an agent embeds it: its examples, threads, asyncio.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 ─ switch
"""

from __future__ import annotations

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
