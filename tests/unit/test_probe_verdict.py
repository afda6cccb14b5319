"""From evidence to verdict, cause and cure."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core.items import Address
from ovs_mcast.core.observed import FibRoute, RoutePath
from ovs_mcast.probe.verdict import Evidence, judge

V4, V6 = IPAddress("239.0.0.1"), IPAddress("ff05::1")
ROUTE = FibRoute("239.0.0.0", 24, "eth0", "main")
LOCAL = FibRoute("239.0.0.1", 32, "eth0", "local", local=True)
AUTOJOIN = Address("eth0", "239.0.0.1", 32, autojoin=True)
GOOD = Evidence(
    group=V4,
    device="eth0",
    watched=("eth0", "lo"),
    seen=frozenset({"eth0"}),
    sends=RoutePath("eth0", "10.0.0.1"),
    tunnels=RoutePath("eth0", "10.0.0.1"),
    taken=ROUTE,
)
NOWHERE = replace(GOOD, seen=frozenset())
HIJACKED = replace(
    GOOD, seen=frozenset({"lo"}), sends=RoutePath("lo"), taken=LOCAL, holders=(AUTOJOIN,)
)
EVIDENCE = st.builds(
    Evidence,
    group=st.sampled_from([V4, V6]),
    device=st.just("eth0"),
    watched=st.just(("eth0", "lo", "eth1")),
    seen=st.frozensets(st.sampled_from(["eth0", "lo", "eth1"])),
    sends=st.builds(RoutePath, st.sampled_from([None, "eth0", "lo", "eth1"])),
    tunnels=st.builds(RoutePath, st.just("eth0"), st.none() | st.just("10.0.0.1")),
    taken=st.none() | st.sampled_from([ROUTE, LOCAL, FibRoute("0.0.0.0", 0, None, "77")]),
    holders=st.just(()) | st.just((AUTOJOIN,)),
    error=st.just(0) | st.sampled_from(sorted(errno.errorcode)),
    up=st.booleans(),
    tentative=st.frozensets(st.just("ff05::1")),
)


@given(EVIDENCE)
def test_the_verdict_is_taken_from_packets_alone(seen: Evidence) -> None:
    """Captured on the device: wire; else on lo: loopback; else none; whatever look-ups show."""
    found = judge(seen)
    verdict = "wire" if "eth0" in seen.seen else "loopback" if "lo" in seen.seen else "none"
    assert found.verdict == verdict
    assert found.ok == (verdict == "wire" and not seen.tentative)


@given(EVIDENCE)
def test_every_finding_has_a_cause_and_a_cure(seen: Evidence) -> None:
    """One line each; a cure is missing only where nothing needs one, and JSON has them all."""
    found = judge(seen)
    assert found.cause
    assert "\n" not in found.cause + found.cure
    assert bool(found.cure) == (not found.ok)
    told = found.to_json()
    assert (told["cause"], told["cure"]) == (found.cause, found.cure)
    assert "None" not in found.cause + found.cure


@pytest.mark.parametrize(
    ("seen", "cause", "cure"),
    [
        (GOOD, "239.0.0.0/24 dev eth0 in table main takes it out of eth0", ""),
        (
            replace(GOOD, taken=FibRoute("0.0.0.0", 0, "eth0", "main", gateway="10.0.0.9")),
            "default via 10.0.0.9 dev eth0 in table main takes it out of eth0",
            "",
        ),
        (
            HIJACKED,
            "local 239.0.0.1 dev eth0 in table local, made by the autojoin address 239.0.0.1/32 on "
            "eth0, is looked up before table main and sends it to lo",
            "`ip route del local 239.0.0.1 dev eth0 table local` and "
            "`ip route replace 239.0.0.1 dev eth0 src 10.0.0.1`",
        ),
        (
            replace(HIJACKED, holders=()),
            "local 239.0.0.1 dev eth0 in table local is looked up before table main",
            "ip route del local",
        ),
        (
            replace(HIJACKED, taken=FibRoute("239.0.0.0", 8, "lo", "main")),
            "239.0.0.0/8 dev lo in table main sends it to lo",
            "`ip route replace 239.0.0.1 dev eth0 src 10.0.0.1`",
        ),
        (
            replace(
                HIJACKED,
                group=V6,
                taken=FibRoute("ff05::1", 128, "eth0", "local", local=True),
                holders=(Address("eth0", "ff05::1", 128, autojoin=True),),
            ),
            "local ff05::1 dev eth0 in table local, made by the autojoin address ff05::1/128",
            "`ip -6 route del local ff05::1 dev eth0 table local` and "
            "`ip -6 route replace multicast ff05::1 dev eth0 table local metric 1`",
        ),
        (
            replace(NOWHERE, error=errno.ENETUNREACH, taken=None, sends=RoutePath(None)),
            "no route to the group",
            "`ip route replace 239.0.0.1 dev eth0 src 10.0.0.1`",
        ),
        (replace(NOWHERE, error=errno.EINVAL, taken=None), "a blackhole route", "type blackhole"),
        (replace(NOWHERE, error=errno.EACCES, taken=None), "a prohibit route", "type prohibit"),
        (replace(NOWHERE, error=errno.EPERM), "a packet filter of this host", "nft list ruleset"),
        (replace(NOWHERE, error=errno.ENOBUFS), "No buffer space available", "log"),
        (
            replace(
                NOWHERE,
                seen=frozenset({"eth1"}),
                taken=FibRoute("239.0.0.0", 8, "eth1", "77"),
                sends=RoutePath("eth1"),
            ),
            "239.0.0.0/8 dev eth1 in table 77 takes it out of another device, eth1",
            "`ip route replace 239.0.0.1 dev eth0 src 10.0.0.1 table 77`",
        ),
        (NOWHERE, "was not seen there: a packet filter on output drops it", "tc -s qdisc"),
        (replace(NOWHERE, up=False), "eth0 is down", "`ip link set eth0 up`"),
        (
            replace(GOOD, group=V6, tentative=frozenset({"ff05::1"})),
            "ff05::1 on eth0 is tentative: that can change",
            "look again when duplicate address detection is over",
        ),
    ],
)
def test_the_cause_and_the_cure(seen: Evidence, cause: str, cure: str) -> None:
    """The cause names the route and its table; the cure has commands for another path."""
    found = judge(seen)
    assert cause in found.cause
    assert cure in found.cure
