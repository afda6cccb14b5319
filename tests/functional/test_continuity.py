"""Setup while traffic runs: of the segments that stay, no frame is lost and nothing forgotten."""

from __future__ import annotations

import struct
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from threading import Event, Thread
from types import TracebackType
from typing import Self

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import (
    BROADCAST,
    ETHERTYPE_EXPERIMENTAL,
    decode_ethernet,
    decode_vxlan,
    ethernet,
)
from ovs_mcast.lab import Lab, Workload

from .wire import GROUP_1, GROUP_2, eventually, frame, hears, learned, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

# Frames a second, of each stream. Many more, and the queue of a host's eth0 overflows when its
# ovs-vswitchd gets no processor for some tenths of a second.
_RATE = 100
_NUMBER = struct.Struct("!HI")


class Stream:
    """Numbered frames from one workload to another, or to all, from now until ``stop``."""

    _names = count(1)

    def __init__(self, sender: Workload, hearer: Workload, *, broadcast: bool) -> None:
        self.name = next(self._names)
        self.sent = 0
        self._destination = BROADCAST if broadcast else hearer.mac
        self._source = sender.mac
        self._wire = PacketSocket("eth0", namespace=sender.pid)
        self._ear = hearer.listen(ethertype=ETHERTYPE_EXPERIMENTAL)
        self._over = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._wire.close()
        self._ear.close()

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join()

    def not_once(self) -> dict[int, int]:
        """The numbers that were not heard exactly once, and how often they were."""
        end, heard = time.monotonic() + 5, Counter[int]()
        while time.monotonic() < end and not heard[self.sent - 1]:
            heard.update(self._numbers(0.1))
        # Duplicates would come right behind.
        heard.update(self._numbers(0.1))
        return {number: heard[number] for number in range(self.sent) if heard[number] != 1}

    def _numbers(self, seconds: float) -> list[int]:
        seen = filter(None, map(decode_ethernet, self._ear.frames(seconds)))
        read = [_NUMBER.unpack_from(each.payload) for each in seen if each.source == self._source]
        return [number for name, number in read if name == self.name]

    def _run(self) -> None:
        while not self._over.wait(1 / _RATE):
            payload = _NUMBER.pack(self.name, self.sent)
            self._wire.send(
                ethernet(self._destination, self._source, ETHERTYPE_EXPERIMENTAL, payload)
            )
            self.sent += 1


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
    assert min(stream.sent for stream in streams) > _RATE
