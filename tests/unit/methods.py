"""Overlays of each method of joining, on hosts without anything else; their plans there."""

from __future__ import annotations

from collections.abc import Iterable

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change, Plan
from ovs_mcast.core.items import Address, Bridge, GroupMembership, Route
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.observed import Limits, Link, Observed
from ovs_mcast.core.plan import plan

from . import memory

DEVICES = {"system": "eth0", "netdev": "br-phy"}
VTEPS = {4: "10.0.0.1", 6: "fd00::1"}
GROUPS = {4: [f"239.0.0.{n}" for n in range(1, 5)], 6: [f"ff05::7:{n}" for n in range(1, 5)]}
# (datapath, family, method): all that there is.
KINDS = [
    ("system", 4, "autojoin"), ("system", 4, "repaired"), ("system", 4, "peer"),
    ("system", 4, "socket"), ("system", 6, "repaired"), ("system", 6, "socket"),
    ("netdev", 4, "autojoin"), ("netdev", 4, "repaired"), ("netdev", 4, "socket"),
    ("netdev", 6, "repaired"), ("netdev", 6, "socket"),
]  # fmt: skip
Joining = Address | Route | GroupMembership
METRIC = ownership.metric("default")


def bare(*, limit: int | None = 20) -> Observed:
    """The devices of both datapaths, with their own addresses."""
    return Observed(
        bridges={"br-phy": Bridge("br-phy", "netdev")},
        addresses=tuple(
            Address(device, address, 24 if family == 4 else 64)
            for device in DEVICES.values()
            for family, address in VTEPS.items()
        ),
        links={
            device: Link(device, 1600, "02:00:00:00:00:01", True) for device in DEVICES.values()
        },
        limits=Limits(limit),
    )


def joining(plan: Plan) -> list[Change]:
    """The changes of a plan that are about joining."""
    return [change for change in plan if isinstance(change.item, Joining)]


def overlay(datapath: str, family: int, method: str, groups: Iterable[str]) -> Overlay:
    return Overlay(
        datapath=datapath,
        membership=method,
        underlay={"device": DEVICES[datapath], "vtep": VTEPS[family]},
        segments=[Segment(vni=n, group=group) for n, group in enumerate(groups, 1)],
    )


def planned(wanted: Overlay, seen: Observed) -> list[Change]:
    return joining(plan(wanted, seen))


def made(wanted: Overlay, seen: Observed) -> Observed:
    return memory.after(seen, planned(wanted, seen))


def settled(wanted: Overlay, seen: Observed) -> Observed:
    """The machine with the overlay, and each address of autojoin with its local route."""
    built = made(wanted, seen)
    if wanted.membership != "autojoin":
        return built
    return made(wanted, memory.link_cycled(built, wanted.underlay.device))


def lines(changes: Iterable[Change]) -> list[str]:
    return [f"{change.action} {change.kind} {change.item.target}" for change in changes]
