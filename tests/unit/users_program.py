"""A user's program; mypy --strict checks it, nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_type

from netaddr import IPAddress

import ovs_mcast as om
from ovs_mcast import aio


def wanted() -> om.Overlay:
    underlay = om.Underlay(device="eth0", vtep="10.0.0.1", ttl=8)
    assert_type(underlay.vtep, IPAddress | None)
    segment = om.Segment(vni=5050, vlan=10, group="239.1.1.50")
    assert_type(segment.vni, int)
    assert_type(segment.group, IPAddress | None)
    assert_type(segment.flood_group, IPAddress)
    overlay = om.Overlay(name="tenants", underlay=underlay, segments=[segment], groups=None)
    assert_type(overlay.segments, tuple[om.Segment, ...])
    return overlay


def kept(overlay: om.Overlay) -> Iterator[str]:
    with om.connect(holding="here") as host:
        assert_type(host, om.Host)
        changes = host.plan(overlay)
        assert_type(changes, om.Plan)
        for change in changes:
            assert_type(change, om.Change)
            yield str(change)
        assert_type(host.observe(overlay), om.Observed)
        assert_type(om.plan(overlay, host.observe("tenants")), om.Plan)
        status = host.reconcile(overlay)
        assert_type(status, om.Status)
        assert_type(status[5050], om.SegmentStatus)
        assert_type(status.segments, Mapping[int, om.SegmentStatus])
        assert_type(status[5050].joined_by, str)
        assert_type(status.to_json(), dict[str, object])
        assert_type(host.add(om.Segment(vni=7), name="tenants"), om.Status)
        assert_type(host.remove(7), om.Status)
        assert_type(host.overlay(), om.Overlay)
        assert_type(host.overlays(), list[str])
        assert_type(host.verify(overlay).verified, bool)
        host.hand_over()


async def kept_by_asyncio(overlay: om.Overlay) -> None:
    async with aio.connect(rundir="/run/openvswitch") as host:
        assert_type(await host.plan(overlay), om.Plan)
        assert_type(await host.reconcile(overlay), om.Status)
        assert_type(await host.add(om.Segment(vni=7)), om.Status)
        assert_type(await host.overlay("tenants"), om.Overlay)


def refused(overlay: om.Overlay) -> Any:
    try:
        return om.connect().reconcile(overlay)
    except om.ConfigurationError as error:
        assert_type(error.field, str)
    except om.ClosedError as error:
        return error.exit_status
    except om.UnavailableError as error:
        assert_type(error.exit_status, int)
    except om.ApplyError as error:
        assert_type(error.pending, tuple[om.Change, ...])
    except om.VerifyError as error:
        assert_type(error.problems, tuple[str, ...])
    except om.OvsMcastError as error:
        return str(error)
