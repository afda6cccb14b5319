"""Membership reports as the RFCs have them, as few as fit the MTU."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.core.frames import internet_checksum
from ovs_mcast.core.reports import ALL_IGMPV3, ALL_MLDV2, Report, reports

FOUR = st.integers(0xE0000100, 0xEFFFFFFF).map(lambda number: str(ip_address(number)))
SIX = st.integers(1, 1 << 112).map(lambda number: str(ip_address((0xFF05 << 112) + number)))


def test_igmpv3() -> None:
    """Two groups are one report to 224.0.0.22 (RFC 3376, 4.2)."""
    [report] = reports(["239.0.0.1", "239.0.0.2"], 1500, 3)
    assert report.destination == ALL_IGMPV3
    assert report.payload.hex() == "2200f7f8" + "00000002" + "04000000ef000001" + "04000000ef000002"


def test_igmpv2() -> None:
    """Each group has a report of its own, to the group (RFC 2236, 2)."""
    [first, second] = reports(["239.0.0.1", "239.0.0.2"], 1500, 2)
    assert first == Report("239.0.0.1", bytes.fromhex("1600fafdef000001"))
    assert second.destination == "239.0.0.2"


def test_mldv2() -> None:
    """The report goes to ff02::16; the kernel writes its checksum (RFC 3810, 5.2)."""
    [report] = reports(["ff05::7:1"], 1500, 3)
    assert report.destination == ALL_MLDV2
    assert report.payload.hex() == "8f00000000000001" + "04000000" + "ff05" + "00" * 10 + "00070001"


@given(st.lists(FOUR, unique=True), st.lists(SIX, unique=True), st.integers(576, 9000))
def test_every_group_is_reported_once(four: list[str], six: list[str], mtu: int) -> None:
    """Each report fits the MTU, has as many records as it says, and a right checksum."""
    found: list[str] = []
    for report in reports([*six, *four], mtu, 3):
        old = report.destination == ALL_IGMPV3
        size = 4 if old else 16
        (number,) = struct.unpack_from("!H", report.payload, 6)
        assert len(report.payload) == 8 + number * (4 + size)
        assert len(report.payload) + (24 if old else 48) <= mtu
        assert not old or internet_checksum(report.payload) == 0
        starts = range(12, len(report.payload), 4 + size)
        found += [str(ip_address(report.payload[at : at + size])) for at in starts]
    assert sorted(found) == sorted([*four, *six])
