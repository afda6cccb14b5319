"""Marks distinguish what is ours from everything else, and from other overlays of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ovs_mcast.core import ownership
from ovs_mcast.core.items import Address, Route

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=20)
VLANS = st.integers(0, 4094)
VNIS = st.integers(0, (1 << 24) - 1)


@given(NAMES, VLANS, VNIS, st.booleans())
def test_a_cookie_gives_back_what_went_into_it(
    name: str, vlan: int, vni: int, learned: bool
) -> None:
    """A cookie of 64 bits names the overlay, the VLAN, the VNI, and whether it was learned."""
    cookie = ownership.cookie(name, vlan=vlan, vni=vni, learned=learned)
    assert 0 < cookie < (1 << 64) - 1
    assert ownership.is_cookie(cookie, name)
    assert ownership.is_learned(cookie) == learned
    assert ownership.segment_of(cookie) == (vni, vlan)


@given(NAMES, NAMES, VLANS, VNIS, st.booleans())
def test_a_cookie_is_of_one_overlay(
    name: str, other: str, vlan: int, vni: int, learned: bool
) -> None:
    """No cookie of one overlay is ever taken for another's."""
    assume(ownership.number(name) != ownership.number(other))
    assert not ownership.is_cookie(
        ownership.cookie(name, vlan=vlan, vni=vni, learned=learned), other
    )


@given(NAMES, st.integers(0, (1 << 64) - 1))
def test_other_cookies_are_not_ours(name: str, cookie: int) -> None:
    """A cookie is ours if and only if its first 27 bits are those of the overlay."""
    assert ownership.is_cookie(cookie, name) == (
        cookie >> 37 == 0x6D << 19 | ownership.number(name)
    )


@given(NAMES, VLANS, VNIS, st.booleans())
def test_the_mask_selects_what_was_not_learned(
    name: str, vlan: int, vni: int, learned: bool
) -> None:
    """What ovs-ofctl is asked for, cookie and mask, matches the static flows and no learned one."""
    cookie = ownership.cookie(name, vlan=vlan, vni=vni, learned=learned)
    assert (cookie & ownership.STATIC_MASK == ownership.cookie(name)) == (not learned)
    assert cookie & ownership.OVERLAY_MASK == ownership.cookie(name)


@given(NAMES)
def test_a_metric_is_ours(name: str) -> None:
    """The metric of an overlay fits 32 bits, is known as ours, and is 0x6d and the number."""
    assert ownership.is_metric(ownership.metric(name))
    assert ownership.metric(name) == 0x6D000000 + ownership.number(name) < 1 << 32


@pytest.mark.parametrize(
    "metric", [None, 0, 100, 256, 1024, 0x6CFFFFFF, 0x6D080000, 0x6DFFFFFF, 0x6E000000, 0xFFFFFFFF]
)
def test_other_metrics_are_not_ours(metric: int | None) -> None:
    """Common metrics, no metric, and those just outside our range are not ours."""
    assert not ownership.is_metric(metric)


@given(NAMES, st.none() | st.integers(1, 255))
def test_metric_and_protocol_are_one_mark(name: str, protocol: int | None) -> None:
    """An address without a protocol is judged by its metric alone (before 5.18), a route never."""
    address = Address("eth0", "239.0.0.1", 32, True, ownership.metric(name), protocol=protocol)
    route = Route("eth0", "239.0.0.1", None, ownership.metric(name), protocol=protocol)
    assert ownership.is_ours(address, name) == (protocol in {None, 109})
    assert ownership.is_ours(route, name) == (protocol == 109)
    for item in (address, route):
        assert ownership.is_any_overlays(item) == ownership.is_ours(item, name)
        assert not ownership.is_ours(replace(item, metric=ownership.metric(name) ^ 1), name)
        assert not ownership.is_any_overlays(replace(item, metric=None))


@given(NAMES)
def test_a_suffix_fits_the_name_of_a_port(name: str) -> None:
    """The names of our ports are at most 15 octets, as Linux wants them."""
    assert len(f"patch-int-{ownership.suffix(name)}") <= 15
    assert int(ownership.suffix(name), 16) == ownership.number(name)


def test_marks_stay_as_they_are() -> None:
    """The marks of a running overlay are found by the next version too."""
    assert ownership.cookie("default", vlan=100, vni=100) == 0x6D1DD82064000064
    assert ownership.cookie("default", vlan=100, vni=100, learned=True) == 0x6D1DD83064000064
    assert ownership.metric("default") == 0x6D00EEC1
    assert ownership.suffix("default") == "0eec1"
    assert (ownership.suffix("tenants"), ownership.suffix("a")) == ("622b6", "78112")
    assert (ownership.EXTERNAL_ID, ownership.PROTOCOL) == ("ovs-mcast", 109)
