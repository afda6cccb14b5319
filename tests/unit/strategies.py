"""Overlays, and machines on which nothing is ours yet."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from hypothesis import strategies as st

from ovs_mcast.core import ownership, pipeline_tables
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Bridge, Flow, Item, Port, Route
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Limits, Link, Observed
from ovs_mcast.core.plan import plan
from ovs_mcast.errors import ConfigurationError

from . import memory

# Device → its own addresses. The bridges are of the userspace datapath and hold a NIC.
DEVICES = {
    "eth0": ("10.0.0.1", "10.0.0.9"),
    "eth1": ("10.1.0.1",),
    "br-phy": ("10.2.0.1",),
    "br-phy2": ("10.3.0.1",),
}
NIC_BRIDGES = ("br-phy", "br-phy2")
BRIDGES = ("br-int", "br-a", "br-mcast", "br-b")
NAMES = ("default", "tenants")
RIVAL = "rival"  # an overlay of ours, and not the one that is planned
GROUPS = (*(f"239.0.0.{last}" for last in range(1, 7)), "239.128.0.1", "225.1.2.3")
POOLS = ("239.1.0.0/28", "239.0.0.0/29", "239.9.9.9/32")


# Strategies are made once and not in each draw, which is where the time would go.
_vlans = st.integers(1, 4094)
_segments = st.lists(
    st.tuples(
        _vlans, st.none() | st.integers(1, (1 << 24) - 1), st.none() | st.sampled_from(GROUPS)
    ),
    unique_by=(lambda row: row[0], lambda row: row[1] or row[0]),
    max_size=4,
)
# (bridge, tunnel bridge): the usual ones, and changes of role.
_bridges = st.sampled_from(
    [("br-int", "br-mcast")] * 4
    + [("br-a", "br-mcast"), ("br-int", "br-b"), ("br-mcast", "br-a"), ("br-a", "br-int")]
)
_rival_bridges = st.sampled_from([("br-c", "br-rival")] * 3 + [("br-int", "br-rival")])
_devices = st.sampled_from(
    [("system", "eth0"), ("system", "eth1"), ("netdev", "br-phy"), ("netdev", "br-phy2")]
)
# An overlay of another name has no sockets here: Observed shows the keeper of one overlay.
_memberships = st.sampled_from(["autojoin", "repaired", "peer", "socket"])
_memberships_of_rivals = st.sampled_from(["autojoin", "repaired"])


_outer: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}] * 3
    + [{"tos": "inherit"}, {"df": True, "mark": 7}, {"tos": 72, "df": False, "checksum": False}]
)

_admission: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}] * 3
    + [{"guard": False}, {"inner_vlan": "keep"}]
    + [{"peers": ["10.0.0.0/16", "10.9.0.1"], "only_peers": True, "inner_vlan": "keep"}]
)


def _overlay(
    name: str,
    bridges: tuple[str, str],
    where: tuple[str, str],
    membership: str,
    pool: str | None,
    rows: list[tuple[int, int | None, str | None]],
    numbers: tuple[int, int, int, int],
    named: bool,
    outer: dict[str, Any],
    admission: dict[str, Any],
) -> Overlay:
    ttl, udp_port, aging, limit = numbers
    datapath, device = where
    return Overlay(
        name=name,
        bridge=bridges[0],
        tunnel_bridge=bridges[1],
        datapath=datapath,
        membership="repaired" if (datapath, membership) == ("netdev", "peer") else membership,
        underlay=Underlay(
            device=device,
            vtep=DEVICES[device][-1] if named else None,
            udp_port=udp_port,
            ttl=ttl,
            **outer if datapath == "system" else {**outer, "mark": None},
        ),
        groups=pool,
        segments=[
            Segment(vni=vni or vlan, vlan=vlan, group=group or (None if pool else GROUPS[vlan % 8]))
            for vlan, vni, group in rows
        ],
        aging=aging,
        learned_limit=limit,
        **admission,
    )


@cache
def overlays(names: tuple[str, ...] = NAMES, udp_port: int = 4789) -> st.SearchStrategy[Overlay]:
    """Valid overlays with IPv4 groups, of both datapaths, for the devices of ``bare_machine``."""
    return st.builds(
        _overlay,
        st.sampled_from(names),
        _rival_bridges if names == (RIVAL,) else _bridges,
        _devices,
        _memberships_of_rivals if names == (RIVAL,) else _memberships,
        st.none() | st.sampled_from(POOLS),
        _segments,
        st.tuples(
            st.integers(1, 255),
            st.sampled_from([udp_port, udp_port, udp_port + 10]),
            st.sampled_from([300, 10]),
            st.sampled_from([4096, 5]),
        ),
        st.booleans(),
        _outer,
        _admission,
    )


def bare_machine() -> Observed:
    """Four devices with their addresses, two of them bridges of the userspace datapath."""
    links = {
        name: Link(name, 1500, f"02:00:00:00:00:{index:02x}", True)
        for index, name in enumerate(DEVICES, 1)
    }
    nics = {f"nic-{name}": Port(name, f"nic-{name}", "", ofport=1) for name in NIC_BRIDGES}
    return Observed(
        bridges={name: Bridge(name, "netdev") for name in NIC_BRIDGES},
        ports=nics,
        addresses=tuple(
            Address(device, address, 24)
            for device, addresses in DEVICES.items()
            for address in addresses
        ),
        links=links | {name: Link(name, 1500, "02:00:00:00:00:ff", True) for name in nics},
        limits=Limits(None, None),
    )


_metrics = st.sampled_from([None, 0, 100, 0x6D << 24 | 0x80000, 0x6C << 24])
_our_metrics = st.sampled_from([*NAMES, RIVAL]).map(ownership.metric)
OTHER_PROTOCOLS = st.integers(1, 255).filter(lambda protocol: protocol != ownership.PROTOCOL)
_device = st.sampled_from(tuple(DEVICES))
_bridge = st.sampled_from([*NIC_BRIDGES, *BRIDGES, "br-ex"])
_group = st.sampled_from(GROUPS)
_cookies = st.just(0) | st.integers(0, (1 << 64) - 2).filter(lambda cookie: cookie >> 56 != 0x6D)


def _flow_of_others(bridge: str, table: int, priority: int, port: int, cookie: int) -> Flow:
    return Flow(bridge, table, priority, f"in_port={port}", "NORMAL", cookie)


def learned_flow(bridge: str, vlan: int, vni: int, name: str) -> Flow:
    """A flow that learn() made for a segment of an overlay."""
    return Flow(
        bridge,
        pipeline_tables.UNICAST,
        1,
        f"vlan_tci={vlan:#06x}/0x0fff,dl_dst=02:00:00:00:00:{vni & 0xFF:02x}",
        "strip_vlan,load:0x64->NXM_NX_TUN_ID[],output:2",
        ownership.cookie(name, vlan=vlan, vni=vni, learned=True),
    )


_things_of_others: st.SearchStrategy[list[Item]] = st.lists(
    st.one_of(
        st.builds(Port, _bridge, st.sampled_from(["tap0", "tap1", "tap2"]), st.just("internal")),
        st.builds(
            _flow_of_others,
            _bridge,
            st.sampled_from([0, 10, 15, 20, 30, 60]),
            st.integers(0, 65535),
            st.integers(100, 200),
            _cookies,
        ),
        st.builds(learned_flow, _bridge, _vlans, _vlans, st.sampled_from([*NAMES, RIVAL])),
        st.builds(Route, _device, _group, st.none(), _metrics),
        # A group joined by somebody else's autojoin is used as it is.
        st.builds(Address, _device, _group, st.sampled_from([32, 32, 24]), st.just(True), _metrics),
        st.builds(
            Address,
            _device,
            _group,
            st.sampled_from([32, 24]),
            st.just(True),
            _our_metrics,
            protocol=OTHER_PROTOCOLS,
        ),
        st.builds(Address, _device, st.just("192.0.2.7"), st.integers(8, 32)),
    ),
    max_size=4,
)


def with_possible(machine: Observed, added: Iterable[Item]) -> Observed:
    """The machine with those of these items that it does not refuse."""
    for item in added:
        with suppress(memory.RefusedError):
            machine = memory.after(machine, [Change("add", item, "another's")])
    return machine


_sys_4789 = Link("vxlan_sys_4789", 65000, "", True, "vxlan", 4789)
_vx8472 = Link("vx8472", 1450, "", True, "vxlan", 8472)
_mesh = Port("br-phy", "mesh", "vxlan", (("key", "flow"), ("remote_ip", "10.0.0.7")))
_foreign = st.tuples(
    st.integers(0, 9), st.integers(0, 2), st.booleans(), st.booleans(), st.booleans()
)


@st.composite
def foreign_machines(draw: st.DrawFn, overlay: Overlay) -> Observed:
    """Machines on which nothing is ours, and which seldom refuse the overlay."""
    machine = bare_machine()
    br_int, br_ex, in_kernel, linux, mesh = draw(_foreign)
    other = {"system": "netdev", "netdev": "system"}[overlay.datapath]
    if br_int % 3 and (overlay.tunnel_bridge != "br-int" or br_int == 8):
        machine = memory.having(
            machine, Bridge("br-int", other if br_int == 7 else overlay.datapath)
        )
    if br_ex:
        machine = memory.having(machine, Bridge("br-ex", ("system", "netdev")[br_ex - 1]))
    more = [_sys_4789] * in_kernel + [_vx8472] * linux
    machine = replace(machine, links={**machine.links, **{link.name: link for link in more}})
    return with_possible(machine, [_mesh] * mesh + draw(_things_of_others))


def built(overlay: Overlay, machine: Observed) -> Observed:
    """The machine with the overlay on it; as it was where it refuses the overlay."""
    try:
        return memory.after(machine, plan(overlay, machine))
    except ConfigurationError:
        return machine
