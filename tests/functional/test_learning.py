"""Where known unicast goes: learned, followed, aged; and a flood of addresses that harms nobody."""

from __future__ import annotations

import os
import time

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import (
    BROADCAST,
    ETHERTYPE_EXPERIMENTAL,
    VxlanPacket,
    decode_vxlan,
    ethernet,
)
from ovs_mcast.lab import Capture, Lab, Workload
from ovs_mcast.lab.namespace import patient

from .test_status import shown
from .warm import Warm
from .wire import (
    GROUP_1,
    GROUP_2,
    GROUP_MAC,
    HOSTS,
    Overlay,
    eventually,
    flows,
    frame,
    hears,
    learned,
    mac_of,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

_AGING = patient(3)
# Open vSwitch counts what is learned for each new MAC: one costs it 0.1 ms with this limit, and
# 0.5 ms with the default one, which would make the test five times as long.
_LIMIT = 256
_FLOOD = 100_000


# Learned, and followed


@pytest.mark.either_datapath
@pytest.mark.parametrize(("here", "there"), [("h1", "l1"), ("l1", "h1"), ("h1", "h2")])
def test_unicast_goes_to_the_one_vtep_that_has_the_mac(
    overlay: Overlay, mac: str, here: str, there: str
) -> None:
    """Unknown, a MAC is asked for by the group; once it has answered, by its VTEP alone.

    here (asks) ─ switch ─ there (answers), and a third host, which hears only the question
    """
    lab, asking, other = overlay.lab, overlay[here, 100], mac.replace("cc", "ce")
    question = frame(other, mac)
    answer, again = frame(mac, other), frame(other, mac)
    third = next(name for name in HOSTS if name not in {here, there})
    with (
        lab.capture(lab.switch, here, decode_vxlan) as wire,
        hears(lab, overlay[there, 100]) as answering,
        hears(lab, overlay[third, 100]) as aside,
    ):
        asking.send(question)
        assert answering.wait(1) == [question]
        overlay[there, 100].send(answer)
        wire.wait(2)
        overlay.settle(here)
        asking.send(again)
        assert answering.wait(3) == [question, answer, again]
        # What the third would hear of the unicast is on its way before this.
        marker = frame(other)
        asking.send(marker)
        assert aside.wait(2) == [question, marker]
        ours, theirs = overlay.vtep(here), overlay.vtep(there)
        assert [(p.source, p.destination, p.inner) for p in wire.seen()] == [
            (ours, GROUP_1, question),
            (theirs, ours, answer),
            (ours, theirs, again),
            (ours, GROUP_1, marker),
        ]


@pytest.mark.either_datapath
@pytest.mark.parametrize(
    ("follower", "way"), [("h1", ("l1", "h2", "l1")), ("h2", ("h1", "l1", "h1"))]
)
def test_a_mac_that_moves_is_followed(
    overlay: Overlay, mac: str, follower: str, way: tuple[str, ...]
) -> None:
    """One frame from its new place is enough, there and back again.

    Open vSwitch learns at once from the first frame of its kind; from a frame that takes the fast
    path it learns when it next looks at its statistics, half a second later at most.

    follower ─ switch ─ the two others: the MAC is at one of them, then at the other
    """
    lab, sender = overlay.lab, overlay[follower, 100]
    with (
        lab.capture(lab.switch, follower, decode_vxlan) as wire,
        hears(lab, sender) as heard,
    ):
        for place in way:
            call = frame(mac)
            overlay[place, 100].send(call)
            assert heard.wait(where=call.__eq__) == [call]

            def followed(place: str = place) -> bool:
                answer = frame(sender.mac, mac)
                sender.send(answer)
                return sent_to(wire, answer) == [overlay.vtep(place)]

            assert eventually(followed)


# Aged


@pytest.fixture
def short_lived(lab: Lab, warm: Warm) -> Lab:
    """h1 (forgets after three seconds) ─ switch ─ l1, in VNI 100."""
    host, peer = lab.add_host(), lab.add_linux_host()
    host.add_workload(vlan=100)
    peer.add_segment(vni=100, group=GROUP_1)
    run = warm.setup(host, f"--segment=100,group={GROUP_1}", f"--aging={_AGING:.0f}")
    assert run.status == 0, run
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    return lab


@pytest.mark.either_datapath
def test_a_silent_mac_is_forgotten_and_a_speaking_one_kept(short_lived: Lab) -> None:
    """A MAC is kept while it sends, not while it is sent to; frames to a forgotten MAC are flooded.

    h1 (aging 3 s; sends to both MACs all the time) ─ switch ─ l1 (one speaks on, one is silent)
    """
    lab = short_lived
    (host,), (here, there) = lab.hosts, lab.workloads
    speaks, silent = "02:cf:00:00:00:01", "02:cf:00:00:00:02"
    with lab.capture(lab.switch, "h1", decode_vxlan) as wire, hears(lab, here) as heard:
        for mac in (silent, speaks):
            there.send(frame(mac))
        heard.wait(2)
        assert set(learned(host, 100)) == {speaks, silent}
        since = time.monotonic()

        def forgotten() -> bool:
            there.send(frame(speaks))
            call, other = frame(here.mac, speaks), frame(here.mac, silent)
            here.send(call)
            here.send(other)
            assert sent_to(wire, call) == ["10.0.0.2"]
            return sent_to(wire, other) == [GROUP_1]

        assert eventually(forgotten, seconds=15)
        assert time.monotonic() - since > _AGING - patient(0.2)
    (kept,) = learned(host, 100).items()
    assert kept[0] == speaks
    assert kept[1].age > _AGING


# Flooded


def test_a_flood_of_addresses_stops_at_the_limit(lab: Lab) -> None:
    """100,000 random source MACs fill their segment's room, no more, and all that worked goes on.

    h1 ─ switch ─ l1 (floods VNI 100), l2 (a new MAC in VNI 100, and VNI 101)
    """
    host, flooder, other = lab.add_host(), lab.add_linux_host(), lab.add_linux_host()
    here, here_101 = host.add_workload(vlan=100), host.add_workload(vlan=101)
    known = flooder.add_segment(vni=100, group=GROUP_1)
    new, new_101 = (
        other.add_segment(vni=vni, group=group) for vni, group in ((100, GROUP_1), (101, GROUP_2))
    )
    segments = (f"--segment=100,group={GROUP_1}", f"--segment=101,group={GROUP_2}")
    assert host.setup(*segments, f"--learned-limit={_LIMIT}").status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1", "l2"})
    wait_for_members(lab, GROUP_2, {"h1", "l2"})
    shout(lab, known, here)
    assert flood(lab) == _FLOOD
    assert len(learned(host, 100)) == _LIMIT
    assert learned(host, 101) == {}
    with lab.capture(lab.switch, "h1", decode_vxlan) as wire, hears(lab, new) as heard:
        # Learned before the flood: still sent to its VTEP.
        to_known = frame(here.mac, known.mac)
        here.send(to_known)
        assert sent_to(wire, to_known) == [flooder.vtep]
        # New in the flooded segment: heard, and reached by the group.
        shout(lab, new, here)
        to_new = frame(here.mac, new.mac)
        here.send(to_new)
        assert heard.wait(where=to_new.__eq__) == [to_new]
        assert sent_to(wire, to_new) == [GROUP_1]
        # New in the other segment: learned.
        shout(lab, new_101, here_101)
        to_new_101 = frame(here_101.mac, new_101.mac)
        here_101.send(to_new_101)
        assert sent_to(wire, to_new_101) == [other.vtep]
    assert len(learned(host, 100)) == _LIMIT
    assert set(learned(host, 101)) == {new_101.mac}
    [full] = shown(host)["problems"]
    assert full.startswith(f"segment 100 has learned {_LIMIT} MACs, its limit")
    # What is learned and the flow for what is not: nothing else is in the table.
    assert len(flows(host, 20)) == _LIMIT + 2


def flood(lab: Lab) -> int:
    """A frame from each of so many MACs at l1, in VNI 100, as fast as h1 takes them in.

    Returns how many of them its workload heard.
    """
    flooder, here = lab.linux_hosts[0], lab.workloads[0]
    inner = ethernet(BROADCAST, "00:00:00:00:00:00", ETHERTYPE_EXPERIMENTAL, b"flood")
    outer = (mac_of(flooder, "eth0"), GROUP_MAC[GROUP_1])
    pattern = packet(flooder.vtep, GROUP_1, 100, inner, eth=outer)
    before, after = pattern[: -len(inner) + 6], pattern[-len(inner) + 12 :]
    heard = 0
    with (
        PacketSocket("eth0", namespace=flooder.pid) as wire,
        here.listen(ethertype=ETHERTYPE_EXPERIMENTAL) as listener,
    ):
        # More than this at once, and the queue of h1's eth0 overflows.
        for batch in range(0, _FLOOD, 200):
            for each in range(batch, batch + 200):
                wire.send(before + b"\x06" + each.to_bytes(3) + os.urandom(2) + after)
            while heard < batch + 200 and listener.receive(2) is not None:
                heard += 1
    return heard


def shout(lab: Lab, sender: Workload, hearer: Workload) -> None:
    """Let one workload broadcast until the other has heard it."""
    call = frame(sender.mac)
    with hears(lab, hearer) as heard:
        sender.send(call)
        assert heard.wait(where=call.__eq__) == [call]


def sent_to(wire: Capture[VxlanPacket], inner: bytes) -> list[str]:
    """The outer destinations under which a frame was sent: one, if all is well."""
    wire.wait(where=lambda packet: packet.inner == inner)
    return [packet.destination for packet in wire.seen() if packet.inner == inner]
