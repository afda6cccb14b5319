"""Setup while traffic runs: of the segments that stay, no frame is lost and nothing forgotten."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from ovs_mcast.core.frames import decode_vxlan
from ovs_mcast.lab import Lab

from .streams import RATE, Stream
from .wire import GROUP_1, GROUP_2, eventually, frame, hears, learned, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


def test_traffic_runs_on_while_other_segments_come_and_go(lab: Lab) -> None:
    """Setup again, with more segments and with fewer: every frame of VNI 100 arrives, once.

    h1 (setup, four times) ─ switch ─ l1      VNI 100: unicast and broadcast, both ways, all along
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    stays = f"--segment=100,group={GROUP_1}"
    # One in a group of its own, one in the group of VNI 100.
    comes = (f"--segment=101,group={GROUP_2}", f"--segment=102,group={GROUP_1}")
    assert host.setup(stays).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    with hears(lab, there) as heard:
        there.send(frame(there.mac))
        here.send(frame(here.mac))
        assert len(heard.wait(2)) == 2
    assert eventually(lambda: there.mac in learned(host, 100))
    with ExitStack() as stack:
        wire = stack.enter_context(lab.capture(lab.switch, "h1", decode_vxlan))
        streams = [
            stack.enter_context(Stream(one, other, broadcast=broadcast))
            for one, other in ((here, there), (there, here))
            for broadcast in (False, True)
        ]
        since, before = time.monotonic(), learned(host, 100)[there.mac]
        changed = []
        for segments in ((stays,), (stays, *comes), (stays, *comes), (stays,)):
            run = host.setup(*segments)
            assert run.status == 0
            changed.append(run.report["changed"])
        after = learned(host, 100)[there.mac]
        elapsed = time.monotonic() - since
        for stream in streams:
            stream.stop()
        for stream in streams:
            assert stream.not_once() == {}
        # The unicast went to the VTEP all along: what was learned was never away.
        outer = {
            (packet.source, packet.destination)
            for packet in wire.seen()
            if packet.inner[:6] != b"\xff" * 6
        }
    assert changed == [False, True, False, True]
    assert outer == {(host.vtep, peer.vtep), (peer.vtep, host.vtep)}
    assert after.age >= before.age + elapsed - 1
    assert min(stream.sent for stream in streams) > RATE
