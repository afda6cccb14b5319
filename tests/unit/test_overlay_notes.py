"""Laws of the notes that keep an overlay: nothing is lost, and one segment changes one note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.core import overlay_notes
from ovs_mcast.core.items import Bridge
from ovs_mcast.core.model import Overlay, Segment

from .plan_overlays import TWO
from .scenes import Scene, scenes

VNIS = st.integers(1, (1 << 24) - 1)
SEGMENTS = st.builds(
    lambda vni, vlan, last: Segment(vni=vni, vlan=vlan, group=f"239.0.0.{last}"),
    VNIS, st.integers(1, 4094), st.integers(1, 9),
)  # fmt: skip


def noted(segments: list[Segment]) -> tuple[tuple[str, str], ...]:
    return overlay_notes.notes(TWO.replace(segments=segments))


@given(scenes())
def test_an_overlay_is_read_back_as_it_was_noted(scene: Scene) -> None:
    wanted, _machine = scene
    assert overlay_notes.read(wanted.name, overlay_notes.notes(wanted)) == wanted


@given(st.lists(SEGMENTS, unique_by=(lambda one: one.vni, lambda one: one.vlan)), st.data())
def test_one_segment_in_place_of_another_is_that_note(
    segments: list[Segment], data: st.DataObject
) -> None:
    """As if the whole had been noted; what differs is found again, whatever else is there."""
    before = data.draw(st.sampled_from([None, *segments]))
    taken = {one.vlan for one in segments if one != before}
    vnis = {one.vni for one in segments if one != before}
    after = data.draw(st.one_of(
        st.none(), SEGMENTS.filter(lambda one: one.vlan not in taken and one.vni not in vnis)
    ))  # fmt: skip
    others = [one for one in segments if one != before]
    wanted = noted([*others, *([] if after is None else [after])])
    found = overlay_notes.with_change(noted(segments), before, after)
    assert found == wanted
    assert len(set(found) ^ set(noted(segments))) <= 4  # two notes at most, before and after
    gone, new = overlay_notes.changed(noted(segments), found)
    assert [gone, new] == (
        [[], []] if before == after
        else [[one] if one else [] for one in (before, after)]
    )  # fmt: skip
    assert overlay_notes.vlans(found) == {
        one.vlan: one.vni for one in (*others, *([] if after is None else [after]))
    }


def test_what_is_a_default_is_not_noted() -> None:
    """So that a later version with a further key finds nothing to change."""
    overlay = Overlay(underlay={"device": "eth0"}, bridge="br-int", aging=300)
    assert overlay_notes.notes(overlay) == (
        ("ovs-mcast-overlay", '{"underlay":{"device":"eth0"}}'),
    )
    peers = overlay.replace(peers=["10.0.0.0/8"], only_peers=False)
    assert overlay_notes.read("default", overlay_notes.notes(peers)) == peers


@pytest.mark.parametrize("kept", ["", "{", "[]", "7", '{"underlay":7}', '{"nonsense":1}'])
def test_what_nobody_of_us_wrote_is_no_overlay(kept: str) -> None:
    assert overlay_notes.read("default", (("ovs-mcast-overlay", kept),)) is None


def test_the_bridge_that_keeps_an_overlay_is_ours_and_has_the_note() -> None:
    notes = overlay_notes.notes(TWO)
    mine = Bridge("br-mcast", "system", owner="default", notes=notes)
    others = [Bridge("br-int", "system", owner="default"), Bridge("br-x", "system", notes=notes)]
    assert overlay_notes.bridge_of("default", [*others, mine]) == mine
    assert overlay_notes.bridge_of("default", others) is None
    assert overlay_notes.bridge(notes) == "br-int"
    assert overlay_notes.bridge((("ovs-mcast-overlay", "7"),)) is None
