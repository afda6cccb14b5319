"""Encoded frames decode to the same values, and garbage decodes to None."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.core import frames

MACS = st.binary(min_size=6, max_size=6).map(frames.mac_text)
PORTS = st.integers(0, 0xFFFF)
ADDRESSES = st.one_of(
    st.tuples(*[st.ip_addresses(v=4).map(str)] * 2), st.tuples(*[st.ip_addresses(v=6).map(str)] * 2)
)


@given(MACS, MACS, st.integers(0x0600, 0xFFFF), st.binary(), st.none() | st.integers(0, 4095))
def test_a_frame_comes_apart_as_it_was_built(
    destination: str, source: str, ethertype: int, payload: bytes, vlan: int | None
) -> None:
    """Addresses, tag and ethertype are those given, and the payload is only ever padded."""
    if ethertype == frames.ETHERTYPE_VLAN:
        ethertype += 1
    data = frames.ethernet(destination, source, ethertype, payload, vlan=vlan)
    frame = frames.decode_ethernet(data)
    assert len(data) >= 60
    assert frame is not None
    assert (frame.destination, frame.source, frame.ethertype, frame.vlan) == (
        destination,
        source,
        ethertype,
        vlan,
    )
    assert frame.payload.rstrip(b"\0") == payload.rstrip(b"\0")
    assert frame.payload.startswith(payload)


@given(ADDRESSES, PORTS, st.integers(1, 255), st.integers(0, (1 << 24) - 1), st.binary())
def test_a_vxlan_packet_comes_apart_as_it_was_built(
    addresses: tuple[str, str], port: int, ttl: int, vni: int, inner: bytes
) -> None:
    """Outer addresses of either family, TTL, ports, VNI and the inner frame are those given."""
    source, destination = addresses
    ethertype = frames.ETHERTYPE_IPV6 if ":" in source else frames.ETHERTYPE_IPV4
    datagram = frames.udp(source, destination, port, 4789, frames.vxlan(vni, inner), ttl=ttl)
    data = frames.ethernet("01:00:5e:00:00:01", "02:00:00:00:00:01", ethertype, datagram)
    packet = frames.decode_vxlan(data)
    assert packet == frames.VxlanPacket(
        eth_source="02:00:00:00:00:01",
        eth_destination="01:00:5e:00:00:01",
        source=source,
        destination=destination,
        ttl=ttl,
        source_port=port,
        destination_port=4789,
        vni=vni,
        inner=inner,
    )


@given(ADDRESSES, st.binary())
def test_checksums_add_up(addresses: tuple[str, str], payload: bytes) -> None:
    """The IPv4 header sums up to zero with its checksum, as every receiver tests it."""
    datagram = frames.udp(*addresses, 1, 2, payload)
    if datagram[0] >> 4 == 4:
        assert frames.internet_checksum(datagram[:20]) == 0


@given(st.binary(), st.integers(0, 200))
def test_garbage_is_nothing(garbage: bytes, kept: int) -> None:
    """No bytes, and no packet cut short or overwritten anywhere, make decoding raise."""
    inner = frames.ethernet(frames.BROADCAST, "02:00:00:00:00:02", 0x88B5, b"x")
    for source, destination, ethertype in (
        ("10.0.0.1", "239.0.0.1", frames.ETHERTYPE_IPV4),
        ("fd00::1", "ff05::1", frames.ETHERTYPE_IPV6),
    ):
        datagram = frames.udp(source, destination, 1, 4789, frames.vxlan(100, inner))
        whole = frames.ethernet("01:00:5e:00:00:01", "02:00:00:00:00:01", ethertype, datagram)
        for data in (garbage, whole[:kept], whole[:kept] + garbage):
            frames.decode_ethernet(data)
            frames.decode_udp(data)
            frames.decode_vxlan(data)


def test_only_vxlan_is_decoded_as_vxlan() -> None:
    """Another UDP port, or a header without a valid VNI, is not VXLAN."""
    packet = frames.vxlan(100, b"inner")
    for port, payload in ((4790, packet), (4789, b"\0" + packet[1:]), (4789, packet[:7])):
        datagram = frames.udp("10.0.0.1", "239.0.0.1", 1, port, payload)
        frame = frames.ethernet("01:00:5e:00:00:01", "02:00:00:00:00:01", 0x0800, datagram)
        assert frames.decode_vxlan(frame) is None
        assert (frames.decode_vxlan(frame, udp_port=4790) is not None) == (port == 4790)


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "nonsense"])
def test_what_is_not_an_ethernet_address_is_refused(text: str) -> None:
    """Too few octets, too many, and text that is no number are a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011
        frames.mac_bytes(text)
