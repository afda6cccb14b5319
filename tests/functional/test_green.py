"""A program whose threads are cooperative: eventlet's or gevent's.

h1: a program ─ br-int ═ br-mcast
"""

from __future__ import annotations

import sys

import pytest

from tests.functional.lab_programs import CHECKOUT
from tests.functional.membership_lab import members
from tests.functional.node import Node

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

GREEN = CHECKOUT / ".cache" / "green"
PROGRAM = """
import ovs_mcast as om

def overlay(*vnis):
    return om.Overlay(
        underlay=om.Underlay(device="eth0"), membership="socket",
        segments=[om.Segment(vni=vni, group=f"239.0.7.{vni}") for vni in vnis],
    )

with om.connect(holding="here") as host:
    host.reconcile(overlay(1, 2))
    host.reconcile(overlay(2, 3, 4))
    host.add(om.Segment(vni=5, group="239.0.7.5"))
    print([segment.vni for segment in host.overlay().segments])
    host.hand_over()
"""
PATCHES = {
    "eventlet": "import eventlet\neventlet.monkey_patch()",
    "gevent": "from gevent import monkey\nmonkey.patch_all()",
    "eventlet is there": "",
}


@pytest.mark.parametrize("threads", PATCHES)
def test_held_groups_are_replaced(system: Node, threads: str) -> None:
    """Nothing hangs, all groups are held, and a program that does not use eventlet hears nothing.

    h1 (a program that holds the groups itself)
    """
    if not (GREEN / "made").exists():
        pytest.skip("missing here: eventlet and gevent, which tests/run installs")
    ignore = ("-W", "ignore") if PATCHES[threads] else ()
    done = system.host.run(
        sys.executable, *ignore, "-c", PATCHES[threads] + PROGRAM,
        env={"PYTHONPATH": f"{CHECKOUT}:{GREEN}"}, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[2, 3, 4, 5]\n", "")
    assert members(system) == {f"239.0.7.{vni}" for vni in (2, 3, 4, 5)}
    system.torn_down()
