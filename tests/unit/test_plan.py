"""Plans of one machine and one change at a time: what is in them, and what they say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change, Neighbour, Plan
from ovs_mcast.core.items import Address, Bridge, Flow, Port, Route
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Link, Observed
from ovs_mcast.core.plan import desired, expected_flows, plan, plan_removal
from ovs_mcast.core.target import resolve

from .memory import after, gone_down, having, ours, whole, without
from .strategies import RIVAL, bare_machine, built, learned_flow

G1, G2, G3 = "239.0.0.1", "239.0.0.2", "239.0.0.3"
SUFFIX = ownership.suffix("default")
METRIC = ownership.metric("default")


def overlay_of(
    groups: dict[int, str], *, device: str = "eth0", vtep: str | None = None, ttl: int = 64,
    udp_port: int = 4789, membership: str = "autojoin", **values: Any,
) -> Overlay:  # fmt: skip
    """An overlay of segments by VNI."""
    return Overlay(
        underlay=Underlay(device=device, vtep=vtep, ttl=ttl, udp_port=udp_port),
        segments=[Segment(vni=vni, group=group) for vni, group in groups.items()],
        membership=membership,
        **values,
    )


TWO = overlay_of({100: G1, 101: G2})
USERSPACE = overlay_of({100: G1, 101: G2}, device="br-phy", datapath="netdev")


def difference(wanted: Overlay, before: Overlay = TWO) -> Plan:
    return plan(wanted, built(before, bare_machine()))


def kinds(changes: Plan) -> dict[str, int]:
    return dict(Counter(f"{change.action} {change.kind}" for change in changes))


def test_a_machine_without_anything() -> None:
    """Two bridges, three ports, and per segment an address, a route and three flows are added."""
    changes = plan(TWO, bare_machine())
    assert kinds(changes) == {
        "add bridge": 2, "add port": 3, "add address": 2, "add route": 2, "add flow": 13,
    }  # fmt: skip
    assert {change.reason for change in changes} == {"missing"}
    assert changes.overlay == "default"
    assert len(changes) == 22
    assert bool(changes)
    assert not changes.neighbours


def test_what_is_made() -> None:
    """Names, options, marks, and the memo's address and route, on a machine without anything."""
    machine = built(TWO, bare_machine())
    assert machine.bridges["br-int"] == Bridge("br-int", "system", "", "default")
    assert machine.bridges["br-mcast"] == Bridge("br-mcast", "system", "secure", "default")
    to_bridge, to_tunnel = f"patch-int-{SUFFIX}", f"patch-tun-{SUFFIX}"
    assert machine.ports[to_bridge] == Port(
        "br-mcast", to_bridge, "patch", (("peer", to_tunnel),), 1, owner="default"
    )
    assert machine.ports[to_tunnel] == Port(
        "br-int", to_tunnel, "patch", (("peer", to_bridge),), None, owner="default"
    )
    vxlan = machine.ports[f"vxlan-{SUFFIX}"]
    assert (vxlan.bridge, vxlan.type, vxlan.ofport_request) == ("br-mcast", "vxlan", 2)
    assert dict(vxlan.options) == {
        "remote_ip": "flow", "local_ip": "flow", "key": "flow", "dst_port": "4789", "ttl": "64",
    }  # fmt: skip
    assert Address("eth0", G1, 32, True, METRIC) in machine.addresses
    assert Route("eth0", G1, "10.0.0.1", METRIC) in machine.routes
    assert {item.protocol for item in machine.addresses if item.address == G1} == {109}
    assert {item.protocol for item in machine.routes if not item.by_address} == {109}


def test_an_existing_bridge_is_used() -> None:
    """Somebody's br-int is not ours to make, and gets the patch port and nothing else."""
    machine = having(bare_machine(), Bridge("br-int", "system"))
    changes = plan(TWO, machine)
    assert kinds(changes)["add bridge"] == 1
    assert not any(change.item.key == ("bridge", "br-int") for change in changes)
    on_it = [change.item for change in changes if getattr(change.item, "bridge", "") == "br-int"]
    assert [item.target for item in on_it] == [f"patch-tun-{SUFFIX} on br-int"]


def test_one_segment_more() -> None:
    """A new segment is its address, its route and its three flows; the others are not touched."""
    changes = difference(overlay_of({100: G1, 101: G2, 102: G3}))
    assert kinds(changes) == {"add address": 1, "add route": 1, "add flow": 3}
    assert {ownership.segment_of(c.item.cookie) for c in changes if isinstance(c.item, Flow)} == {
        (102, 102)
    }


def test_one_segment_less() -> None:
    """A segment that goes takes its flows first, then its route, then its address."""
    changes = difference(overlay_of({100: G1}))
    assert [f"{change.action} {change.kind}" for change in changes] == [
        *["remove flow"] * 3, "remove route", "remove address",
    ]  # fmt: skip
    assert {change.reason for change in changes} == {"not wanted"}


def test_a_segment_that_shares_its_group() -> None:
    """The group is left when its last segment is."""
    changes = difference(overlay_of({100: G1}), overlay_of({100: G1, 101: G1}))
    assert kinds(changes) == {"remove flow": 3}


def test_a_group_that_changes() -> None:
    """The new group is joined before the segment's flows change, and the old one left after."""
    changes = difference(overlay_of({100: G3, 101: G2}))
    assert [f"{change.action} {change.kind}" for change in changes] == [
        "add address", "add route", "remove flow", "add flow", "update flow",
        "remove route", "remove address",
    ]  # fmt: skip
    cookies = {change.item.cookie for change in changes if isinstance(change.item, Flow)}
    assert {ownership.segment_of(cookie) for cookie in cookies} == {(100, 100)}


def test_a_learning_flow_stays_when_the_group_changes() -> None:
    """What a segment learned outlives a change of its group: its DELIVER flow is not touched."""
    machine = having(built(TWO, bare_machine()), learned_flow("br-mcast", 100, 100, "default"))
    end = after(machine, plan(overlay_of({100: G3, 101: G2}), machine))
    assert any(ownership.is_learned(flow.cookie) for flow in end.flows)


def test_another_vtep() -> None:
    """A new outer source changes four shared flows and the routes, and no segment's flow."""
    changes = difference(overlay_of({100: G1, 101: G2}, vtep="10.0.0.9"))
    assert kinds(changes) == {
        "update route": 2, "remove flow": 2, "add flow": 2, "update flow": 2,
    }  # fmt: skip
    assert all(
        ownership.segment_of(change.item.cookie) == (0, 0)
        for change in changes
        if isinstance(change.item, Flow)
    )


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        (overlay_of({100: G1, 101: G2}, ttl=9), "ttl"),
        (overlay_of({100: G1, 101: G2}, udp_port=4790), "dst_port"),
    ],
)
def test_another_option_of_the_port(wanted: Overlay, option: str) -> None:
    """TTL and UDP port are the VXLAN port's alone."""
    [change] = difference(wanted)
    assert isinstance(change.item, Port)
    assert isinstance(change.before, Port)
    assert change.action == "update"
    assert change.reason == "options differs"
    assert change.item.option(option) != change.before.option(option)
    assert change.item.option("none", "default") == "default"


def test_another_device() -> None:
    """Groups are joined on the new device, routes follow in place, then the old is left."""
    changes = difference(overlay_of({100: G1, 101: G2}, device="eth1"))
    assert kinds(changes)["add address"] == kinds(changes)["remove address"] == 2
    moved = [change for change in changes if isinstance(change.item, Route)]
    assert [change.action for change in moved] == ["update", "update"]
    assert {change.item.target for change in moved} == {
        f"{group} dev eth1 src 10.1.0.1" for group in (G1, G2)
    }
    assert all("device" in change.reason for change in moved)


def test_another_tunnel_bridge() -> None:
    """The ports move to the new bridge, with all flows, and the old bridge goes as a whole."""
    changes = difference(overlay_of({100: G1, 101: G2}, tunnel_bridge="br-new"))
    assert kinds(changes) == {
        "add bridge": 1, "update port": 2, "add flow": 13, "remove bridge": 1,
    }  # fmt: skip
    assert changes.changes[-1].item.target == "br-mcast"


def test_a_bridge_with_guests_is_kept_and_unmarked() -> None:
    """A bridge of ours on which others have ports stays for them, and says whose they are."""
    guests = [Port("br-int", name, "internal") for name in ("vm2", "vm1")]
    machine = having(built(TWO, bare_machine()), *guests)
    removal = plan_removal("default", machine)
    [kept] = [change for change in removal if change.action == "update"]
    assert kept.item == Bridge("br-int", "system")
    assert kept.reason == "kept, it holds vm1, vm2"
    end = after(machine, removal)
    assert not ours(end, "default")
    assert [port for port in end.ports.values() if port.bridge == "br-int"] == guests


def test_a_bridge_that_is_kept_loses_its_mark_last() -> None:
    """The flows of a bridge are only looked for while it is marked: its mark goes after them."""
    machine = having(built(TWO, bare_machine()), Port("br-mcast", "guest", "internal"))
    order = [f"{change.action} {change.item.target}" for change in plan_removal("default", machine)]
    assert set(order[-2:]) == {"update br-mcast", "remove br-int"}
    assert not ours(after(machine, plan_removal("default", machine)), "default")


def test_teardown_of_what_is_not_there() -> None:
    """Nothing marked, nothing to do; an overlay of another name is no concern."""
    machine = built(TWO, bare_machine())
    assert not plan_removal("default", bare_machine())
    assert not plan_removal("tenants", machine)


def test_teardown_leaves_other_overlays() -> None:
    """Of two overlays one goes, and what is left is what the other alone would be."""
    rival = overlay_of({7: G3}, udp_port=4800, name=RIVAL, bridge="br-a", tunnel_bridge="br-b")
    alone = built(rival, bare_machine())
    both = built(TWO, alone)
    assert whole(both) != whole(alone)
    assert whole(after(both, plan_removal("default", both))) == whole(alone)


def test_a_group_that_others_have_joined_is_used() -> None:
    """Somebody's autojoin address stays as it is, and only the route is added."""
    theirs = Address("eth0", G1, 32, True)
    machine = having(bare_machine(), theirs)
    changes = plan(TWO, machine)
    assert kinds(changes)["add address"] == 1
    assert kinds(changes)["add route"] == 2
    end = after(machine, changes)
    assert theirs in after(end, plan_removal("default", end)).addresses


def test_a_group_that_others_join_later_becomes_theirs() -> None:
    """An autojoin address that replaces ours, of another prefix length, is used in its place."""
    machine = built(TWO, bare_machine())
    ours_ = next(item for item in machine.addresses if item.address == G1)
    machine = having(without(machine, ours_), Address("eth0", G1, 24, True))
    assert not plan(TWO, machine)


def test_a_device_that_is_down_has_no_routes() -> None:
    """The kernel takes a device's routes when it goes down: up again, they are put back."""
    up = built(TWO, bare_machine())
    down = gone_down(up, "eth0")
    assert not plan(TWO, down)
    back = replace(down, links=up.links)
    assert kinds(plan(TWO, back)) == {"add route": 2}


def test_learned_flows_are_left_alone() -> None:
    """What was learned is neither wanted nor removed, and does not count as ours."""
    machine = having(
        built(TWO, bare_machine()),
        learned_flow("br-mcast", 100, 100, "default"),
        learned_flow("br-mcast", 4000, 9, "default"),
    )
    assert not plan(TWO, machine)
    assert not any(
        isinstance(change.item, Flow) and ownership.is_learned(change.item.cookie)
        for change in plan_removal("default", machine)
    )


def test_our_metric_alone_is_no_mark() -> None:
    """A route or an address that bears our metric and another protocol is somebody else's."""
    theirs = (
        Route("eth0", "239.77.0.1", None, METRIC, protocol=4),
        Address("eth0", "239.77.0.1", 32, True, METRIC, protocol=4),
    )
    machine = having(built(TWO, bare_machine()), *theirs)
    assert not plan(TWO, machine)
    assert not {change.item for change in plan_removal("default", machine)} & {*theirs}


# The userspace datapath


def test_neighbours_are_told_with_the_flows_of_the_underlay() -> None:
    """Where flows of the NIC's bridge change, Open vSwitch is told every group's address."""
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
    """The flows that rewrite to the bridge's own address follow it, one for each group."""
    machine = built(USERSPACE, bare_machine())
    link = Link("br-phy", 1500, "02:00:00:00:00:77", True)
    changes = plan(USERSPACE, replace(machine, links={**machine.links, "br-phy": link}))
    assert kinds(changes) == {"update flow": 2}


def test_from_one_datapath_to_the_other() -> None:
    """Bridges change their datapath in place; groups are joined on the other device."""
    machine = built(TWO, bare_machine())
    changes = plan(USERSPACE, machine)
    assert [change.reason for change in changes if change.kind == "bridge"] == [
        "datapath differs"
    ] * 2
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
    assert {flow.bridge for flow in expected_flows(USERSPACE, machine)} == {"br-phy", "br-mcast"}
    assert expected_flows(USERSPACE, Observed()) == ()


def test_an_ipv6_port_has_udp_checksums() -> None:
    """A Linux vxlan device drops IPv6 packets without them; IPv4 ones need none."""
    six = overlay_of({100: "ff05::1"})
    machine = having(bare_machine(), Address("eth0", "fd00::1", 64))
    items = list(desired(resolve(six, machine)))
    [port] = [item for item in items if isinstance(item, Port) and item.type == "vxlan"]
    assert port.option("csum") == "true"
    assert Address("eth0", "ff05::1", 128, True, METRIC) in items


# What a change says


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
    """Items are called what the commands of Linux and Open vSwitch call them."""
    assert item.target == target
    assert item.key[0] == item.kind


def test_whose_overlays_are_there() -> None:
    """Overlays are known by the marks of their bridges and ports."""
    machine = having(built(TWO, bare_machine()), Port("br-phy", "x", "patch", owner="ports-only"))
    assert machine.overlays() == {"default", "ports-only"}
    assert bare_machine().overlays() == set()
