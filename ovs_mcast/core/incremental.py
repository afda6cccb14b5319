"""An applied overlay, and the plan that adds or removes one segment.

The items of a segment are those of an overlay of that segment alone, less those of an overlay of
another segment: so a group that segments share is left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from netaddr import IPAddress

from . import methods
from .changes import Change, Plan
from .errors import ConfigurationError
from .items import Address, Flow, GroupMembership, Item
from .model import Overlay, Segment
from .observed import Limits, Observed
from .plan import DIVERTED, desired, neighbours, ordered
from .target import Target


@dataclass(frozen=True, slots=True)
class SegmentItems:
    """One segment as the target of an overlay of its own, and the items it shares with no other."""

    target: Target
    segment: Segment
    items: tuple[Item, ...]
    shares: bool  # another segment has its group

    @property
    def group(self) -> str:
        """The group as text."""
        return str(self.segment.flood_group)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows among the items."""
        return tuple(item for item in self.items if isinstance(item, Flow))


class AppliedOverlay:
    """One overlay that was applied, by segment.

    ``in_sync`` is whether the overlay was verified, without an error since: if not, a change of one
    segment needs a reconcile of the whole.
    """

    def __init__(self, target: Target, *, in_sync: bool) -> None:
        self._target = target  # up to date except for its segments
        self._overlay: Overlay | None = target.overlay
        self.in_sync = in_sync
        self._slots = sum(item.autojoin for item in target.observed.addresses)
        # The items of others are not kept: what one segment depends on is observed anew.
        self.observed = Observed(decision=target.observed.decision)

    @property
    def target(self) -> Target:
        """The overlay as resolved when it was last applied as a whole."""
        return self._target

    @property
    def overlay(self) -> Overlay:
        """The desired overlay, with the segments added and removed since."""
        if self._overlay is None:
            self._overlay = self._with(*self._segments.values())
        return self._overlay

    @cached_property
    def _segments(self) -> dict[int, Segment]:
        return {segment.vni: segment for segment in self._target.overlay.segments}

    @cached_property
    def _vlans(self) -> dict[int, int]:
        return {segment.vlan: vni for vni, segment in self._segments.items()}

    @cached_property
    def _users(self) -> defaultdict[IPAddress, set[int]]:
        users: defaultdict[IPAddress, set[int]] = defaultdict(set)
        for vni, segment in self._segments.items():
            users[segment.flood_group].add(vni)
        return users

    def _with(self, *segments: Segment) -> Overlay:
        return self._target.overlay.replace(segments=segments)

    def admit(self, segment: Segment) -> Segment:
        """Return a new segment with its group. ConfigurationError names the field at fault."""
        try:
            [resolved] = self._with(segment).segments
        except ConfigurationError as error:
            field = error.field.removeprefix("segments.0.")
            raise ConfigurationError(error.reason, field=field) from None
        if segment.vni in self._segments:
            raise ConfigurationError(f"VNI {segment.vni} is there already", field="vni")
        if segment.vlan in self._vlans:
            vni = self._vlans[segment.vlan]
            raise ConfigurationError(f"VLAN {segment.vlan} is that of VNI {vni}", field="vlan")
        other = next(iter(self._segments.values()), None)
        if other and other.flood_group.version != resolved.flood_group.version:
            raise ConfigurationError(
                f"{resolved.flood_group} and {other.flood_group} are of two address families: "
                "one overlay has one",
                field="group",
            )
        return resolved

    def segment(self, vni: int) -> Segment:
        """Return the segment of a VNI. ConfigurationError if it is missing."""
        if vni not in self._segments:
            raise ConfigurationError(f"there is no segment of VNI {vni}", field="vni")
        return self._segments[vni]

    def with_segment(self, segment: Segment) -> Overlay:
        """Return the overlay with one segment added."""
        return self._with(*self._segments.values(), segment)

    def without(self, vni: int) -> Overlay:
        """Return the overlay without one segment."""
        return self._with(*(one for one in self._segments.values() if one.vni != vni))

    def needs_whole(self, segment: Segment, limits: Limits) -> bool:
        """Return whether a change of the segment needs a reconcile of the whole."""
        others = any(vni != segment.vni for vni in self._segments)
        full = limits.igmp_max_memberships is not None and (
            self._slots >= limits.igmp_max_memberships and self._autojoins
        )
        foreign = str(segment.flood_group) in self._target.foreign
        return not self.in_sync or not others or foreign or full

    @property
    def _autojoins(self) -> bool:
        return self._target.method != "socket" and self._target.overlay.family == 4

    def items_of(self, segment: Segment, observed: Observed) -> SegmentItems:
        """Return the items of one segment alone; there is at least one other segment."""
        sharing = self._users[segment.flood_group] - {segment.vni}
        others = sharing or (vni for vni in self._segments if vni != segment.vni)
        target = replace(self._target, observed=observed)
        other = target.of(self._with(self._segments[next(iter(others))]))
        shared = {item.key for item in desired(other)}
        alone = target.of(self._with(segment))
        items = [item for item in desired(alone) if item.key not in shared]
        if not sharing and alone.method == "socket":
            items.append(GroupMembership(alone.device, alone.groups))
        return SegmentItems(alone, segment, tuple(items), bool(sharing))

    def addition(self, items: SegmentItems) -> Plan:
        """Return the plan that puts the segment in place."""
        changes = [Change("add", item, "wanted") for item in items.items]
        coming = [item for item in items.items if isinstance(item, Address)]
        changes += [
            Change("remove", route, DIVERTED)
            for route in methods.local_routes(items.target, coming)
        ]
        first = neighbours(items.target, changes)
        return Plan(items.target.overlay.name, ordered(changes), first)

    def removal(self, items: SegmentItems) -> Plan:
        """Return the plan that removes the segment; its learned flows go with its learn() flow."""
        changes = [Change("remove", item, "not wanted") for item in items.items]
        return Plan(items.target.overlay.name, ordered(changes))

    @contextmanager
    def out_of_sync_on_error(self) -> Iterator[None]:
        """Let any error within make the next change reconcile the whole."""
        try:
            yield
        except BaseException:
            self.in_sync = False
            raise

    def add(self, segment: Segment) -> None:
        """Record that the segment is in place."""
        users = self._users[segment.flood_group]
        self._slots += self._autojoins and not users
        users.add(segment.vni)
        self._vlans[segment.vlan] = segment.vni
        self._segments[segment.vni] = segment
        self._overlay = None

    def discard(self, segment: Segment) -> None:
        """Record that the segment was removed."""
        users = self._users[segment.flood_group]
        users.discard(segment.vni)
        self._slots -= self._autojoins and not users
        # In this order: the three above are derived from the segments at their first use.
        del self._vlans[segment.vlan], self._segments[segment.vni]
        self._overlay = None
