"""Which events affect an overlay: ours, those of rivals, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast import Overlay, Segment, Underlay
from ovs_mcast.agent.event_filter import EventFilter, Trigger
from ovs_mcast.core import ownership
from ovs_mcast.core.events import (
    EntryEvent,
    FlowEvent,
    Joined,
    KernelEvent,
    RowEvent,
    Rule,
    Watched,
)
from ovs_mcast.core.items import Address, Route
from ovs_mcast.core.observed import Link

OVERLAY = Overlay(
    name="tenants",
    underlay=Underlay(device="eth0", vtep="10.0.0.1"),
    segments=[Segment(vni=100, group="239.0.0.1")],
)
NETDEV = Overlay(
    name="tenants",
    datapath="netdev",
    underlay=Underlay(device="br-phy", vtep="10.0.0.1"),
    segments=[Segment(vni=100, group="239.0.0.1")],
)
SUFFIX = ownership.suffix("tenants")
ETH0 = Link("eth0", 1600, "02:00:00:00:00:01", up=True)
VTEP = Address("eth0", "10.0.0.1", 24)
OURS = Route(
    "eth0", "239.0.0.1", "10.0.0.1", ownership.metric("tenants"), protocol=ownership.PROTOCOL
)
RUNDIR = Path("/run/openvswitch")
cookies = st.integers(0, (1 << 64) - 1)


@pytest.mark.parametrize(
    ("event", "concerns"),
    [
        (RowEvent("Port", f"vxlan-{SUFFIX}", "tenants"), True),
        (RowEvent("Interface", f"vxlan-{SUFFIX}", None, "vxlan", frozenset({"ofport"})), True),
        (RowEvent("Interface", f"patch-int-{SUFFIX}", None, "patch", frozenset({"error"})), True),
        (RowEvent("Interface", "vx7", None, "vxlan"), True),  # a rival for the UDP port
        (RowEvent("Bridge", "br-mcast", "tenants", columns=frozenset({"fail_mode"})), True),
        (RowEvent("Bridge", "br-mcast", None, columns=frozenset({"external_ids"})), True),
        (RowEvent("Bridge", "br-int"), True),
        (RowEvent("Bridge", "br-int", columns=frozenset({"ports"})), False),  # a VM's port
        (RowEvent("Port", "bond0", columns=frozenset({"bond_mode"})), True),  # may deliver copies
        (RowEvent("Port", "bond0", columns=frozenset({"bond_active_slave"})), True),  # fails over
        (RowEvent("Port", "tap7"), False),
        (RowEvent("Interface", "tap7", None, "", frozenset({"ofport"})), False),
        (RowEvent("Port", "vxlan-other", "another"), False),
        (RowEvent("Open_vSwitch", columns=frozenset({"cur_cfg"})), False),
    ],
)
def test_rows(event: RowEvent, concerns: bool) -> None:
    """Rows of ours, of the bridges, and VXLAN ports; not what SDN agents do all day."""
    assert (EventFilter(OVERLAY).row(event) is not None) == concerns


def test_a_lost_connection_wakes() -> None:
    """A lost connection may be the cause of failures: the agent reconciles."""
    assert EventFilter(OVERLAY).row(RowEvent()) == Trigger("ovsdb", wakes=True)


def test_flows_of_ours() -> None:
    """Static flows of the overlay count; on the tunnel bridge all but learned ones."""
    events = EventFilter(NETDEV)
    ours = ownership.cookie("tenants", vlan=100, vni=100)
    learned = ownership.cookie("tenants", vlan=100, vni=100, learned=True)
    for bridge in ("br-mcast", "br-phy"):
        assert events.flow(FlowEvent(bridge, 30, ours)) == Trigger("flow")
        assert events.flow(FlowEvent(bridge, 20, learned)) is None
        assert events.flow(FlowEvent(bridge, lost=True)) == Trigger("flow")
    assert events.flow(FlowEvent("br-mcast", 0, 7)) == Trigger("flow")
    assert events.flow(FlowEvent("br-phy", 0, 7)) is None
    assert events.flow(FlowEvent("br-phy", 0, ownership.cookie("another"))) is None


@given(cookies)
def test_flows_that_are_not_ours(cookie: int) -> None:
    """On a bridge that others use, the mark decides."""
    ours = ownership.is_cookie(cookie, "tenants") and not ownership.is_learned(cookie)
    assert (EventFilter(NETDEV).flow(FlowEvent("br-phy", 0, cookie)) is not None) == ours


def test_what_is_watched() -> None:
    """Additions to table 20 are not watched, nor others' to br-int: they come all day."""
    assert set(EventFilter(OVERLAY).watched) == {"br-mcast", "br-int"}
    assert set(EventFilter(OVERLAY.replace(guard=False)).watched) == {"br-mcast"}
    watched = EventFilter(NETDEV).watched
    assert set(watched) == {"br-mcast", "br-phy", "br-int"}
    assert watched["br-int"] == (Watched(0, added=False),)
    assert {one.table: one.added for one in watched["br-mcast"]} == {
        0: True, 5: True, 6: True, 10: True, 15: True, 30: True, 20: False,
    }  # fmt: skip


def test_the_underlay_link() -> None:
    """Down, up and gone wake; up is to be measured; a repetition is ignored."""
    events = EventFilter(OVERLAY)
    down = replace(ETH0, up=False)
    assert EventFilter(OVERLAY).kernel(KernelEvent(down)) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(ETH0)) == Trigger("link", wakes=True, came_up=True)
    assert events.kernel(KernelEvent(ETH0)) is None
    assert events.kernel(KernelEvent(down)) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(ETH0)) == Trigger("link", wakes=True, came_up=True)
    assert events.kernel(KernelEvent(replace(ETH0, mtu=1400))) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(ETH0, gone=True)) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(ETH0)) == Trigger("link", wakes=True, came_up=True)


def test_the_underlay_gets_another_name() -> None:
    """The configuration names it: renamed, it counts as gone."""
    events = EventFilter(OVERLAY)
    events.kernel(KernelEvent(ETH0, index=7))
    renamed = replace(ETH0, name="eth9")
    assert events.kernel(KernelEvent(renamed, index=8)) is None
    assert events.kernel(KernelEvent(renamed, index=7)) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(renamed, index=7)) is None
    back = events.kernel(KernelEvent(ETH0, index=7))
    assert back == Trigger("link", wakes=True, came_up=True)


def test_other_links() -> None:
    """Only a Linux vxlan device can be a rival; it may cause failures until it goes."""
    events = EventFilter(OVERLAY)
    assert events.kernel(KernelEvent(replace(ETH0, name="eth1"))) is None
    rival = replace(ETH0, name="vx7", kind="vxlan", udp_port=4789)
    assert events.kernel(KernelEvent(rival)) == Trigger("link")
    assert events.kernel(KernelEvent(rival, gone=True)) == Trigger("link", wakes=True)
    assert events.kernel(KernelEvent(replace(rival, name="vxlan_sys_4789"))) is None


def test_addresses() -> None:
    """Those of the device: added, changed or removed; renewed lifetimes are ignored."""
    events = EventFilter(OVERLAY)
    assert events.kernel(KernelEvent(VTEP)) == Trigger("address")
    assert events.kernel(KernelEvent(VTEP)) is None
    assert events.kernel(KernelEvent(VTEP, gone=True)) == Trigger("address")
    assert events.kernel(KernelEvent(VTEP)) == Trigger("address")
    assert events.kernel(KernelEvent(replace(VTEP, device="eth1"))) is None
    tentative = replace(VTEP, address="fd00::1", prefixlen=64, tentative=True)
    assert events.kernel(KernelEvent(tentative)) == Trigger("address")
    sure = replace(tentative, tentative=False)
    assert events.kernel(KernelEvent(sure)) == Trigger("address", came_up=True)
    assert events.kernel(KernelEvent(sure)) is None


def test_routes_and_memberships() -> None:
    """To a group of ours, or marked as ours; a group of ours that is left."""
    events = EventFilter(OVERLAY)
    rival = replace(OURS, device="eth1", metric=5)
    old = replace(OURS, destination="239.0.0.9")
    for route in (OURS, rival, old):
        for gone in (True, False):
            assert events.kernel(KernelEvent(route, gone)) == Trigger("route")
    assert events.kernel(KernelEvent(replace(old, metric=None))) is None
    assert events.kernel(KernelEvent(Joined("eth0", "239.0.0.1"), gone=True)) == Trigger(
        "membership"
    )
    assert events.kernel(KernelEvent(Joined("eth0", "239.0.0.1"))) is None
    assert events.kernel(KernelEvent(Joined("eth0", "239.0.0.9"), gone=True)) is None
    assert events.kernel(KernelEvent(Joined("eth1", "239.0.0.1"), gone=True)) is None
    assert events.kernel(KernelEvent(Rule())) == Trigger("rule")


def test_lost_events_are_everything() -> None:
    """An overflow resets the remembered state: the next event of each item counts."""
    events = EventFilter(OVERLAY)
    events.kernel(KernelEvent(ETH0))
    events.kernel(KernelEvent(VTEP))
    assert events.kernel(KernelEvent(None)) == Trigger("overflow", wakes=True, moved="eth0")
    assert events.kernel(KernelEvent(VTEP)) == Trigger("address")
    assert events.kernel(KernelEvent(ETH0)) is not None


@pytest.mark.parametrize(
    ("name", "wakes"),
    [
        ("db.sock", True), ("ovs-vswitchd.pid", None), ("ovs-vswitchd.123.ctl", True),
        ("ovsdb-server.9.ctl", True), ("", True), ("br-mcast.mgmt", False),
        ("br-int.mgmt", False), ("br-mcast.snoop", None), ("ovs-vswitchd.log", None),
        ("br-ex.mgmt", None),
        ("conf.db", None), ("ovs-mcast-tenants.keeper", False), ("ovs-mcast-x.keeper", None),
    ],
)  # fmt: skip
def test_the_run_directory(name: str, wakes: bool | None) -> None:
    """Daemons by sockets (each ovs-appctl writes to a pid file), the tunnel bridge by its own."""
    found = EventFilter(OVERLAY).entry(EntryEvent(RUNDIR, name), RUNDIR)
    assert (None if found is None else found.wakes) == wakes


def test_the_run_directory_is_made() -> None:
    """In its parent only the run directory itself counts."""
    events = EventFilter(OVERLAY)
    made = EntryEvent(RUNDIR.parent, RUNDIR.name)
    assert events.entry(made, RUNDIR) == Trigger("vswitchd", wakes=True)
    assert events.entry(EntryEvent(RUNDIR.parent, "other"), RUNDIR) is None
    assert events.entry(EntryEvent(RUNDIR.parent, "db.sock"), RUNDIR) is None
