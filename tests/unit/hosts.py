"""Overlays and hosts for the tests of targets, preflight and health."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ovs_mcast.core import ownership
from ovs_mcast.core.items import Address, Item, Port
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Limits, Link, Observed

from .memory import having
from .strategies import RIVAL, bare_machine

MINE = ownership.metric("default")
THEIRS = ownership.metric(RIVAL)
G1, G2 = "239.0.0.1", "239.0.0.2"


def overlay_of(
    *groups: str, device: str = "eth0", vtep: str | None = None, udp_port: int = 4789,
    membership: str = "autojoin", **values: Any,
) -> Overlay:  # fmt: skip
    return Overlay(
        underlay=Underlay(device=device, vtep=vtep, udp_port=udp_port),
        segments=[Segment(vni=vni, group=group) for vni, group in enumerate(groups, 100)],
        membership=membership,
        **values,
    )


ONE = overlay_of(G1)
USERSPACE = overlay_of(G1, device="br-phy", datapath="netdev")


def linked(*links: Link) -> Observed:
    machine = bare_machine()
    return replace(machine, links={**machine.links, **{link.name: link for link in links}})


def on(*items: Item) -> Observed:
    return having(bare_machine(), *items)


def vxlan(
    name: str = "vx", bridge: str = "br-phy", owner: str | None = None, **options: str
) -> Port:
    return Port(bridge, name, "vxlan", tuple(sorted(options.items())), owner=owner)


def group_address(group: str, device: str = "eth0", *, autojoin: bool = True,
                  metric: int | None = None, protocol: int | None = None) -> Address:  # fmt: skip
    return Address(device, group, 32, autojoin, metric, protocol=protocol)


def limited(igmp: int | None, optmem: int | None, *items: Item) -> Observed:
    return replace(on(*items), limits=Limits(igmp, optmem))


def with_v6(*addresses: Address) -> Observed:
    return replace(on(), addresses=(*addresses, *on().addresses))
