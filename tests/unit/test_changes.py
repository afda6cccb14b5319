"""Changes, items and plans have names for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Bridge, Flow, Port, Route

from .memory import having
from .plan_overlays import G1, TWO
from .strategies import bare_machine, built


def test_what_a_change_says() -> None:
    """One line for a reader, and the shape of the contract for a program."""
    item = Port("br-mcast", "vxlan-0eec1", "vxlan", owner="default")
    added = Change("add", item, "missing")
    assert str(added) == "+ port vxlan-0eec1 on br-mcast: missing"
    assert str(replace(added, action="update", reason="type differs")).startswith("~ port")
    assert str(replace(added, action="remove", reason="not wanted")).startswith("- port")
    assert added.to_json() == {
        "action": "add",
        "kind": "port",
        "target": "vxlan-0eec1 on br-mcast",
        "reason": "missing",
    }


@pytest.mark.parametrize(
    ("item", "target"),
    [
        (Bridge("br-int", "system"), "br-int"),
        (Address("eth0", G1, 32, True), "239.0.0.1/32 dev eth0 autojoin"),
        (Address("eth0", "10.0.0.1", 24), "10.0.0.1/24 dev eth0"),
        (Route("eth0", G1, "10.0.0.1"), "239.0.0.1 dev eth0 src 10.0.0.1"),
        (Route("eth0", G1, None), "239.0.0.1 dev eth0"),
        (Flow("b", 30, 1, "dl_vlan=7", "drop", 5, "vlan 7 → 239.0.0.1"), "vlan 7 → 239.0.0.1"),
        (Flow("b", 30, 1, "dl_vlan=7", "drop", 5), "b table 30 dl_vlan=7"),
        (Flow("b", 20, 0, "", "drop", 5), "b table 20 any"),
    ],
)
def test_what_an_item_is_called(item: Bridge | Address | Route | Flow, target: str) -> None:
    """Items are named as the commands of Linux and Open vSwitch name them."""
    assert item.target == target
    assert item.key[0] == item.kind


def test_whose_overlays_are_there() -> None:
    """Overlays are known by the marks of their bridges and ports."""
    machine = having(built(TWO, bare_machine()), Port("br-phy", "x", "patch", owner="ports-only"))
    assert machine.overlays() == {"default", "ports-only"}
    assert bare_machine().overlays() == set()
