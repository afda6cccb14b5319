"""Overlays are frozen: a changed overlay is a new one, validated as a whole."""

from __future__ import annotations

import json

import pytest

import ovs_mcast as om

OVERLAY = om.Overlay(
    name="tenants",
    underlay=om.Underlay(device="eth0", vtep="10.0.0.1"),
    groups="239.1.0.0/20",
    segments=[om.Segment(vni=100), om.Segment(vni=5050, vlan=10, group="239.1.1.50")],
)


def vnis(overlay: om.Overlay) -> list[int]:
    return [segment.vni for segment in overlay.segments]


def test_a_segment_more_and_a_segment_less_give_the_first_overlay_again() -> None:
    """The overlay itself is unchanged, and a segment without a group takes one of the pool."""
    more = OVERLAY.with_segment(om.Segment(vni=101))
    assert vnis(more) == [100, 101, 5050]
    assert str(more.segments[1].flood_group) == "239.1.0.101"
    assert more.without(101) == OVERLAY
    assert vnis(OVERLAY) == [100, 5050]


def test_a_segment_replaces_the_one_of_its_vni() -> None:
    """The new segment may have another VLAN and group."""
    changed = OVERLAY.with_segment(om.Segment(vni=100, vlan=7, group="239.9.9.9"))
    assert vnis(changed) == [100, 5050]
    assert (changed.segments[0].vlan, str(changed.segments[0].group)) == (7, "239.9.9.9")


def test_replace_keeps_all_other_fields() -> None:
    """None restores the default of a field."""
    changed = OVERLAY.replace(membership="socket", aging=60)
    assert (changed.membership, changed.aging) == ("socket", 60)
    assert changed.replace(membership=None, aging=None) == OVERLAY


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda: OVERLAY.with_segment(om.Segment(vni=101, vlan=10)), "segments.2.vlan"),
        (lambda: OVERLAY.replace(aging=0), "aging"),
        (lambda: OVERLAY.replace(ageing=60), "ageing"),
        (lambda: OVERLAY.replace(bridge="eth0"), "bridge"),
        (lambda: OVERLAY.without(7), "vni"),
    ],
)
def test_a_refusal_names_the_field(change: object, field: str) -> None:
    """A refusal is the same as for a new overlay."""
    assert callable(change)
    with pytest.raises(om.ConfigurationError) as refused:
        change()
    assert refused.value.field == field


def test_an_overlay_is_made_again_of_what_it_is() -> None:
    """Also once its groups were asked for; and it is written as JSON."""
    one = om.Overlay(
        underlay={"device": "eth0", "vtep": "10.0.0.1"},
        groups="239.1.0.0/20",
        segments=[{"vni": 5}, {"vni": 7, "group": "239.0.0.7"}],
        peers=["10.0.0.0/24"],
        only_peers=True,
    )
    assert [str(group) for group in one.flood_groups] == ["239.0.0.7", "239.1.0.5"]
    assert om.Overlay(**dict(one)) == one
    assert om.Overlay(**(dict(one) | {"aging": 60})) == one.replace(aging=60)
    assert om.Overlay.from_mapping(json.loads(one.model_dump_json())) == one


def test_a_copy_is_validated() -> None:
    """As pydantic's own is not: groups would be left out, and anything accepted."""
    one = om.Overlay(underlay={"device": "eth0"}, groups="239.1.0.0/20")
    copied = one.model_copy(update={"segments": [{"vni": 5}]})
    assert [str(segment.flood_group) for segment in copied.segments] == ["239.1.0.5"]
    assert copied.flood_groups
    with pytest.raises(om.ConfigurationError, match="aging"):
        one.model_copy(update={"aging": 0})
    assert copied.segments[0].replace(vlan=9).vlan == 9
