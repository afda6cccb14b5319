"""A querier elsewhere in the network that asks once: the switch then snoops, and asks nobody.

So nothing but a report of its own brings a group to a port of the switch.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ethernet, internet_checksum
from ovs_mcast.lab import Lab

_MAC = "02:00:00:00:00:fe"
_RESPONSE = 1  # a tenth of a second, and a hundred milliseconds in MLD: answers must come within


def ask_once(lab: Lab) -> None:
    """Let a querier elsewhere ask for all groups, instead of the switch."""
    lab.switch.run("ip", "link", "set", "br0", "type", "bridge", "mcast_querier", "0")
    with PacketSocket("test-b", namespace=lab.switch.pid) as elsewhere:
        elsewhere.send(_mld() if lab.family == 6 else _igmp())


def _igmp() -> bytes:
    """Return a general query of IGMPv3 (RFC 3376, 4.1) by 192.0.2.254."""
    query = _summed(struct.pack("!BBH4sBBH", 0x11, _RESPONSE, 0, bytes(4), 2, 125, 0), 2)
    head = struct.pack(
        "!BBHHHBBH4s4s4s", 0x46, 0xC0, 24 + len(query), 0, 0, 1, 2, 0,
        bytes([192, 0, 2, 254]), bytes([224, 0, 0, 1]), b"\x94\x04\x00\x00",
    )  # fmt: skip
    return ethernet("01:00:5e:00:00:01", _MAC, ETHERTYPE_IPV4, _summed(head, 10) + query)


def _mld() -> bytes:
    """Return a general query of MLDv2 (RFC 3810, 5.1) by fe80::fe."""
    source, every = IPv6Address("fe80::fe").packed, IPv6Address("ff02::1").packed
    query = struct.pack("!BBHHH16sBBH", 130, 0, 0, _RESPONSE * 100, 0, bytes(16), 2, 125, 0)
    pseudo = source + every + struct.pack("!II", len(query), 58)
    checksum = internet_checksum(pseudo + query)
    query = query[:2] + struct.pack("!H", checksum) + query[4:]
    alert = b"\x3a\x00\x05\x02\x00\x00\x01\x00"
    head = struct.pack("!IHBB16s16s", 6 << 28, len(alert) + len(query), 0, 1, source, every)
    return ethernet("33:33:00:00:00:01", _MAC, ETHERTYPE_IPV6, head + alert + query)


def _summed(data: bytes, at: int) -> bytes:
    return data[:at] + struct.pack("!H", internet_checksum(data)) + data[at + 2 :]
