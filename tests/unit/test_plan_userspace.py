"""Plans for the userspace datapath: neighbours, flows of the NIC's bridge, another datapath."""

from __future__ import annotations

from dataclasses import replace

from ovs_mcast.core.changes import Neighbour
from ovs_mcast.core.observed import Link, Observed
from ovs_mcast.core.plan import expected_flows, plan, plan_removal

from .memory import after, without
from .plan_overlays import G1, G2, TWO, USERSPACE, difference, kinds, overlay_of
from .strategies import bare_machine, built


def test_neighbours_are_told_with_the_flows_of_the_underlay() -> None:
    """A change of the NIC's bridge's flows sets every group's Ethernet address."""
    changes = plan(USERSPACE, bare_machine())
    assert changes.neighbours == (
        Neighbour("br-phy", G1, "01:00:5e:00:00:01"),
        Neighbour("br-phy", G2, "01:00:5e:00:00:02"),
    )
    machine = after(bare_machine(), changes)
    assert plan(USERSPACE, machine).neighbours == ()
    bridge = [flow for flow in machine.flows if flow.bridge == "br-phy"]
    assert plan(USERSPACE, without(machine, bridge[0])).neighbours == changes.neighbours
    tunnel = [flow for flow in machine.flows if flow.bridge == "br-mcast"]
    assert plan(USERSPACE, without(machine, tunnel[0])).neighbours == ()


def test_the_kernel_datapath_needs_no_neighbours() -> None:
    """The kernel knows the Ethernet address of a group by itself."""
    assert plan(TWO, bare_machine()).neighbours == ()
    assert plan_removal("default", built(USERSPACE, bare_machine())).neighbours == ()
    kernel = overlay_of({100: G1, 101: G2}, device="br-phy")
    changes = difference(kernel, USERSPACE)
    assert any(change.item.key[:2] == ("flow", "br-phy") for change in changes)
    assert changes.neighbours == ()


def test_another_mac_of_the_underlay() -> None:
    """The flows that rewrite to the bridge's own address follow it, and the guard of it."""
    machine = built(USERSPACE, bare_machine())
    link = Link("br-phy", 1500, "02:00:00:00:00:77", True)
    changes = plan(USERSPACE, replace(machine, links={**machine.links, "br-phy": link}))
    assert kinds(changes) == {"update flow": 2, "add flow": 1, "remove flow": 1}


def test_from_one_datapath_to_the_other() -> None:
    """Bridges change their datapath in place; groups are joined on the other device."""
    machine = built(TWO, bare_machine())
    changes = plan(USERSPACE, machine)
    assert [change.reason for change in changes if change.kind == "bridge"] == [
        "datapath differs", "datapath, desired overlay differ",
    ]  # fmt: skip
    # Open vSwitch makes a bridge anew for it, without its flows.
    machine = after(machine, changes)
    lost = plan(USERSPACE, machine)
    assert {(change.action, change.kind) for change in lost} == {("add", "flow")}
    assert not plan(USERSPACE, after(machine, lost))


def test_the_flows_that_are_expected() -> None:
    """Those of the plan on a machine without any; none where the machine refuses the overlay."""
    machine = bare_machine()
    added = {change.item for change in plan(USERSPACE, machine) if change.kind == "flow"}
    assert set(expected_flows(USERSPACE, machine)) == added
    assert {flow.bridge for flow in expected_flows(USERSPACE, machine)} == {
        "br-int",
        "br-phy",
        "br-mcast",
    }
    assert expected_flows(USERSPACE, Observed()) == ()
