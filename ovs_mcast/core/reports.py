"""Membership reports: the payloads of IGMP (RFC 2236, RFC 3376) and MLDv2 (RFC 3810). Pure.

The kernel reports a membership when it begins, and when a querier asks. After a failover below the
device another port of the switch has heard neither.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from .frames import internet_checksum

ALL_IGMPV3 = "224.0.0.22"
ALL_MLDV2 = "ff02::16"

_IGMPV2_REPORT, _IGMPV3_REPORT, _MLDV2_REPORT = 0x16, 0x22, 143
_TO_EXCLUDE = 4  # CHANGE_TO_EXCLUDE_MODE without sources: a join
_REPORT = struct.Struct("!BxHHH")  # type, checksum, reserved, number of records
_RECORD = struct.Struct("!BBH")  # type, auxiliary data, number of sources; the group follows
_IPV4_BYTES, _IPV6_BYTES = 24, 48  # headers with the router alert option


@dataclass(frozen=True, slots=True)
class Report:
    """One report: its destination, and the payload after the IP header and its options.

    The checksum of MLD is 0: the kernel writes it, as of all ICMPv6 (RFC 3542, 3.1).
    """

    destination: str
    payload: bytes


def reports(groups: Sequence[str], mtu: int, igmp_version: int) -> Iterator[Report]:
    """Yield the reports that join these groups, IPv4 and IPv6, in as few packets as fit the MTU.

    ``igmp_version`` is what the device speaks (the column Querier of /proc/net/igmp). Below 3, each
    group has a report of its own, that of version 2.
    """
    four = [group for group in groups if ":" not in group]
    six = [group for group in groups if ":" in group]
    if igmp_version < 3:
        for group in four:
            report = struct.pack("!BxH4s", _IGMPV2_REPORT, 0, IPv4Address(group).packed)
            yield Report(group, _summed(report))
    else:
        for some in _parts(four, (mtu - _IPV4_BYTES - _REPORT.size) // (_RECORD.size + 4)):
            packed = [IPv4Address(group).packed for group in some]
            yield Report(ALL_IGMPV3, _summed(_report(_IGMPV3_REPORT, packed)))
    for some in _parts(six, (mtu - _IPV6_BYTES - _REPORT.size) // (_RECORD.size + 16)):
        packed = [IPv6Address(group).packed for group in some]
        yield Report(ALL_MLDV2, _report(_MLDV2_REPORT, packed))


def _report(kind: int, groups: Sequence[bytes]) -> bytes:
    head = _REPORT.pack(kind, 0, 0, len(groups))
    return head + b"".join(_RECORD.pack(_TO_EXCLUDE, 0, 0) + group for group in groups)


def _summed(report: bytes) -> bytes:
    return report[:2] + struct.pack("!H", internet_checksum(report)) + report[4:]


def _parts(groups: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(groups), size):
        yield groups[start : start + size]
