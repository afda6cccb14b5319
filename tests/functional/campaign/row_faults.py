"""Damage to rows of OVSDB: ports and bridges deleted or changed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.functional.campaign.fault import Fault, scripted


def row_faults() -> Iterator[Fault]:
    for port in ("{vxlan}", "{patch_int}", "{patch_tun}"):
        kind = "tunnel port" if port == "{vxlan}" else "patch port"
        yield scripted(f"{kind} deleted", f"ovs-vsctl --timeout=20 del-port {port}")
    set_ = "ovs-vsctl --timeout=20 set interface"
    for option in ("options:dst_port=4799", "options:in_key=7", "options:remote_ip=10.0.0.9",
                   "options:key=5", "ofport_request=9"):  # fmt: skip
        yield scripted("tunnel port changed", f"{set_} {{vxlan}} {option}")
    yield scripted("tunnel port's type changed", f"{set_} {{vxlan}} type=gre")
    for port in ("{patch_int}", "{patch_tun}"):
        yield scripted("peer changed", f"{set_} {port} options:peer=nobody")
    yield scripted("patch port tagged", "ovs-vsctl --timeout=20 set port {patch_tun} tag=5")
    yield scripted("tunnel bridge deleted", "ovs-vsctl --timeout=20 del-br br-mcast")
    yield scripted(
        "tunnel bridge standalone",
        "ovs-vsctl --timeout=20 set bridge br-mcast fail_mode=standalone",
    )
    yield scripted(
        "integration bridge deleted",
        "ovs-vsctl --timeout=20 del-br br-int",
        on=lambda site: site.owns_bridge,
    )
