"""What the reverse-path filter drops, by its value and the ways back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from ovs_mcast.core.items import Address
from ovs_mcast.core.observed import ReversePath, RoutePath
from ovs_mcast.core.peers import FAR
from ovs_mcast.core.reverse_path import neighbour, warnings
from ovs_mcast.core.target import Target, resolve

from .plan_overlays import TWO
from .strategies import bare_machine, built

HERE, ELSEWHERE, NOWHERE = RoutePath("eth0"), RoutePath("eth1"), RoutePath(None)


def target(vtep: str = "10.0.0.1", prefixlen: int = 24) -> Target:
    machine = replace(built(TWO, bare_machine()), addresses=(Address("eth0", vtep, prefixlen),))
    return resolve(TWO, machine)


def said(rp_filter: int, near: RoutePath, far: RoutePath, drops: int) -> list[str]:
    seen = ReversePath(rp_filter, near, far, drops)
    return [str(one) for one in warnings(target(), seen)]


@pytest.mark.parametrize(
    ("rp_filter", "near", "far", "drops", "hosts"),
    [
        (0, NOWHERE, NOWHERE, 9, ""),
        (1, HERE, HERE, 9, ""),
        (1, ELSEWHERE, HERE, 0, "hosts of 10.0.0.0/24"),
        (2, ELSEWHERE, ELSEWHERE, 9, ""),
        (2, NOWHERE, HERE, 0, "hosts of 10.0.0.0/24"),
        (1, HERE, ELSEWHERE, 0, ""),
        (1, HERE, ELSEWHERE, 1, "hosts outside of 10.0.0.0/24"),
        (2, HERE, NOWHERE, 0, ""),
        (2, HERE, NOWHERE, 1, "hosts outside of 10.0.0.0/24"),
    ],
)
def test_the_filter_drops_by_the_way_back(
    rp_filter: int, near: RoutePath, far: RoutePath, drops: int, hosts: str
) -> None:
    """Strict by another device, loose without any; far hosts only once packets were dropped."""
    found = said(rp_filter, near, far, drops)
    assert [f"packets of {hosts} are dropped" in one for one in found] == [True] * bool(hosts)


def test_what_is_said() -> None:
    [strict] = said(1, ELSEWHERE, HERE, 0)
    assert "net.ipv4.conf.eth0.rp_filter=1: the way back to them leaves by eth1: route" in strict
    [loose] = said(2, HERE, NOWHERE, 3)
    assert "rp_filter=2: no route leads back" in loose
    assert "set net.ipv4.conf.{all,eth0}.rp_filter=0" in loose


@pytest.mark.parametrize(
    ("vtep", "prefixlen", "asked"),
    [
        ("10.0.0.9", 24, "10.0.0.1"),
        ("10.0.0.1", 24, "10.0.0.2"),
        ("10.0.0.1", 32, str(FAR[4])),
        ("10.0.0.1", 31, str(FAR[4])),
    ],
)
def test_the_neighbour_is_another_host_of_the_subnet(vtep: str, prefixlen: int, asked: str) -> None:
    assert neighbour(target(vtep, prefixlen)) == IPAddress(asked)


def test_nothing_is_said_where_the_filter_does_not_matter() -> None:
    assert list(warnings(target(), None)) == []
