"""Sends membership reports from a device, by raw sockets (raw(7), RFC 3542). Decides nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address

from ..core.reports import Report
from ..errors import UnavailableError

_ROUTER_ALERT_V4 = b"\x94\x04\x00\x00"  # RFC 2113
_ROUTER_ALERT_V6 = b"\x00\x00\x05\x02\x00\x00\x01\x00"  # RFC 2711, in a hop-by-hop header
_IPV6_HOPOPTS = 54  # linux/in6.h
_CONTROL = 0xC0  # the type of service of the kernel's own reports


def send(device: str, reports: Iterable[Report]) -> None:
    """Send each report from the device, with its own address as the source.

    UnavailableError if the device is down or gone, has no address of the family (IPv6: link-local),
    or CAP_NET_RAW is missing.
    """
    sockets: dict[int, socket.socket] = {}
    try:
        for report in reports:
            version = ip_address(report.destination).version
            if version not in sockets:
                sockets[version] = _open(device, version)
            sockets[version].sendto(report.payload, (report.destination, 0))
    except OSError as error:
        raise UnavailableError(f"cannot report groups on {device}: {error.strerror}") from error
    finally:
        for each in sockets.values():
            each.close()


def _open(device: str, version: int) -> socket.socket:
    index = socket.if_nametoindex(device)
    family, protocol = socket.AF_INET, socket.IPPROTO_IGMP
    if version == 6:
        family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
    raw = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nothing is read from it
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if version == 6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HOPOPTS, _ROUTER_ALERT_V6)
        else:
            raw.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index)
            )
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _ROUTER_ALERT_V4)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
    except OSError:
        raw.close()
        raise
    return raw
