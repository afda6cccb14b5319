"""rtnetlink requests: what a long-lived process sends about a device that is no longer the same."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from ovs_mcast.adapters.rtnetlink import decode, encode
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
