"""The cost of a run in processes, transactions, bundles and batches is independent of the segments.

h1: br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.node import Node

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)


def configuration(path: Path, node: Node, segments: int, pool: str) -> tuple[str, str]:
    """A configuration file with so many segments of a pool, as arguments."""
    wanted = {
        "datapath": node.host.datapath,
        "membership": "autojoin",
        "underlay": {"device": node.host.underlay},
        "groups": pool,
        "segments": [{"vni": vni} for vni in range(1, segments + 1)],
    }
    file = path / f"{segments}.json"
    file.write_text(json.dumps(wanted))
    return ("--config", str(file))


def cost(node: Node, directory: Path, *arguments: str) -> dict[str, Any]:
    """Run setup and count its processes and requests."""
    counted = directory / "count.json"
    number = node.next_cfg()
    node.built(*arguments, count=counted)
    seen: dict[str, Any] = json.loads(counted.read_text())
    commands = [" ".join(command) for command in seen["processes"]]
    return {
        "processes": len(commands),
        "dumps": sum(" dump-flows " in command for command in commands),
        "bundles": sum(" --bundle " in command for command in commands),
        "batches": seen["batches"],
        "transactions": seen["transactions"],
        "next_cfg": node.next_cfg() - number,
    }


@pytest.mark.parametrize("pool", ["239.1.0.0/29", "239.1.0.0/20"], ids=["8 groups", "own groups"])
def test_the_cost_does_not_depend_on_the_segments(node: Node, tmp_path: Path, pool: str) -> None:
    """From nothing, again, changed, and teardown: as many of everything for 1,000 as for 10."""
    node.sh("echo 4096 >/proc/sys/net/ipv4/igmp_max_memberships")
    spent = []
    for segments in (10, 1000):
        wanted = configuration(tmp_path, node, segments, pool)
        fewer = configuration(tmp_path, node, segments * 9 // 10, pool)
        spent.append(
            {
                "from nothing": cost(node, tmp_path, *wanted),
                "again": cost(node, tmp_path, *wanted),
                "a tenth less": cost(node, tmp_path, *fewer),
                "teardown": cost(node, tmp_path, "--teardown"),
            }
        )
    node.sh("echo 20 >/proc/sys/net/ipv4/igmp_max_memberships")
    assert spent[0] == spent[1]
    assert spent[1]["from nothing"]["bundles"] == 3
    assert spent[1]["from nothing"]["transactions"] == 1
    assert spent[1]["from nothing"]["next_cfg"] == 1
    assert spent[1]["again"]["bundles"] == 0
    assert spent[1]["again"]["next_cfg"] == 0
    assert all(kind["processes"] <= 9 for kind in spent[1].values())
    assert all(kind["batches"] <= 12 for kind in spent[1].values())
