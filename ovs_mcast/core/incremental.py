"""An applied overlay, and the plan that adds, changes or removes one segment.

The items of a segment are those of an overlay of that segment alone, less those of an overlay of
another segment: so a group that segments share is left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from netaddr import IPAddress

from . import methods, overlay_notes
from .changes import Change, Plan
from .errors import ConfigurationError
from .items import Address, Bridge, Flow, GroupMembership, Item, Key, Options
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

    ``notes`` are those of its tunnel bridge, which keep the desired overlay (overlay_notes.py).
    ``in_sync`` is whether nothing is known to be amiss: if not, a change of one segment needs a
    reconcile of the whole.
    """

    def __init__(self, target: Target, notes: Options = (), *, in_sync: bool) -> None:
        self.notes = notes
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

    def follow(self, noted: Options) -> bool:
        """Take over the segments that notes keep; False where more than segments is another's."""
        if overlay_notes.without_segments(noted) != overlay_notes.without_segments(self.notes):
            return False
        if noted != self.notes:
            gone, new = overlay_notes.changed(self.notes, noted)
            for segment in gone:
                self.discard(segment)
            for segment in new:
                self.add(segment)
            self.notes = noted
        return True

    def admit(self, segment: Segment) -> Segment:
        """Return a segment with its group. ConfigurationError names the field at fault."""
        try:
            [resolved] = self._with(segment).segments
        except ConfigurationError as error:
            field = error.field.removeprefix("segments.0.")
            raise ConfigurationError(error.reason, field=field) from None
        _refuse_taken(segment, self._vlans)
        others = (one for one in self._segments.values() if one.vni != segment.vni)
        other = next(others, None)
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

    def get(self, vni: int) -> Segment | None:
        """Return the segment of a VNI; None if it is missing."""
        return self._segments.get(vni)

    def with_change(self, before: Segment | None, after: Segment | None) -> Overlay:
        """Return the overlay with one segment in place of another; None for none."""
        others = (one for one in self._segments.values() if one != before)
        return self._with(*others, *(() if after is None else (after,)))

    def needs_whole(self, segment: Segment, limits: Limits) -> bool:
        """Return whether a change of the segment needs a reconcile of the whole."""
        others = len(self._segments) > (segment.vni in self._segments)
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

    def change(
        self, bridge: Bridge, before: SegmentItems | None, after: SegmentItems | None
    ) -> Plan:
        """Return the plan that puts one segment in place of another; None for none.

        ``bridge`` is the tunnel bridge as it is, with the notes of the desired overlay. The
        learned flows of a segment go with its learn() flow.
        """
        changes = [*_noted(bridge, before, after), *_segment_changes(before, after)]
        if after is not None:
            new = [one.item for one in changes if one.action == "add"]
            coming = [item for item in new if isinstance(item, Address)]
            changes += [
                Change("remove", route, DIVERTED)
                for route in methods.local_routes(after.target, coming)
            ]
        first = () if after is None else neighbours(after.target, changes)
        return Plan(self._target.overlay.name, ordered(changes), first)

    @contextmanager
    def out_of_sync_on_error(self) -> Iterator[None]:
        """Let any error within make the next change reconcile the whole."""
        try:
            yield
        except BaseException:
            self.in_sync = False
            raise

    @property
    def overlay_name(self) -> str:
        """The name of the overlay."""
        return self._target.overlay.name

    def changed(self, before: Segment | None, after: Segment | None) -> None:
        """Record that one segment is in place of another, and so noted; None for none."""
        if before == after:
            return
        if before is not None:
            self.discard(before)
        if after is not None:
            self.add(after)
        self.notes = overlay_notes.with_change(self.notes, before, after)

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


def _noted(
    bridge: Bridge, before: SegmentItems | None, after: SegmentItems | None
) -> Iterator[Change]:
    """Yield the change of the tunnel bridge's notes, if there is one."""
    segments = [None if one is None else one.segment for one in (before, after)]
    noted = replace(bridge, notes=overlay_notes.with_change(bridge.notes, *segments))
    if noted != bridge:
        yield Change("update", noted, "desired overlay differs", bridge)


def _segment_changes(before: SegmentItems | None, after: SegmentItems | None) -> Iterator[Change]:
    """Yield the changes of the segment's own items. Memberships are of single groups."""
    there = {_key(item): item for item in (before.items if before else ())}
    desired = {_key(item): item for item in (after.items if after else ())}
    for key, item in desired.items():
        if key not in there:
            yield Change("add", item, "wanted")
        elif item != there[key]:
            yield Change("update", item, "differs", there[key])
    for key, item in there.items():
        if key not in desired:
            yield Change("remove", item, "not wanted")


def _key(item: Item) -> Key:
    return (*item.key, *(item.groups if isinstance(item, GroupMembership) else ()))


def check_fit(overlay: Overlay, segments: Iterable[Segment], field: str) -> None:
    """Refuse segments that do not fit into an overlay, or not together.

    ConfigurationError names ``field``: what they are the values of.
    """
    for segment in segments:
        taken = {one.vlan: one.vni for one in overlay.segments if one.vni != segment.vni}
        try:
            _refuse_taken(segment, taken)
            overlay = overlay.with_segment(segment)
        except ConfigurationError as error:
            raise ConfigurationError(f"VNI {segment.vni}: {error.reason}", field=field) from None


def _refuse_taken(segment: Segment, vlans: Mapping[int, int]) -> None:
    """Refuse a VLAN that another VNI has; ``vlans`` are VLAN → VNI."""
    vni = vlans.get(segment.vlan, segment.vni)
    if vni != segment.vni:
        raise ConfigurationError(f"VLAN {segment.vlan} is that of VNI {vni}", field="vlan")
