"""One segment among others: its own items, added and removed alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ovs_mcast as om
from ovs_mcast.core.incremental import AppliedOverlay
from ovs_mcast.core.items import Address, Bridge, GroupMembership
from ovs_mcast.core.observed import Limits, Link, Observed
from ovs_mcast.core.plan import desired
from ovs_mcast.core.target import Target, resolve

SEEN = Observed(
    bridges={name: Bridge(name, "system") for name in ("eth0",)},
    addresses=(Address("eth0", "10.0.0.1", 24),),
    links={"eth0": Link("eth0", 1500, "02:00:00:00:00:01", True)},
)


def segment(number: int) -> om.Segment:
    """Segments of which some share a group."""
    return om.Segment(vni=number, vlan=number, group=f"239.1.0.{number % 5 + 1}")


def overlay(numbers: set[int], datapath: str = "system", membership: str = "socket") -> om.Overlay:
    return om.Overlay(
        underlay=om.Underlay(device="eth0"),
        datapath=datapath,
        membership=membership,
        segments=[segment(number) for number in numbers],
    )


def target(overlay: om.Overlay) -> Target:
    return resolve(overlay, SEEN)


def applied(overlay: om.Overlay) -> AppliedOverlay:
    return AppliedOverlay(target(overlay), in_sync=True)


def groups(overlay: om.Overlay) -> set[str]:
    return set(map(str, overlay.flood_groups))


NUMBERS = st.sets(st.integers(1, 12), min_size=2)
METHODS = st.sampled_from(
    [("system", method) for method in ("socket", "autojoin", "repaired", "peer")]
    + [("netdev", method) for method in ("socket", "autojoin", "repaired")]
)


@given(NUMBERS, METHODS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_segment_has_what_the_whole_has_more_with_it(numbers, how, random) -> None:  # type: ignore[no-untyped-def]
    """Its own items are those of the overlay with it, less those of the overlay without it."""
    number = random.choice(sorted(numbers))
    whole, rest = overlay(numbers, *how), overlay(numbers - {number}, *how)
    alone = applied(whole).items_of(segment(number), SEEN)
    without = {item.key for item in desired(target(rest))}
    more = {item for item in desired(target(whole)) if item.key not in without}
    assert {item for item in alone.items if not isinstance(item, GroupMembership)} == more
    held = [item for item in alone.items if isinstance(item, GroupMembership)]
    left = groups(whole) - groups(rest)
    assert [set(one.groups) for one in held] == ([left] if left and how[1] == "socket" else [])
    assert alone.shares is not bool(left)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_segments_come_and_go(steps: list[tuple[bool, int]]) -> None:
    """Whatever comes and goes: the overlay is that of the segments that are there."""
    there = {1, 2, 6}
    place = applied(overlay(there, membership="autojoin"))
    for comes, number in steps:
        if comes and number not in there:
            place.add(place.admit(segment(number)))
            there.add(number)
        elif not comes and number in there and len(there) > 1:
            place.discard(place.segment(number))
            there.remove(number)
        assert place.overlay == overlay(there, membership="autojoin")
        for each in range(1, 13):
            if each in there:
                assert place.admit(segment(each)) == place.get(each)
            else:
                with pytest.raises(om.ConfigurationError) as refused:
                    place.segment(each)
                assert refused.value.field == "vni"


def test_what_needs_whole() -> None:
    """The first segment and the last, an unsynced overlay, a full kernel, an address of others."""
    place = applied(overlay({1, 2}, membership="autojoin"))
    assert not place.needs_whole(segment(3), Limits(igmp_max_memberships=1))
    assert place.needs_whole(segment(3), Limits(igmp_max_memberships=0))
    place.in_sync = False
    assert place.needs_whole(segment(3), Limits())
    assert applied(overlay(set())).needs_whole(segment(3), Limits())
    assert applied(overlay({3})).needs_whole(segment(3), Limits())
    theirs = Observed(
        addresses=(*SEEN.addresses, Address("eth0", "239.1.0.4", 32)), links=SEEN.links
    )
    on_theirs = AppliedOverlay(resolve(overlay({1, 2}), theirs), in_sync=True)
    assert on_theirs.needs_whole(segment(3), Limits())


def test_the_slots_of_the_kernel_are_counted() -> None:
    """A group that is shared takes none; one that goes gives its own back."""
    place = applied(overlay({1, 2}, membership="autojoin"))
    two = Limits(igmp_max_memberships=2)
    place.add(segment(6))  # shares 1's
    assert not place.needs_whole(segment(3), two)
    place.add(segment(3))
    place.add(segment(4))
    assert place.needs_whole(segment(5), two)
    place.discard(segment(4))
    assert not place.needs_whole(segment(5), two)
