"""What a plan is made of: ordered changes of items, as plain data. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .items import Item

Action = Literal["add", "update", "remove"]
_SIGNS = {"add": "+", "update": "~", "remove": "-"}


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan. ``item`` is what shall be, or for ``remove`` what shall not be.

    ``action`` is add, update or remove; ``before`` is what an update finds. As text for people:

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
        """bridge, port, flow, address or route."""
        return self.item.kind

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.item.target}: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """The shape of the contract's ``changes``."""
        return {
            "action": self.action,
            "kind": self.kind,
            "target": self.item.target,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A group's Ethernet address, told to the userspace datapath: a cache, not state."""

    bridge: str
    group: str
    mac: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered changes, make before break; iterable, and empty when nothing differs.

    ``part`` is a plan of one segment's items: a membership in it is joined or left beside those
    that are held, and what it adds must not be there.

    >>> bool(om.Plan("tenants")), len(om.Plan("tenants"))
    (False, 0)
    """

    overlay: str
    changes: tuple[Change, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    part: bool = False

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes)
