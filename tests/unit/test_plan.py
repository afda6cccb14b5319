"""Plans of one machine and one change at a time: their changes and reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core import overlay_notes, ownership
from ovs_mcast.core.items import Address, Bridge, Flow, Port, Route
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.plan import desired, plan, plan_removal
from ovs_mcast.core.target import resolve

from .memory import after, gone_down, having, ours, whole, without
from .plan_overlays import G1, G2, G3, METRIC, SUFFIX, TWO, difference, kinds, overlay_of
from .strategies import RIVAL, bare_machine, built, learned_flow


def test_a_machine_without_anything() -> None:
    """Two bridges, three ports, and per segment an address, a route and three flows are added.

    The device has two addresses, to which packets may come, and which are guarded.
    """
    changes = plan(TWO, bare_machine())
    assert kinds(changes) == {
        "add bridge": 2, "add port": 3, "add address": 2, "add route": 2, "add flow": 23,
    }  # fmt: skip
    assert {change.reason for change in changes} == {"missing"}
    assert changes.overlay == "default"
    assert len(changes) == 32
    assert bool(changes)
    assert not changes.neighbours


# An integration bridge that snoops would else keep multicast from the members on other hosts.
FLOOD = (("mcast-snooping-flood", "true"), ("mcast-snooping-flood-reports", "true"))


def test_what_is_made() -> None:
    """Names, options, marks, and the memo's address and route, on a machine without anything."""
    machine = built(TWO, bare_machine())
    assert machine.bridges["br-int"] == Bridge("br-int", "system", "", "default")
    tunnel = Bridge("br-mcast", "system", "secure", "default", overlay_notes.notes(TWO))
    assert machine.bridges["br-mcast"] == tunnel
    to_bridge, to_tunnel = f"patch-int-{SUFFIX}", f"patch-tun-{SUFFIX}"
    assert machine.ports[to_bridge] == Port(
        "br-mcast", to_bridge, "patch", (("peer", to_tunnel),), 1, owner="default"
    )
    assert machine.ports[to_tunnel] == Port(
        "br-int", to_tunnel, "patch", (("peer", to_bridge),), None, snooping=FLOOD, owner="default"
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
    """A br-int of another owner gets the patch port, the guard and nothing else."""
    machine = having(bare_machine(), Bridge("br-int", "system"))
    changes = plan(TWO, machine)
    assert kinds(changes)["add bridge"] == 1
    assert not any(change.item.key == ("bridge", "br-int") for change in changes)
    on_it = [change.item for change in changes if getattr(change.item, "bridge", "") == "br-int"]
    guard = "VXLAN of workloads to this host → drop"
    assert [item.target for item in on_it] == [f"patch-tun-{SUFFIX} on br-int", guard, guard]


def test_the_fail_mode_of_the_bridge_for_workloads_is_the_operators() -> None:
    """A br-int of ours keeps the fail_mode that an operator set; br-mcast gets its own back."""
    machine = built(TWO, bare_machine())
    secure = replace(machine.bridges["br-int"], fail_mode="secure")
    standalone = replace(machine.bridges["br-mcast"], fail_mode="standalone")
    assert not plan(TWO, having(machine, secure))
    [change] = plan(TWO, having(machine, secure, standalone))
    assert (change.item.target, change.reason) == ("br-mcast", "fail_mode differs")
    [kept] = [
        change
        for change in plan_removal(
            "default", having(machine, secure, Port("br-int", "vm1", "internal"))
        )
        if change.action == "update"
    ]
    assert kept.item == Bridge("br-int", "system", "secure")


def test_one_segment_more() -> None:
    """A new segment is its note, its address, its route and its three flows."""
    changes = difference(overlay_of({100: G1, 101: G2, 102: G3}))
    assert kinds(changes) == {"update bridge": 1, "add address": 1, "add route": 1, "add flow": 3}
    assert {ownership.segment_of(c.item.cookie) for c in changes if isinstance(c.item, Flow)} == {
        (102, 102)
    }


def test_one_segment_less() -> None:
    """A segment is no more wanted, then its flows go, then its route, then its address."""
    changes = difference(overlay_of({100: G1}))
    assert [f"{change.action} {change.kind}" for change in changes] == [
        "update bridge", *["remove flow"] * 3, "remove route", "remove address",
    ]  # fmt: skip
    assert {change.reason for change in changes} == {"desired overlay differs", "not wanted"}


def test_a_segment_that_shares_its_group() -> None:
    """The group is left when its last segment is."""
    changes = difference(overlay_of({100: G1}), overlay_of({100: G1, 101: G1}))
    assert kinds(changes) == {"update bridge": 1, "remove flow": 3}


def test_a_group_that_changes() -> None:
    """The new group is joined before the segment's flows change, and the old one left after."""
    changes = difference(overlay_of({100: G3, 101: G2}))
    assert [f"{change.action} {change.kind}" for change in changes] == [
        "update bridge", "add address", "add route", "remove flow", "add flow", "update flow",
        "remove route", "remove address",
    ]  # fmt: skip
    cookies = {change.item.cookie for change in changes if isinstance(change.item, Flow)}
    assert {ownership.segment_of(cookie) for cookie in cookies} == {(100, 100)}


def test_a_learning_flow_stays_when_the_group_changes() -> None:
    """Learned flows outlive a change of group: the segment's DELIVER flow is untouched."""
    machine = having(built(TWO, bare_machine()), learned_flow("br-mcast", 100, 100, "default"))
    end = after(machine, plan(overlay_of({100: G3, 101: G2}), machine))
    assert any(ownership.is_learned(flow.cookie) for flow in end.flows)


def test_another_vtep() -> None:
    """A new outer source changes two shared flows and the routes, and no segment's flow."""
    changes = difference(overlay_of({100: G1, 101: G2}, vtep="10.0.0.9"))
    assert kinds(changes) == {
        "update bridge": 1,
        "update route": 2, "remove flow": 1, "add flow": 1, "update flow": 1,
    }  # fmt: skip
    assert all(
        ownership.segment_of(change.item.cookie) == (0, 0)
        for change in changes
        if isinstance(change.item, Flow)
    )


@pytest.mark.parametrize(
    ("overlay", "option"),
    [
        (overlay_of({100: G1, 101: G2}, ttl=9), "ttl"),
        (overlay_of({100: G1, 101: G2}, udp_port=4790), "dst_port"),
    ],
)
def test_another_option_of_the_port(overlay: Overlay, option: str) -> None:
    """TTL and UDP port are the VXLAN port's alone, but for the guard."""
    [_noted, change] = (one for one in difference(overlay) if one.kind != "flow")
    assert isinstance(change.item, Port)
    assert isinstance(change.before, Port)
    assert change.action == "update"
    assert change.reason == f"option {option} differs"
    assert change.item.option(option) != change.before.option(option)
    assert change.item.option("none", "default") == "default"


def test_an_operators_option_of_the_port_stays() -> None:
    """No plan has it, an update keeps it; one that breaks the overlay is removed."""
    machine = built(TWO, bare_machine())
    port = next(port for port in machine.ports.values() if port.type == "vxlan")
    set_ = replace(port, options=tuple(sorted((*port.options, ("tos", "inherit"), ("x", "y")))))
    theirs = having(machine, set_)
    assert not list(plan(TWO, theirs))
    [_noted, change] = plan(TWO.replace(underlay={"device": "eth0", "ttl": 9}), theirs)
    assert isinstance(change.item, Port)
    assert [change.item.option(name) for name in ("ttl", "tos", "x")] == ["9", "inherit", "y"]

    broken = replace(set_, options=(*set_.options, ("in_key", "5")))
    [change] = plan(TWO, having(machine, broken))
    assert (change.reason, change.item) == ("option in_key differs", set_)


def test_an_option_of_the_configuration_goes_with_it() -> None:
    """It is noted as the configuration's, unlike one that an operator set."""
    named = TWO.replace(underlay={"device": "eth0", "tos": 8, "df": False})
    machine = built(named, bare_machine())
    [_noted, change] = plan(TWO, machine)
    assert isinstance(change.item, Port)
    assert isinstance(change.before, Port)
    assert change.before.configured == ("df_default", "tos")
    assert (change.before.option("tos"), change.before.option("df_default")) == ("8", "false")
    assert not {"tos", "df_default"} & dict(change.item.options).keys()


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
        "add bridge": 1, "update port": 2, "add flow": 21, "remove bridge": 1,
    }  # fmt: skip
    assert changes.changes[-1].item.target == "br-mcast"


def test_a_bridge_with_guests_is_kept_and_unmarked() -> None:
    """A bridge of ours that holds ports of others stays, and the reason names the ports."""
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
    """After teardown of one of two overlays the machine is as with the other alone."""
    rival = overlay_of({7: G3}, udp_port=4800, name=RIVAL, bridge="br-a", tunnel_bridge="br-b")
    alone = built(rival, bare_machine())
    both = built(TWO, alone)
    assert whole(both) != whole(alone)
    assert whole(after(both, plan_removal("default", both))) == whole(alone)


def test_a_group_that_others_have_joined_is_used() -> None:
    """Another program's autojoin address stays as it is; only the route is added."""
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
    """Learned flows are neither desired nor removed, and do not count as ours."""
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
    """A route or address with our metric and another protocol is not ours."""
    theirs = (
        Route("eth0", "239.77.0.1", None, METRIC, protocol=4),
        Address("eth0", "239.77.0.1", 32, True, METRIC, protocol=4),
    )
    machine = having(built(TWO, bare_machine()), *theirs)
    assert not plan(TWO, machine)
    assert not {change.item for change in plan_removal("default", machine)} & {*theirs}


def test_an_ipv6_port_has_udp_checksums() -> None:
    """A Linux vxlan device drops IPv6 packets without them; IPv4 ones need none."""
    six = overlay_of({100: "ff05::1"})
    machine = having(bare_machine(), Address("eth0", "fd00::1", 64))
    items = list(desired(resolve(six, machine)))
    [port] = [item for item in items if isinstance(item, Port) and item.type == "vxlan"]
    assert port.option("csum") == "true"
    assert Address("eth0", "ff05::1", 128, True, METRIC) in items
