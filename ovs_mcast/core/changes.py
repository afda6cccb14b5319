"""Plans: ordered changes of items, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from .items import Bridge, Flow, GroupMembership, Item, Port

Action = Literal["add", "update", "remove"]
Destination = Literal["ovsdb", "netlink", "keeper", "openflow"]
_SIGNS = {"add": "+", "update": "~", "remove": "-"}


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan. ``item`` is the desired item, or for ``remove`` the one to remove.

    ``action`` is add, update or remove; ``before`` is the item before an update. As text:

    >>> from ovs_mcast.testing import Address, Link
    >>> seen = om.Observed(addresses=[Address("eth0", "10.0.0.1", 24)],
    ...                    links={"eth0": Link("eth0", 1500, "02:00:00:00:00:01", True)})
    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"))
    >>> print(next(iter(om.plan(overlay, seen))))
    + bridge br-int: missing
    """

    action: Action
    item: Item
    reason: str
    before: Item | None = None

    @property
    def kind(self) -> str:
        """bridge, port, flow, address, route or membership."""
        return self.item.kind

    @property
    def target(self) -> str:
        """The item's name for people, as in the JSON document."""
        return self.item.target

    @property
    def is_note(self) -> bool:
        """Whether the notes of a bridge alone change: ovs-vswitchd has nothing to follow."""
        item, before = self.item, self.before
        if not isinstance(item, Bridge) or not isinstance(before, Bridge):
            return False
        return self.action == "update" and replace(before, notes=item.notes) == item

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.item.target}: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """Return one of the ``changes`` of `setup --json`."""
        return {
            "action": self.action,
            "kind": self.kind,
            "target": self.item.target,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A group's Ethernet address, for the userspace datapath: a cache entry, not state."""

    bridge: str
    group: str
    mac: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are sent at once to one destination.

    ovsdb: one transaction; netlink: one batch; keeper: one process replaced; openflow: one bundle
    of the bridge that ``bridge`` names, which is None for the other destinations.
    """

    destination: Destination
    changes: tuple[Change, ...]
    bridge: str | None = None

    def __str__(self) -> str:
        return f"{self.destination} {self.bridge}" if self.bridge else self.destination


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered changes, make before break; iterable, and empty when nothing differs.

    ``neighbours`` are set before the changes are made, so that no first frame waits for an answer.

    >>> bool(om.Plan("tenants")), len(om.Plan("tenants"))
    (False, 0)
    """

    overlay: str
    changes: tuple[Change, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def batches(self) -> list[Batch]:
        """Return the changes cut, in their order, into batches.

        The number of batches does not depend on the number of segments.
        """
        return [
            Batch(destination, tuple(changes), bridge)
            for (destination, bridge), changes in groupby(self.changes, key=_destination)
        ]


def _destination(change: Change) -> tuple[Destination, str | None]:
    if isinstance(change.item, Flow):
        return "openflow", change.item.bridge
    if isinstance(change.item, GroupMembership):
        return "keeper", None
    return ("ovsdb" if isinstance(change.item, Bridge | Port) else "netlink"), None
