"""Routes as the kernel tells of them, by devices that may have gone since."""

from __future__ import annotations

import socket

from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ovs_mcast.adapters.rtnetlink import fib


def test_a_route_by_a_device_that_has_gone() -> None:
    """It has a name that no device has, and raises nothing."""
    index = 1 + max(index for index, _ in socket.if_nameindex()) + 10_000
    told = rtmsg()
    told.setvalue({"family": socket.AF_INET, "type": 5, "table": 254, "dst_len": 32, "scope": 253})
    told["attrs"] = [("RTA_DST", "239.0.0.1"), ("RTA_OIF", index)]
    route = fib._route(told, 4)
    assert (route.destination, route.prefixlen, route.device) == ("239.0.0.1", 32, f"if{index}")
    assert (route.table, route.local, route.gateway) == ("main", False, None)
