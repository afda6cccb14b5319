"""What `status` shows, and what the metrics count, on a machine in memory."""

from __future__ import annotations

from typing import Any

import pytest

from ovs_mcast.agent.flow_metrics import FlowMetrics, dump_from
from ovs_mcast.core.model import Datapath, Overlay
from ovs_mcast.core.status import OverlayStatus
from ovs_mcast.errors import UnavailableError
from ovs_mcast.host.inspector import Inspector
from ovs_mcast.testing import FakeHost

ONE, TWO = "239.0.0.1", "239.0.0.2"


def overlay(datapath: Datapath, **more: Any) -> Overlay:
    segments = [{"vni": 100, "group": ONE}, {"vni": 101, "group": TWO, "vlan": 12}]
    wanted = {
        "underlay": {"device": FakeHost(datapath=datapath).device},
        "datapath": datapath,
        "segments": segments,
        **more,
    }
    return Overlay.model_validate(wanted)


def seen(host: FakeHost) -> OverlayStatus:
    inspector = Inspector(backend=host.backend)
    assert inspector.overlays() == ["default"]
    return inspector.look("default")


@pytest.mark.parametrize("datapath", ["system", "netdev"])
@pytest.mark.parametrize(
    ("method", "who", "path"),
    [
        ("socket", "keeper", "wire"),
        ("autojoin", "kernel", "loopback"),
        ("repaired", "kernel", "wire"),
    ],
)
def test_an_overlay_is_found_again_by_its_marks(
    datapath: Datapath, method: str, who: str, path: str
) -> None:
    """Segments, groups, method and holder come from the machine alone; nothing is changed."""
    host, wanted = FakeHost(datapath=datapath), overlay(datapath, membership=method)
    host.reconcile(wanted)
    made = host.made
    found = seen(host)
    assert found.healthy, found.problems
    assert found.held_by is not None
    assert found.held_by.who == who
    assert {
        vni: (one.vlan, one.group, one.joined_by, one.send_path)
        for vni, one in found.segments.items()
    } == {100: (100, ONE, method, path), 101: (12, TWO, method, path)}
    assert host.made == made


def test_a_machine_without_an_overlay() -> None:
    assert Inspector(backend=FakeHost().backend).overlays() == []


@pytest.mark.parametrize("datapath", ["system", "netdev"])
def test_what_is_missing_is_a_problem(datapath: Datapath) -> None:
    """A lost flow, port, route or keeper makes the overlay unhealthy until a reconcile."""
    wanted = overlay(datapath, membership="socket")
    for name in ("flow-deleted", "port-deleted", "patch-deleted", "route-deleted", "keeper-killed"):
        host = FakeHost(datapath=datapath)
        host.reconcile(wanted)
        host.happens(name)
        found = seen(host)
        assert not found.healthy, name
        assert found.problems
        host.reconcile(wanted)
        assert seen(host).healthy


def test_without_ovs_vswitchd() -> None:
    host = FakeHost()
    host.reconcile(overlay("system"))
    host.fault("vswitchd-away")
    with pytest.raises(UnavailableError):
        Inspector(backend=host.backend).look("default")


def test_metrics_of_the_flows() -> None:
    """Segments in place are those with all flows and a joined group."""
    host, wanted = FakeHost(), overlay("system", membership="socket")
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
