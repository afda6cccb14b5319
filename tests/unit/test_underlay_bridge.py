"""What to trace on the underlay's bridge, and what the traces of Open vSwitch 3.1.0 say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core.items import Port
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Link, OuterSample
from ovs_mcast.core.target import Target, resolve
from ovs_mcast.core.underlay_bridge import faults, samples, warnings

from .strategies import bare_machine, built

BRIDGE = "br-phy"


def overlay(*groups: str) -> Overlay:
    return Overlay.model_validate({
        "underlay": {"device": BRIDGE}, "datapath": "netdev", "membership": "socket",
        "segments": [{"vni": 100 + n, "group": group} for n, group in enumerate(groups)],
    })  # fmt: skip


def target(*groups: str, ports: tuple[Port, ...] = ()) -> Target:
    wanted = overlay(*groups)
    machine = built(wanted, bare_machine())
    kept = {name: port for name, port in machine.ports.items() if port.bridge != BRIDGE}
    there = {**kept, **{port.name: port for port in ports}}
    links = {**machine.links, "tap1": Link("tap1", 1500, "02:00:00:00:00:09", True, "tun")}
    return resolve(wanted, replace(machine, ports=there, links=links))


def uplink(name: str, ofport: int = 1, kind: str = "") -> Port:
    return Port(BRIDGE, name, kind, ofport=ofport)


def asked(there: Target) -> list[tuple[str, str]]:
    return [(one.port, one.what) for one in samples(there)]


def test_reports_and_one_packet_leave_and_every_group_comes() -> None:
    there = target("239.0.0.1", "239.0.0.2", ports=(uplink("eth1"),))
    vtep = there.vtep
    assert asked(there) == [
        ("", f"reports of {BRIDGE}"),
        ("", "packets to 239.0.0.1"),
        ("eth1", f"packets to {vtep}"),
        ("eth1", "packets to 239.0.0.1"),
        ("eth1", "packets to 239.0.0.2"),
    ]


@pytest.mark.parametrize("kind", ["patch", "internal"])
def test_peers_come_by_neither_guests_nor_patch_ports(kind: str) -> None:
    ports = (uplink("p1", kind=kind), uplink("tap1", 2), uplink("eth2", -1))
    assert {port for port, _ in asked(target("239.0.0.1", ports=ports))} == {""}


def test_the_traces_are_few() -> None:
    groups = [f"239.0.{number // 250}.{number % 250 + 1}" for number in range(300)]
    assert len(samples(target(*groups, ports=(uplink("eth1"),)))) == 256


def test_a_packet_has_the_addresses_that_all_have() -> None:
    _, leaves, _, comes = (one.flow for one in samples(target("239.0.0.1", ports=(uplink("e"),))))
    mac, vtep = target("239.0.0.1").link.mac, target("239.0.0.1").vtep
    assert leaves == (
        f"in_port=LOCAL,udp,dl_src={mac},dl_dst=01:00:5e:00:00:01,nw_src={vtep},"
        "nw_dst=239.0.0.1,nw_ttl=64,udp_dst=4789"
    )
    assert comes == (
        "in_port=1,udp,dl_src=02:00:00:00:00:00,dl_dst=01:00:5e:00:00:01,"
        "nw_dst=239.0.0.1,nw_ttl=64,udp_dst=4789"
    )


def trace(step: str, megaflow: str, actions: str = "drop") -> str:
    return (
        f'Flow: udp\n\nbridge("{BRIDGE}")\n----------------\n 0. {step}\n\n'
        f"Final flow: unchanged\nMegaflow: recirc_id=0,eth,udp,in_port=1,{megaflow}\n"
        f"Datapath actions: {actions}\n"
    )


DROP = trace("udp,nw_dst=239.0.0.0/8, priority 65000\n    drop", "nw_dst=239.0.0.0/8,nw_frag=no")
BY_SOURCE = trace("priority 1\n    drop", "nw_src=10.0.0.0/8,nw_dst=239.0.0.1,nw_frag=no")
BY_PORT = trace("priority 1\n    drop", "tp_src=0,nw_frag=no")
TUNNEL = trace("priority 0\n    IN_PORT", "nw_dst=239.0.0.1", "tnl_pop(4)")
# VLANs and bonds are NORMAL's.
NORMAL = trace("priority 0\n    NORMAL\n     >> dropping", "nw_dst=239.0.0.1,dl_src=02:00::")
TWICE = DROP + "Megaflow: recirc_id=0x1,eth\n"
OUT = OuterSample("", "LOCAL", "udp", "packets to 239.0.0.1")
ETH1, ETH2 = (OuterSample(name, "1", "udp", "packets to 239.0.0.1") for name in ("eth1", "eth2"))
FLOW = "table 0: udp,nw_dst=239.0.0.0/8, priority 65000"
CURE = "let its flows serve the tunnels"


@pytest.mark.parametrize(
    ("traces", "said"),
    [
        ({OUT: DROP}, [f"packets to 239.0.0.1 that this host sends: {FLOW}: {CURE}"]),
        ({ETH1: DROP}, [f"packets to 239.0.0.1 from eth1: {FLOW}: {CURE}"]),
        ({ETH1: DROP, ETH2: DROP}, [f"packets to 239.0.0.1 from eth1, eth2: {FLOW}: {CURE}"]),
        ({ETH1: BY_SOURCE}, []),
        ({OUT: BY_SOURCE}, [f"packets to 239.0.0.1 that this host sends: table 0: priority 1"
                            f": {CURE}"]),
        ({OUT: BY_PORT, ETH1: BY_PORT}, []),
        ({OUT: NORMAL, ETH1: NORMAL}, []),
        ({OUT: TUNNEL, ETH1: TUNNEL}, []),
        ({ETH1: TWICE}, []),
        ({ETH1: DROP, ETH2: TUNNEL}, []),
    ],
)  # fmt: skip
def test_what_all_packets_meet_is_a_fault(traces: dict[OuterSample, str], said: list[str]) -> None:
    """Not what depends on a source, nor what NORMAL decides."""
    found = [str(one) for one in faults(target("239.0.0.1"), traces)]
    assert found == [f"{BRIDGE} does not carry {one}" for one in said]


def test_what_comes_by_another_port_is_a_warning() -> None:
    there = target("239.0.0.1")
    [found] = warnings(there, {ETH1: DROP, ETH2: TUNNEL})
    assert str(found) == f"{BRIDGE} does not carry packets to 239.0.0.1 from eth1: {FLOW}"
    assert list(warnings(there, {ETH1: DROP, ETH2: DROP, OUT: TUNNEL})) == []
