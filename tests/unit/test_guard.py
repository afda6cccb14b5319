"""The guard: which flows it has, where it is off, and what is said then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovs_mcast.core import guard, ownership
from ovs_mcast.core.items import Address, Bridge, Port
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.plan import plan
from ovs_mcast.core.recovery import recover
from ovs_mcast.core.target import Target, resolve

from .plan_overlays import TWO, USERSPACE
from .strategies import bare_machine, built

OWN = f"reg13=0/{0x80000 | ownership.number('default'):#x}"


def target(overlay: Overlay, *ports: Port, addresses: tuple[Address, ...] = ()) -> Target:
    machine = built(overlay, bare_machine())
    there = {**machine.ports, **{port.name: port for port in ports}}
    return resolve(overlay, replace(machine, ports=there,
                                    addresses=machine.addresses + addresses))  # fmt: skip


def test_the_kernels_host_is_guarded_by_each_address_of_the_underlay() -> None:
    assert [flow.match for flow in guard.flows(target(TWO))] == [
        f"udp,{OWN},nw_dst=10.0.0.1,tp_dst=4789", f"udp,{OWN},nw_dst=10.0.0.9,tp_dst=4789",
    ]  # fmt: skip


def test_the_userspace_datapath_by_the_underlays_own_ethernet_address() -> None:
    """It is that of groups too, and nothing that workloads speak with."""
    there = target(USERSPACE)
    [flow] = guard.flows(there)
    assert flow.match == f"udp,{OWN},dl_dst={there.link.mac},tp_dst=4789"
    assert (flow.bridge, flow.priority, flow.actions) == ("br-int", 65535, "drop")


def test_two_overlays_on_one_bridge_have_a_guard_each() -> None:
    matches = {flow.match for name in ("default", "tenants")
               for flow in guard.flows(target(USERSPACE.replace(name=name)))}  # fmt: skip
    assert len(matches) == 2


def test_a_guard_that_is_off_is_read_back() -> None:
    off = TWO.replace(guard=False)
    machine = built(off, bare_machine())
    assert not list(guard.flows(target(off)))
    assert recover("default", machine).guard is False
    assert recover("default", built(TWO, bare_machine())).guard is True
    changes = plan(TWO, machine)
    assert {change.kind for change in changes} == {"bridge", "flow"}


GATEWAY = Port("br-int", "gw0", "internal", vlans=("100", "access"), ofport=9)
ADDRESS = Address("gw0", "192.0.2.1", 24)


@pytest.mark.parametrize("overlay", [TWO, USERSPACE])
def test_a_port_with_an_address_is_named_where_the_guard_is_off(overlay: Overlay) -> None:
    off = overlay.replace(guard=False)
    [found] = guard.warnings(target(off, GATEWAY, addresses=(ADDRESS,)))
    assert str(found) == (
        "gw0 on br-int has addresses of this host: a workload that reaches it can send VXLAN to "
        "the VTEP, and with that into every segment: set guard: true"
    )
    assert list(guard.warnings(target(off, GATEWAY))) == []
    assert list(guard.warnings(target(overlay, GATEWAY, addresses=(ADDRESS,)))) == []


def test_the_bridge_itself_is_such_a_port() -> None:
    own = Address("br-int", "192.0.2.1", 24)
    [found] = guard.warnings(target(TWO.replace(guard=False), addresses=(own,)))
    assert "br-int on br-int has" in str(found)


@pytest.mark.parametrize(("versions", "guarded"), [
    (("OpenFlow10",), False), (("OpenFlow10", "OpenFlow13"), True), (("OpenFlow15",), True),
])  # fmt: skip
def test_a_bridge_that_speaks_no_version_with_bundles(
    versions: tuple[str, ...], guarded: bool
) -> None:
    """It has no guard, and says what to do where that matters; the overlay works on."""
    machine, bridge = bare_machine(), Bridge("br-int", "system", protocols=versions)
    machine = replace(
        machine,
        bridges={**machine.bridges, "br-int": bridge},
        addresses=(*machine.addresses, Address("br-int", "192.0.2.1", 24)),
    )
    there = resolve(TWO, machine)
    assert bool(list(guard.flows(there))) == guarded
    said = [finding.cure for finding in guard.warnings(there)]
    assert said == ["`ovs-vsctl add bridge br-int protocols OpenFlow13`"] * (not guarded)


@pytest.mark.parametrize(("printed", "ours"), [
    (f"duration=2s, n_packets=10, n_bytes=1100, priority=65535,udp,{OWN},"
     "dl_dst=9a:b2:51:b0:fb:4c,tp_dst=4789,actions=drop", True),
    (f"duration=2s, n_packets=0, n_bytes=0, priority=65535,udp6,{OWN},ipv6_dst=fd00::1,"
     "tp_dst=4789,actions=drop", True),
    ("duration=2s, n_packets=0, n_bytes=0, priority=65535,udp,tp_dst=4789,actions=drop", False),
    ("duration=3s, n_packets=0, n_bytes=0, priority=0,actions=NORMAL", False),
])  # fmt: skip
def test_a_guard_is_known_where_no_cookie_is_printed(printed: str, ours: bool) -> None:
    assert bool(guard.PRINTED.search(printed)) is ours
