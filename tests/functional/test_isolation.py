"""No frame passes between segments, from outside any segment, or to hosts that did not join."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import BROADCAST, decode_vxlan

from .wire import (
    GROUP_1,
    GROUP_2,
    GROUP_MAC,
    HOSTS,
    NETS,
    Overlay,
    Row,
    flows,
    frame,
    hears,
    learned,
    mac_of,
    packet,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


# Segments are apart


@pytest.mark.either_datapath
@pytest.mark.parametrize("destination", [BROADCAST, "01:00:5e:01:02:03", "02:dd:00:00:00:02"])
def test_what_floods_stays_in_its_segment(overlay: Overlay, destination: str) -> None:
    """Everybody sends; everybody hears its own segment's frames, once each, and no others.

    h1, h2, l1, l2 ─ switch      VNI 100 and 70000 share a group, VNI 101 has its own
    """
    # The second round is the marker: what the first let through would be there before it.
    rounds = [{w.name: frame(w.mac, destination) for w in overlay.workloads} for _ in range(2)]
    wanted = {
        w.name: sorted(each[o.name] for each in rounds for o in overlay.workloads if o.vni == w.vni)
        for w in overlay.workloads
    }
    with ExitStack() as stack:
        heard = {w.name: stack.enter_context(hears(overlay.lab, w)) for w in overlay.workloads}
        for each in rounds:
            for workload in overlay.workloads:
                workload.send(each[workload.name])
        for capture in heard.values():
            capture.wait(2 * len(HOSTS))
        assert {name: sorted(capture.seen()) for name, capture in heard.items()} == wanted


@pytest.mark.either_datapath
def test_one_mac_in_two_segments_is_two(overlay: Overlay, mac: str) -> None:
    """Learned in each segment on its own, a MAC is sent to another VTEP in each, and not mixed up.

    h1 ─ switch ─ h2 (the MAC in VNI 100) and l1 (the same MAC in VNI 70000, of the same group)
    """
    lab = overlay.lab
    where = {100: "h2", 70_000: "l1"}
    for vni, name in where.items():
        with hears(lab, overlay["h1", vni]) as heard:
            overlay[name, vni].send(frame(mac))
            assert len(heard.wait(1)) == 1
    with ExitStack() as stack:
        wire = stack.enter_context(lab.capture(lab.switch, "h1", decode_vxlan))
        heard_by = {w.name: stack.enter_context(hears(lab, w)) for w in overlay.workloads}
        calls = {vni: frame(overlay["h1", vni].mac, mac) for vni in NETS}
        for vni, call in calls.items():
            overlay["h1", vni].send(call)
        assert [(p.vni, p.destination, p.inner) for p in wire.wait(3)] == [
            (100, overlay.vtep("h2"), calls[100]),
            # In VNI 101 nobody has heard of it.
            (101, GROUP_2, calls[101]),
            (70_000, overlay.vtep("l1"), calls[70_000]),
        ]
        markers = {vni: frame(overlay["h1", vni].mac) for vni in NETS}
        for vni, marker in markers.items():
            overlay["h1", vni].send(marker)
        for workload in overlay.workloads:
            heard_by[workload.name].wait(where=markers[workload.vni].__eq__)
        hearers = {
            vni: {name for name, capture in heard_by.items() if call in capture.seen()}
            for vni, call in calls.items()
        }
    assert hearers == {
        100: {"h1-100", "h2-100"},
        101: {f"{name}-101" for name in HOSTS},
        70_000: {"h1-70000", "l1-70000"},
    }


# What no host should have sent


@dataclass(frozen=True)
class Refused:
    """A packet, and where it stops: the flow that takes it last."""

    stops_at: Callable[[Row], bool]
    source: str = ""
    destination: str = GROUP_1
    vni: int = 100
    inner_source: str = ""


_H1 = "10.0.0.1"
_REFUSED = {
    "unknown VNI": Refused(lambda r: (r.table, r.priority) == (0, 80), vni=999),
    "unknown VNI, to the VTEP": Refused(
        lambda r: f"tun_dst={_H1}" in r.match, vni=999, destination=_H1
    ),
    "another segment's group": Refused(
        lambda r: (r.table, r.priority) == (0, 80), destination=GROUP_2
    ),
    "our own address": Refused(lambda r: f"tun_src={_H1}" in r.match, source=_H1),
    "inner source is a group": Refused(
        lambda r: r.match.startswith("in_port=2,dl_src="), inner_source="03:00:00:00:00:01"
    ),
}


@pytest.mark.either_datapath
@pytest.mark.parametrize("what", _REFUSED)
def test_what_is_refused_reaches_nobody(overlay: Overlay, mac: str, what: str) -> None:
    """A packet of another VNI, of another segment's group, of our own address, of no sane MAC.

    l1 (a raw packet on its eth0, then a good one) ─ switch ─ h1 (counts, delivers the good one)
    """
    refused, lab, h1 = _REFUSED[what], overlay.lab, overlay.h1
    bad, good = frame(refused.inner_source or mac), frame(mac.replace("cc", "cd"))
    here = mac_of(overlay.l1, "eth0")
    there = GROUP_MAC.get(refused.destination, mac_of(h1, h1.underlay))
    source = refused.source or overlay.l1.vtep
    before = taken(overlay, refused)
    with ExitStack() as stack:
        wire = stack.enter_context(PacketSocket("eth0", namespace=overlay.l1.pid))
        heard = [stack.enter_context(hears(lab, overlay["h1", vni])) for vni in NETS]
        wire.send(packet(source, refused.destination, refused.vni, bad, eth=(here, there)))
        wire.send(packet(overlay.l1.vtep, GROUP_1, 100, good, eth=(here, GROUP_MAC[GROUP_1])))
        assert heard[0].wait(1) == [good]
        assert [capture.seen() for capture in heard] == [[good], [], []]
    # Not lost on the way: it came to the flow that has the last word on it. The good one passes the
    # flow for groups, and goes on from it.
    good_too = refused.stops_at(Row(0, 80, "in_port=2", "", 0, 0.0))
    wanted = (before[0] + 1 + good_too, before[1] + 1)
    if h1.kind == "kernel" and source == h1.vtep:
        wanted = (before[0], wanted[1])  # Linux itself takes nothing in that comes from itself
    assert taken(overlay, refused) == wanted
    assert set(learned(h1, 100)) & {mac, mac.replace("cc", "cd"), refused.inner_source} == {
        mac.replace("cc", "cd")
    }


def taken(overlay: Overlay, refused: Refused) -> tuple[int, int]:
    """How often the flow where it stops was taken, and how many frames were delivered at all."""
    # What the datapath has counted and not yet told, it tells when its flows are taken away.
    overlay.h1.appctl("revalidator/purge")
    (stop,) = (row for row in flows(overlay.h1, 0) if refused.stops_at(row))
    return stop.packets, sum(row.packets for row in flows(overlay.h1, 15))
