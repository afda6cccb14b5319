"""Memberships and limits of this network namespace, from /proc."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

from ..core.observed import ArpSettings, Limits

_IGMP = Path("/proc/thread-self/net/igmp")
_NETSTAT = Path("/proc/thread-self/net/netstat")
_IGMP6 = Path("/proc/thread-self/net/igmp6")
_SYSCTL = Path("/proc/sys/net")


def joined(device: str) -> frozenset[str]:
    """Return the groups, IPv4 and IPv6, of which the device is a member."""
    return frozenset(_joined_v4(_read(_IGMP), device) | _joined_v6(_read(_IGMP6), device))


def is_member(device: str, group: str) -> bool:
    """Return whether the device is a member of one group, without parsing all others."""
    if ":" in group:
        number = socket.inet_pton(socket.AF_INET6, group).hex()
        lines = (line.split() for line in _read(_IGMP6).splitlines() if number in line)
        return any(line[1:3] == [device, number] for line in lines)
    (packed,) = struct.unpack("=I", socket.inet_aton(group))
    text = _read(_IGMP)
    found = re.search(rf"^\d+\t{re.escape(device)} *:.*$", text, re.MULTILINE)
    if found is None:
        return False
    following = re.compile(r"^\d", re.MULTILINE).search(text, found.end())
    end = following.start() if following else len(text)
    return text.find(f"\t{packed:08X} ", found.end(), end) >= 0


def igmp_version(device: str) -> int:
    """Return the version of IGMP that the device speaks, as its querier does; 3 if unknown."""
    found = re.search(rf"^\d+\t{re.escape(device)} *:.*\bV([123])$", _read(_IGMP), re.MULTILINE)
    return int(found[1]) if found else 3


def limits() -> Limits:
    """Return the two sysctls that limit autojoin; None where this namespace lacks them."""
    return Limits(
        igmp_max_memberships=_number(_SYSCTL / "ipv4" / "igmp_max_memberships"),
        optmem_max=_number(_SYSCTL / "core" / "optmem_max"),
    )


def arp_settings(device: str) -> ArpSettings:
    """Return the sysctls that decide whether a device answers ARP; 0 where they are missing."""

    def larger(name: str) -> int:
        values = (_number(_SYSCTL / "ipv4" / "conf" / one / name) for one in ("all", device))
        return max(value or 0 for value in values)

    return ArpSettings(larger("arp_ignore"), larger("rp_filter"))


def reverse_path_drops() -> int:
    """Return how many packets rp_filter dropped here: TcpExtIPReversePathFilter of nstat(8)."""
    names, values = (line.split() for line in _read(_NETSTAT).splitlines()[:2])
    return int(dict(zip(names, values, strict=True)).get("IPReversePathFilter", 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # a kernel without the family
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, PermissionError, ValueError):
        return None


def _joined_v4(text: str, device: str) -> set[str]:
    """Parse a line per device, then an indented line per group, in host byte order."""
    groups = set()
    current = ""
    for line in text.splitlines()[1:]:
        if not line[:1].isspace():
            current = line.split("\t")[1].split(":")[0].strip()
        elif current == device:
            groups.add(socket.inet_ntoa(struct.pack("=I", int(line.split()[0], 16))))
    return groups


def _joined_v6(text: str, device: str) -> set[str]:
    rows = (line.split() for line in text.splitlines())
    return {
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[2]))
        for row in rows
        if len(row) > 2 and row[1] == device
    }
