"""An overlay that is in place, and the plan of one segment more or less. Pure.

What a segment has to itself is what an overlay of that segment alone wants, less what one of
another segment wants: so a group that segments share is left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from netaddr import IPAddress

from ..errors import ConfigurationError
from . import methods, target
from .changes import Change, Plan
from .items import Address, Flow, GroupMembership, Item
from .model import Overlay, Segment
from .observed import Decision, Limits, Observed
from .plan import neighbours, ordered, wanted
from .target import vtep_of


@dataclass(frozen=True, slots=True)
class SegmentItems:
    """One segment as an overlay of its own, and the items that no other segment wants."""

    overlay: Overlay
    segment: Segment
    items: tuple[Item, ...]
    shares: bool  # another segment has its group

    @property
    def group(self) -> str:
        """Its group in text."""
        return str(self.segment.flood_group)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows among its items."""
        return tuple(item for item in self.items if isinstance(item, Flow))


class AppliedOverlay:
    """One overlay that was put in place, by segment.

    ``settled`` is whether that was seen, and nothing has gone wrong since: else the whole has to be
    looked at.
    """

    def __init__(self, overlay: Overlay, seen: Observed, *, settled: bool) -> None:
        self._overlay: Overlay | None = overlay
        self.first = overlay  # the same but for its segments
        self.vtep = vtep_of(overlay, seen)
        self.settled = settled
        self.decision: Decision | None = seen.decision
        self._slots = sum(item.autojoin for item in seen.addresses)
        self._others = target.others_addresses(overlay, seen)

    @property
    def overlay(self) -> Overlay:
        """What is wanted, all segments in it."""
        if self._overlay is None:
            self._overlay = self._with(*self._segments.values())
        return self._overlay

    @cached_property
    def _segments(self) -> dict[int, Segment]:
        return {segment.vni: segment for segment in self.first.segments}

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
        """The same overlay with these segments."""
        fields = {name: getattr(self.first, name) for name in Overlay.model_fields}
        return Overlay(**fields | {"segments": segments})

    def admitted(self, segment: Segment) -> Segment:
        """The segment with its group; ConfigurationError, naming its field, if it cannot be."""
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

    def there(self, vni: int) -> Segment:
        """The segment of a VNI; ConfigurationError if there is none."""
        if vni not in self._segments:
            raise ConfigurationError(f"there is no segment of VNI {vni}", field="vni")
        return self._segments[vni]

    def grown(self, segment: Segment) -> Overlay:
        """What would be wanted with one segment more."""
        return self._with(*self._segments.values(), segment)

    def shrunk(self, vni: int) -> Overlay:
        """What would be wanted with one segment less."""
        return self._with(*(one for one in self._segments.values() if one.vni != vni))

    def needs_the_whole(self, segment: Segment, limits: Limits) -> bool:
        """Whether more than the segment has to be looked at before it is added or removed."""
        others = any(vni != segment.vni for vni in self._segments)
        full = limits.igmp_max_memberships is not None and (
            self._slots >= limits.igmp_max_memberships and self._autojoins
        )
        foreign = str(segment.flood_group) in self._others
        return not self.settled or not others or foreign or full

    @property
    def _autojoins(self) -> bool:
        method = target.method_of(self.first, Observed(decision=self.decision))
        return method != "socket" and self.first.family == 4

    def alone(self, segment: Segment, seen: Observed, vtep: IPAddress) -> SegmentItems:
        """One segment beside the others, of which there is at least one."""
        sharing = self._users[segment.flood_group] - {segment.vni}
        others = sharing or (vni for vni in self._segments if vni != segment.vni)
        beside = self._with(self._segments[next(iter(others))])
        shared = {item.key for item in wanted(beside, seen, vtep)}
        overlay = self._with(segment)
        items = [item for item in wanted(overlay, seen, vtep) if item.key not in shared]
        if not sharing and target.method_of(overlay, seen) == "socket":
            items.append(GroupMembership(overlay.underlay.device, (str(segment.flood_group),)))
        return SegmentItems(overlay, segment, tuple(items), bool(sharing))

    def addition(self, alone: SegmentItems, seen: Observed) -> Plan:
        """What puts the segment in place."""
        changes = [Change("add", item, "wanted") for item in alone.items]
        coming = [item for item in alone.items if isinstance(item, Address)]
        changes += [
            Change("remove", route, "it takes what programs send to lo")
            for route in methods.local_routes(alone.overlay, seen, coming)
        ]
        told = neighbours(alone.overlay, changes)
        return Plan(alone.overlay.name, ordered(changes), told, part=True)

    def removal(self, alone: SegmentItems) -> Plan:
        """What takes the segment away; its learned flows go with those that learn them."""
        changes = [Change("remove", item, "not wanted") for item in alone.items]
        return Plan(alone.overlay.name, ordered(changes), part=True)

    @contextmanager
    def unsettled_by_errors(self) -> Iterator[None]:
        """Whatever goes wrong within: the whole has to be looked at next time."""
        try:
            yield
        except BaseException:
            self.settled = False
            raise

    def add(self, segment: Segment) -> None:
        """The segment is in place."""
        users = self._users[segment.flood_group]
        self._slots += self._autojoins and not users
        users.add(segment.vni)
        self._vlans[segment.vlan] = segment.vni
        self._segments[segment.vni] = segment
        self._overlay = None

    def discard(self, segment: Segment) -> None:
        """The segment is not there any more."""
        users = self._users[segment.flood_group]
        users.discard(segment.vni)
        self._slots -= self._autojoins and not users
        # In this order: the first three are made of the segments when they are first asked for.
        del self._vlans[segment.vlan], self._segments[segment.vni]
        self._overlay = None
