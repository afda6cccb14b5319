"""A broadcast of the overlay that leaves a second time, as traces of Open vSwitch 3.1.0 show it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core import loops, ownership
from ovs_mcast.core.flow_trace import Trace
from ovs_mcast.core.items import Port
from ovs_mcast.core.target import Target, resolve

from .plan_overlays import TWO
from .strategies import bare_machine, built

PATCH = f"patch-tun-{ownership.suffix('default')}"
END = "\n\nFinal flow: unchanged\nMegaflow: recirc_id=0,eth,arp,in_port=1\nDatapath actions: 3,6"
NESTED = """Flow: arp,in_port=1,dl_vlan=100

bridge("br-int")
----------------
 0. priority 0
    NORMAL
     -> no learned MAC for destination, flooding

    bridge("br-x")
    --------------
         0. priority 0
            NORMAL
             -> no learned MAC for destination, flooding

        bridge("br-b")
        --------------
         0. in_port=1, priority 100
            goto_table:30
        30. dl_vlan=100, priority 1
            output:2
             -> output to native tunnel
             -> tunneling to 239.0.0.2 via br-phy

        bridge("br-phy")
        ----------------
         0. priority 0
            NORMAL
             -> no learned MAC for destination, flooding
"""
MESH = """     -> output to native tunnel
     -> tunneling to 10.0.0.9 via br-phy"""
ALONE = """Flow: arp,in_port=1

bridge("br-int")
----------------
 0. priority 0
    NORMAL
     -> no learned MAC for destination, flooding"""


def target(*ports: Port) -> Target:
    machine = built(TWO, bare_machine())
    patch = replace(machine.ports[PATCH], ofport=1)
    there = {**machine.ports, PATCH: patch, **{one.name: one for one in ports}}
    return resolve(TWO, replace(machine, ports=there))


def test_what_a_bridge_does_after_a_patch_port_is_its_own() -> None:
    trace = Trace.read(NESTED + MESH + END)
    assert trace.steps == (("0", "priority 0"),)
    assert trace.normal
    assert trace.crossed == ("br-x", "br-b", "br-phy")
    assert trace.tunnelled == ("br-int", "br-b")
    assert Trace.read(NESTED + END).tunnelled == ("br-b",)
    assert Trace.read(ALONE + END).tunnelled == ()


@pytest.mark.parametrize("kind", ["patch", "vxlan", "geneve", "gre"])
def test_broadcasts_are_traced_where_others_may_carry_them_on(kind: str) -> None:
    mine = target(Port("br-int", "p1", kind))
    assert [one.vlan for one in loops.samples(mine)] == [100, 101]
    assert list(loops.samples(target(Port("br-int", "tap0", "")))) == []
    assert list(loops.samples(target(Port("br-x", "p1", kind)))) == []


def test_each_bridge_by_whose_tunnels_they_leave_is_named() -> None:
    mine = target(Port("br-int", "mesh", "vxlan"), Port("br-int", "p1", "patch"))
    first, second = loops.samples(mine)
    found = [str(one) for one in loops.warnings(mine, {first: NESTED + MESH + END,
                                                       second: NESTED + END})]  # fmt: skip
    assert [one.partition(":")[0] for one in found] == [
        "broadcasts from the overlay in VLAN 100 leave this host again by mesh",
        "broadcasts from the overlay in VLAN 100, 101 leave this host again by br-b",
    ]
    assert list(loops.warnings(mine, {first: ALONE + END})) == []
