"""host.add and host.remove: one segment more or less, whatever the number of the others.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 (userspace datapath: br-phy ─ eth0) ─ switch
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.embedding import run
from tests.functional.machine import Node

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.hosts", "tests.functional.joining")

_ROOM = {"/proc/sys/net/ipv4/igmp_max_memberships": 8192, "/proc/sys/net/core/optmem_max": 1 << 20}
TARGETS = [
    "add flow VNI 5000 from 239.16.19.136",
    "add flow VNI 5000 → vlan 4090",
    "add flow vlan 4090 → 239.16.19.136",
]


def overlay(node: Node, segments: int, membership: str, groups: str) -> dict[str, Any]:
    """An overlay of so many segments of a pool."""
    return {
        "datapath": node.host.datapath,
        "membership": membership,
        "underlay": {"device": node.host.underlay},
        "groups": groups,
        "segments": [{"vni": vni} for vni in range(1, segments + 1)],
    }


def add(vni: int, **values: object) -> str:
    """The word that tells a program to add a segment."""
    return f"add {json.dumps({'vni': vni} | values)}"


def changes(told: dict[str, Any]) -> list[str]:
    """The changes of a program's answer, one line each."""
    return [f"{c['action']} {c['kind']} {c['target']}" for c in told["status"]["changes"]]


@pytest.fixture
def roomy(either: Node) -> Iterator[Node]:
    """A host of either kind whose kernel holds thousands of autojoin groups."""
    before = {path: either.sh(f"cat {path}").strip() for path in _ROOM}
    either.sh("; ".join(f"echo {value} >{path}" for path, value in _ROOM.items()))
    yield either
    either.torn_down()
    either.sh("; ".join(f"echo {value} >{path}" for path, value in before.items()))


@pytest.mark.parametrize("membership", ["socket", "repaired"])
def test_the_cost_does_not_depend_on_the_others(
    roomy: Node, tmp_path: Path, membership: str
) -> None:
    """As many messages of each kind, and octets, beside 4,000 as beside 10; and no whole look.

    h1 (program; count what it starts, sends and receives)
    """
    spent: dict[int, list[dict[str, int]]] = {}
    for segments in (10, 4000):
        wanted = overlay(roomy, segments, membership, "239.16.0.0/16")
        with run(roomy, "count", wanted, tmp_path) as program:
            assert program.says() == "ready"
            steps = {
                "add": program.tell(add(5000, vlan=4090)),
                "add one that shares a group": program.tell(
                    add(5001, vlan=4091, group="239.16.0.1")
                ),
                "remove": program.tell("remove 5000"),
                "remove one that shares a group": program.tell("remove 5001"),
            }
            program.end()
        roomy.torn_down()
        for name, step in steps.items():
            print(f"{segments} {name}: {step['ms']} ms, {step['cpu_ms']} ms here, {step['spent']}")
            assert step["status"]["verified"] is True
        assert set(TARGETS) < set(changes(steps["add"]))
        sharing = [name.split()[1] for name in changes(steps["add one that shares a group"])]
        assert sharing == ["flow"] * 3
        spent[segments] = [step["spent"] for step in steps.values()]
    assert spent[4000] == spent[10]
    for step in spent[10]:
        assert step["transactions"] == 0
        assert step["bundle"] <= (1 if roomy.host.datapath == "system" else 2)
        assert step.get("dump", 0) <= (2 if roomy.host.datapath == "system" else 4)
        assert step["netlink batches"] <= 5
        assert step["netlink datagrams"] <= 9
        assert step["netlink octets"] < 8192
        assert step.get(".keeper", 0) + step.get(".ctl", 0) <= 3


@pytest.fixture
def six(either: Node) -> Iterator[Node]:
    """A host of either kind with an IPv6 address on its underlay."""
    device = either.host.underlay
    switch = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    either.sh(f"echo 0 >{switch}; ip address add fd00::101/64 dev {device} nodad")
    yield either
    either.torn_down()
    either.sh(f"echo 1 >{switch}")


@pytest.mark.parametrize("membership", ["socket", "repaired"])
def test_a_segment_of_ipv6_is_added_and_removed_alone(
    six: Node, tmp_path: Path, membership: str
) -> None:
    """Its flows, address and routes come and go without a look at the whole.

    h1 (program; count what it sends and receives)
    """
    wanted = overlay(six, 3, membership, "ff05::7:0/112")
    with run(six, "count", wanted, tmp_path) as program:
        assert program.says() == "ready"
        added = program.tell(add(5000, vlan=4090))
        removed = program.tell("remove 5000")
        program.end()
    came, went = changes(added), changes(removed)
    assert added["status"]["verified"] is True
    assert removed["status"]["verified"] is True
    assert "add flow vlan 4090 → ff05::7:1388" in came
    assert "remove flow vlan 4090 → ff05::7:1388" in went
    for step in (added["spent"], removed["spent"]):
        assert step["transactions"] == 0
        assert step.get("dump", 0) <= (2 if six.host.datapath == "system" else 4)
