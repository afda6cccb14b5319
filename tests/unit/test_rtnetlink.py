"""rtnetlink messages: requests about a device that is no longer the same, and answers decoded."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ovs_mcast.adapters.rtnetlink import decode, encode
from ovs_mcast.adapters.rtnetlink.decode import Answer
from ovs_mcast.core.items import Address, Route

ADDRESS = Address("eth0", "239.0.0.1", 32, autojoin=True, metric=5)
ROUTE = Route("eth0", "239.0.0.1", "10.0.0.1", metric=5)


def _index_of_address(request: bytearray) -> int:
    """ifa_index (struct ifaddrmsg)."""
    return int(struct.unpack_from("=I", request, 20)[0])


def _index_of_route(request: bytearray) -> int:
    """RTA_OIF."""
    return decode.number(decode.attributes(bytes(request), 28)[4]) or 0


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("coded", "index_of"),
    [
        (lambda new: encode.address_request(ADDRESS, new=new), _index_of_address),
        (lambda new: encode.route_request(ROUTE, new=new), _index_of_route),
    ],
    ids=["address", "route"],
)
def test_a_device_made_anew_is_another(
    monkeypatch: pytest.MonkeyPatch,
    coded: Callable[[bool], bytearray],
    index_of: Callable[[bytearray], int],
    new: bool,
) -> None:
    """A NIC that was removed and added has another index: requests name that, not the old one."""
    for index in (7, 12):
        monkeypatch.setattr(socket, "if_nametoindex", {"eth0": index}.__getitem__)
        assert index_of(coded(new)) == index


@pytest.mark.parametrize("order", ["little", "big"])
def test_numbers_are_in_the_byte_order_of_the_host(
    monkeypatch: pytest.MonkeyPatch, order: Literal["little", "big"]
) -> None:
    """Attributes and errors on a big-endian machine (s390x) as on a little-endian one."""
    monkeypatch.setattr(sys, "byteorder", order)
    assert decode.number((4789).to_bytes(4, order)) == 4789
    refused = Answer(2, 1, (-errno.ENODEV).to_bytes(4, order, signed=True) + bytes(16), False)
    assert refused.code == errno.ENODEV


_lengths = st.sampled_from([0, 1, 15, 16, 20, 0xFFFF]) | st.integers(0, 0xFFFF)
_headers = st.builds(lambda length: struct.pack("=IHHI", length, 16, 0, 1), _lengths)


@given(st.lists(_headers | st.binary(max_size=20), max_size=8).map(b"".join))
def test_any_datagram_is_split(data: bytes) -> None:
    """Into no more messages and attributes than it has room for, whatever lengths it claims."""
    found = list(decode.answers(data))
    assert len(found) <= len(data) // 16
    assert all(len(decode.attributes(one.body, 0)) <= len(one.body) // 4 for one in found)


def test_a_route_by_a_device_that_has_gone() -> None:
    """It has a name that no device has, and raises nothing."""
    index = 1 + max(index for index, _ in socket.if_nameindex()) + 10_000
    answer = _route(
        {"family": socket.AF_INET, "type": 5, "table": 254, "dst_len": 32, "scope": 253},
        ("RTA_DST", "239.0.0.1"), ("RTA_OIF", index),
    )  # fmt: skip
    route = decode.decode_fib_route(answer)
    assert (route.destination, route.prefixlen, route.device) == ("239.0.0.1", 32, f"if{index}")
    assert (route.table, route.local, route.gateway) == ("main", False, None)


@pytest.mark.parametrize(
    ("header", "attributes", "shown"),
    [
        ({"table": 255, "type": 2, "dst_len": 32}, [("RTA_DST", "239.0.0.1")],
         "local 239.0.0.1 in table local"),
        # One trie for local and main: the kernel answers main and multicast, but scope host.
        ({"table": 254, "type": 5, "dst_len": 32, "scope": 254}, [("RTA_DST", "239.0.0.1")],
         "local 239.0.0.1 in table local"),
        ({"table": 254, "type": 1}, [("RTA_GATEWAY", "10.0.0.254")],
         "default via 10.0.0.254 in table main"),
        ({"table": 252, "type": 1, "dst_len": 8}, [("RTA_DST", "239.0.0.0"), ("RTA_TABLE", 1000)],
         "239.0.0.0/8 in table 1000"),
        ({"family": socket.AF_INET6, "table": 255, "dst_len": 8}, [("RTA_DST", "ff00::")],
         "ff00::/8 in table local"),
        ({"family": socket.AF_INET6, "table": 254, "type": 1}, [], "default in table main"),
    ],
    ids=["local", "local in the trie of main", "default", "another table", "IPv6", "IPv6 default"],
)  # fmt: skip
def test_the_route_that_is_matched(
    header: dict[str, int], attributes: list[tuple[str, object]], shown: str
) -> None:
    """As `ip route get fibmatch` prints it, with the name of its table."""
    assert str(decode.decode_fib_route(_route(header, *attributes))) == shown


def _route(header: dict[str, int], *attributes: tuple[str, object]) -> Answer:
    """The kernel's answer, as pyroute2 encodes it."""
    message = rtmsg()
    message.setvalue({"family": socket.AF_INET, **header})
    message["attrs"] = list(attributes)
    message.encode()
    [answer] = decode.answers(bytes(message.data))
    return answer
