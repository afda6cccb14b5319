"""Ethernet frames, UDP over IP, and VXLAN (RFC 7348), built and taken apart as bytes. No I/O.

Building trusts its caller. Decoding never raises: it returns None for anything else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_VLAN = 0x8100
# Local experimental ethertype 1 (IEEE 802): no stack answers it, no network carries it by accident.
ETHERTYPE_EXPERIMENTAL = 0x88B5
BROADCAST = "ff:ff:ff:ff:ff:ff"
VXLAN_UDP_PORT = 4789

_UDP = 17
_VNI_VALID = 0x08000000
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_PORTS = struct.Struct("!HHHH")
_VXLAN = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class EthernetFrame:
    """A frame; ``vlan`` is the VLAN ID (0 to 4095) of an 802.1Q tag, None without a tag."""

    destination: str
    source: str
    ethertype: int
    payload: bytes
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """A UDP datagram over IPv4 or IPv6; ``ttl`` is the hop limit in IPv6."""

    source: str
    destination: str
    ttl: int
    source_port: int
    destination_port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class VxlanPacket:
    """A VXLAN packet on the underlay, with the Ethernet frame that it carries in ``inner``."""

    eth_source: str
    eth_destination: str
    source: str
    destination: str
    ttl: int
    source_port: int
    destination_port: int
    vni: int
    inner: bytes


def mac_bytes(address: str) -> bytes:
    """Return the six bytes of an address such as 01:00:5e:00:00:01; else ValueError."""
    value = bytes.fromhex(address.replace(":", ""))
    if len(value) != 6:
        raise ValueError(f"{address!r} is not an Ethernet address")
    return value


def mac_text(address: bytes) -> str:
    """Return six bytes as 01:00:5e:00:00:01."""
    return address.hex(":")


def ethernet(
    destination: str, source: str, ethertype: int, payload: bytes, *, vlan: int | None = None
) -> bytes:
    """Return a frame without its checksum, padded to the 60 bytes that Ethernet requires."""
    tag = b"" if vlan is None else struct.pack("!HH", ETHERTYPE_VLAN, vlan)
    head = mac_bytes(destination) + mac_bytes(source) + tag + struct.pack("!H", ethertype)
    return (head + payload).ljust(60, b"\0")


def tagged(frame: bytes, tpid: int, tci: int) -> bytes:
    """Return the frame with its 802.1Q tag put back: the kernel delivers frames without it."""
    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]


def udp(
    source: str,
    destination: str,
    source_port: int,
    destination_port: int,
    payload: bytes,
    *,
    ttl: int = 8,
) -> bytes:
    """Return a UDP datagram in an IP header of the addresses' family, with its checksums."""
    here, there = ip_address(source), ip_address(destination)
    length = _PORTS.size + len(payload)
    pseudo = here.packed + there.packed + struct.pack("!II", length, _UDP)
    ports = _PORTS.pack(source_port, destination_port, length, 0)
    # Zero would mean "no checksum" (RFC 768).
    checksum = internet_checksum(pseudo + ports + payload) or 0xFFFF
    datagram = _PORTS.pack(source_port, destination_port, length, checksum) + payload
    if isinstance(here, IPv6Address):
        return _IPV6.pack(6 << 28, length, _UDP, ttl, here.packed, there.packed) + datagram
    head = [0x45, 0, _IPV4.size + length, 0, 0, ttl, _UDP, 0, here.packed, there.packed]
    head[7] = internet_checksum(_IPV4.pack(*head))
    return _IPV4.pack(*head) + datagram


def vxlan(vni: int, inner: bytes) -> bytes:
    """Return the payload of a VXLAN datagram: the header and the frame that it carries."""
    return _VXLAN.pack(_VNI_VALID, vni << 8) + inner


def internet_checksum(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words, complemented (RFC 1071)."""
    padded = data if len(data) % 2 == 0 else data + b"\0"
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def decode_ethernet(frame: bytes) -> EthernetFrame | None:
    """Return the frame's addresses, VLAN, ethertype and payload; None if it is truncated."""
    if len(frame) < 14:
        return None
    destination, source = mac_text(frame[:6]), mac_text(frame[6:12])
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    if ethertype != ETHERTYPE_VLAN:
        return EthernetFrame(destination, source, ethertype, frame[14:])
    if len(frame) < 18:
        return None
    tci, ethertype = struct.unpack_from("!HH", frame, 14)
    return EthernetFrame(destination, source, ethertype, frame[18:], vlan=tci & 0x0FFF)


def decode_udp(frame: bytes) -> UdpDatagram | None:
    """Return the UDP datagram in an Ethernet frame; None for any other, and later fragments."""
    outer = decode_ethernet(frame)
    if outer is None:
        return None
    if outer.ethertype == ETHERTYPE_IPV4:
        return _ipv4_udp(outer.payload)
    return _ipv6_udp(outer.payload) if outer.ethertype == ETHERTYPE_IPV6 else None


def decode_vxlan(frame: bytes, *, udp_port: int = VXLAN_UDP_PORT) -> VxlanPacket | None:
    """Return the VXLAN packet in an Ethernet frame of the underlay; None for any other."""
    outer, datagram = decode_ethernet(frame), decode_udp(frame)
    if outer is None or datagram is None or datagram.destination_port != udp_port:
        return None
    if len(datagram.payload) < _VXLAN.size:
        return None
    flags, word = _VXLAN.unpack_from(datagram.payload)
    if not flags & _VNI_VALID:
        return None
    return VxlanPacket(
        eth_source=outer.source,
        eth_destination=outer.destination,
        source=datagram.source,
        destination=datagram.destination,
        ttl=datagram.ttl,
        source_port=datagram.source_port,
        destination_port=datagram.destination_port,
        vni=word >> 8,
        inner=datagram.payload[_VXLAN.size :],
    )


def _ipv4_udp(packet: bytes) -> UdpDatagram | None:
    if len(packet) < _IPV4.size or packet[0] >> 4 != 4:
        return None
    fields = _IPV4.unpack_from(packet)
    header, total, fragment, ttl, protocol = (
        (fields[0] & 0xF) * 4,
        fields[2],
        fields[4] & 0x1FFF,
        fields[5],
        fields[6],
    )
    if protocol != _UDP or fragment or not _IPV4.size <= header <= total <= len(packet):
        return None
    source, destination = IPv4Address(fields[8]), IPv4Address(fields[9])
    return _datagram(str(source), str(destination), ttl, packet[header:total])


def _ipv6_udp(packet: bytes) -> UdpDatagram | None:
    if len(packet) < _IPV6.size or packet[0] >> 4 != 6:
        return None
    _, length, protocol, ttl, here, there = _IPV6.unpack_from(packet)
    if protocol != _UDP or _IPV6.size + length > len(packet):
        return None
    source, destination = IPv6Address(here), IPv6Address(there)
    return _datagram(str(source), str(destination), ttl, packet[_IPV6.size : _IPV6.size + length])


def _datagram(source: str, destination: str, ttl: int, datagram: bytes) -> UdpDatagram | None:
    if len(datagram) < _PORTS.size:
        return None
    source_port, destination_port, length, _ = _PORTS.unpack_from(datagram)
    if not _PORTS.size <= length <= len(datagram):
        return None
    payload = datagram[_PORTS.size : length]
    return UdpDatagram(source, destination, ttl, source_port, destination_port, payload)
