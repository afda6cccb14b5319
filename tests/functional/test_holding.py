"""Groups held by the process that embeds the library: connect(holding="here").

h1 (a program) ─ switch: what h1 says of its memberships
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.functional.embedding import run
from tests.functional.membership_lab import KEEPER, SOCKET, Net, files, keepers, members, segments
from tests.functional.node import Node
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

ONE, TWO = "239.0.7.1", "239.0.7.2"


def overlay(node: Node, *numbers: int) -> dict[str, Any]:
    """The overlay that setup makes of ``segments(*numbers)``."""
    return {
        "datapath": node.host.datapath,
        "membership": "socket",
        "underlay": {"device": node.host.underlay},
        "segments": [{"vni": number, "group": f"239.0.7.{number}"} for number in numbers],
    }


def test_held_here_until_close(net: Net, system: Node, tmp_path: Path) -> None:
    """No keeper runs, setup finds the groups held, and close releases them with thread and file.

    h1 (program, setup) ─ port of the switch: left at close
    """
    with (
        net.membership_wire(system) as wire,
        run(system, "here", overlay(system, 1, 2), tmp_path) as program,
    ):
        assert "+ membership 2 groups dev eth0 by sockets: missing" in program.says()["changes"]
        wire.wait_joined(ONE)
        wire.wait_joined(TWO)
        assert keepers(system) == {}
        assert program.tell("held") == [ONE, TWO]
        assert system.built(*segments(1, 2), SOCKET).report["changed"] is False
        assert keepers(system) == {}
        assert wire.left() == []
        program.end()
        assert set(wire.left()) == {ONE, TWO}
    assert files(system) == []


def test_it_takes_over_from_a_keeper_and_hands_over_to_one(
    net: Net, system: Node, tmp_path: Path
) -> None:
    """Keeper to program to keeper: one holds at a time, and no group is left in between.

    h1 (keeper; program; keeper) ─ port of the switch: no leave
    """
    with net.membership_wire(system) as wire:
        system.built(*segments(1, 2), SOCKET)
        wire.wait_joined(ONE)
        wire.wait_joined(TWO)
        with run(system, "here", overlay(system, 1, 2), tmp_path) as program:
            assert program.says()["changes"] == []
            assert keepers(system) == {}
            assert members(system) == {ONE, TWO}
            assert not [name for name in program.tell("hand over") if "default" in name]
            assert len(keepers(system)) == 1
            assert program.tell("plan") == []
            assert program.tell("reconcile") == []
            assert keepers(system) == {}
            program.tell("hand over")
            program.end()
        assert len(keepers(system)) == 1
        assert system.built(*segments(1, 2), SOCKET).report["changed"] is False
        assert wire.left() == []


def test_who_ends_it_is_believed(net: Net, system: Node, tmp_path: Path) -> None:
    """A setup for other groups takes over: the program sees it, and its next reconcile takes back.

    h1 (program; setup with 2 3; program again)
    """
    with (
        net.membership_wire(system) as wire,
        run(system, "here", overlay(system, 1, 2), tmp_path) as program,
    ):
        program.says()
        wire.wait_joined(ONE)
        system.built(*segments(2, 3), SOCKET)
        wire.wait_joined("239.0.7.3")
        assert len(keepers(system)) == 1
        assert wire.left() == [ONE]
        assert program.tell("held") == [TWO, "239.0.7.3"]
        assert "~ membership 2 groups dev eth0 by sockets: groups differs" in program.tell(
            "reconcile"
        )
        wire.wait_joined(ONE)
        assert keepers(system) == {}
        assert members(system) == {ONE, TWO}
        assert wire.left() == ["239.0.7.3"]
        system.torn_down()
        assert members(system) == set()
        assert program.tell("held") is None
        program.end()
    assert files(system) == []


def test_killed_it_leaves_what_the_next_run_mends(system: Node, tmp_path: Path) -> None:
    """Kill -9 of the program: its groups go with it, its stale file is no obstacle.

    h1 (program killed; program again)
    """
    with run(system, "here", overlay(system, 1), tmp_path) as program:
        program.says()
        program.kill()
    assert eventually(lambda: members(system) == set())
    assert files(system) == [KEEPER]
    with run(system, "here", overlay(system, 1), tmp_path) as program:
        assert program.says()["changes"] == ["+ membership 239.0.7.1 dev eth0 by sockets: missing"]
        assert members(system) == {ONE}
        program.end()
