"""Kill -9 of setup and teardown at any moment: the next run converges, and teardown leaves nothing.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.functional.node import Node, State, difference, wrapper
from tests.functional.warm import Result, Run

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

ONE = ("--segment", "100,group=239.0.0.1", "--segment", "101,group=239.0.0.2")
OTHER = (
    "--segment", "100,group=239.0.0.3,vlan=9", "--segment", "102,group=239.0.0.2",
    "--udp-port", "4790", "--tunnel-bridge", "br-t", "--bridge", "br-x",
)  # fmt: skip
SEED = 20250101
KILLS = {"from nothing": 11, "to another": 6, "teardown": 8}


def killed_after(run: Run, seconds: float) -> Result:
    """The run, ended by kill -9 after so long, unless it was faster."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.005, max(0.0, end - time.monotonic())))
    run.kill()
    return run.wait()


def assert_converges(node: Node, before: State, *arguments: str) -> None:
    """The next run ends well, which has read back that all is there; after teardown all is gone."""
    node.built(*arguments)
    node.torn_down()
    assert difference(before, node.state()) == []


def length_of_a_run(node: Node, what: str, arguments: tuple[str, ...]) -> float:
    """Seconds that it takes when nobody kills it; the host is then as it was."""
    if what != "from nothing":
        node.built(*ONE)
    seconds = node.built(*arguments).seconds
    node.torn_down()
    return seconds


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", KILLS)
def test_at_a_random_moment(node: Node, what: str) -> None:
    """Moments spread over the length of a run by a seed: building, changing, tearing down."""
    before = node.state()
    dice = random.Random(f"{SEED} {what}")
    arguments = {"from nothing": ONE, "to another": OTHER, "teardown": ("--teardown",)}[what]
    length = min(length_of_a_run(node, what, arguments) for _ in range(3))
    cut_short = 0
    for number in range(KILLS[what]):
        if what != "from nothing":
            node.built(*ONE)
        moment = length * (number + dice.random()) / KILLS[what]
        result = killed_after(node.start(*arguments), moment)
        cut_short += result.status == -9
        if result.status != -9:  # the machine has become faster than it was when measured
            length = min(length, result.seconds)
        if what == "teardown":
            node.torn_down()
            assert difference(before, node.state()) == [], f"killed after {moment:.3f} s"
        else:
            assert_converges(node, before, *arguments)
    assert cut_short > KILLS[what] // 2, "runs were over before they were killed"


@pytest.mark.parametrize(
    ("call", "when"),
    [(1, "after"), (2, "before"), (2, "after"), (3, "before"), (3, "after"), (4, "after")],
)
def test_while_ovs_ofctl_runs(node: Node, tmp_path: Path, call: int, when: str) -> None:
    """Kill -9 by its own ovs-ofctl, before or after the Nth call of it has done its work."""
    before = node.state()
    count, real = tmp_path / "calls", "$(command -v /usr/bin/ovs-ofctl || command -v ovs-ofctl)"
    ours = "kill -9 $PPID; exit 1" if when == "before" else f'{real} "$@"; kill -9 $PPID; exit 1'
    path = wrapper(
        tmp_path, "ovs-ofctl", f'echo >>{count}; [ $(wc -l <{count}) = {call} ] && {{ {ours}; }}'
    )  # fmt: skip
    result = node.setup(*ONE, env={"PATH": path})
    assert result.status == -9
    assert_converges(node, before, *ONE)
