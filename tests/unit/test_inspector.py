"""What `status` shows, on a host in memory: the inspector reads it back from its marks alone."""

from __future__ import annotations

import pytest

import ovs_mcast as om
from ovs_mcast.agent.flow_metrics import FlowMetrics, dump_from
from ovs_mcast.core.fields import Datapath
from ovs_mcast.core.status import Holder, OverlayStatus
from ovs_mcast.host.inspector import Inspector
from ovs_mcast.testing import HAPPENINGS, FakeHost, Happening

from .test_fake_host import DEVICES, KINDS, fake, overlay


def inspected(host: FakeHost, name: str = "default") -> OverlayStatus:
    """Return the inspection of one overlay; the host lives on."""
    before = host.made
    found = Inspector(host.backend).inspect(name)
    assert host.made == before
    return found


@pytest.mark.parametrize(("datapath", "family", "method"), KINDS)
def test_an_overlay_is_read_back_as_it_was_applied(
    datapath: Datapath, family: int, method: str
) -> None:
    """Every method, datapath and family is healthy, with the segments that the run reported."""
    host, applied = fake(datapath), overlay(datapath, family, method)
    status = host.reconcile(applied)
    found = inspected(host)
    assert (found.healthy, found.problems) == (True, status.problems)
    assert found.underlay == DEVICES[datapath]
    assert found.vtep == {4: "10.0.0.1", 6: "fd00::1"}[family]
    assert (found.datapath, found.bridge, found.tunnel_bridge) == (datapath, "br-int", "br-mcast")
    by_socket = method in {"socket", "auto"}
    assert found.held_by == (Holder("keeper", 1) if by_socket else Holder("kernel"))
    for vni, seen in found.segments.items():
        run = status[vni]
        assert (seen.vlan, seen.group) == (run.vlan, run.group)
        assert (seen.joined_by, seen.send_path) == (run.joined_by, run.send_path)
        assert seen.traffic.complete
    assert found.segments.keys() == status.segments.keys()


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize(("datapath", "method"), [("system", "socket"), ("netdev", "repaired")])
def test_what_a_run_would_change_is_unhealthy(
    datapath: Datapath, method: str, happening: Happening
) -> None:
    """After each event, status is healthy only if a run has nothing to do."""
    host, applied = fake(datapath), overlay(datapath, 4, method)
    host.reconcile(applied)
    host.happens(happening)
    found = inspected(host)
    try:
        changes = host.plan(applied)
    except (om.ConfigurationError, om.UnavailableError):
        assert not found.healthy
        return
    assert found.healthy is (not changes and host.verify(applied).verified)
    assert found.healthy or found.problems


def test_a_keeper_that_was_killed_is_reported() -> None:
    """The groups are no longer joined, and no process holds them."""
    host = fake()
    host.reconcile(overlay(method="socket"))
    host.happens("keeper-killed")
    found = inspected(host)
    assert found.held_by == Holder("nobody")
    assert {seen.joined_by for seen in found.segments.values()} == {"none"}
    assert not found.healthy
    assert "no process holds the groups: run setup again" in found.problems
    assert "eth0 is not a member of 239.0.0.1" in found.problems


def test_overlays_are_found_by_their_rows() -> None:
    """Two overlays on one host are two; an overlay that was torn down is none."""
    host = fake()
    inspector = Inspector(host.backend)
    assert inspector.overlays() == []
    host.reconcile(overlay())
    assert inspector.overlays() == host.overlays() == ["default"]
    host.teardown("default")
    assert inspector.overlays() == []
    assert inspected(host).problems == ("its tunnel bridge is missing",)


def test_without_ovs_vswitchd() -> None:
    """Flows that cannot be read are an error, not an overlay without flows."""
    host = fake()
    host.reconcile(overlay())
    host.fault("vswitchd-away")
    with pytest.raises(om.UnavailableError):
        inspected(host)


def test_metrics_of_the_flows() -> None:
    """Segments in place are those with all flows and a joined group."""
    host, wanted = FakeHost(), overlay(method="socket")
    platform = host.platform()

    def sample(name: str) -> float:
        flows = FlowMetrics(dump_from(platform.counted_flows), platform.joined)
        flows.wanted = wanted
        return next(one.samples[0].value for one in flows.collect() if one.name == name)

    assert sample("ovs_mcast_open_vswitch_up") == 0
    host.reconcile(wanted)
    assert sample("ovs_mcast_open_vswitch_up") == 1
    assert sample("ovs_mcast_segments_in_place") == 2
    host.happens("flow-deleted")
    assert sample("ovs_mcast_segments_in_place") == 1
    host.fault("vswitchd-away")
    assert sample("ovs_mcast_open_vswitch_up") == 0
