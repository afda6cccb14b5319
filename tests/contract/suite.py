"""What holds for any machine with Open vSwitch: run on a FakeHost, and on it next to a real one.

`both` carries each step out on the machines there are, and compares all that can be told of them.
"""

from __future__ import annotations

from random import Random
from typing import Any, get_args

import pytest

from ovs_mcast.testing import Happening

from .steps import Outcome
from .subjects import GROUPS, Subject

# (datapath, family, method): all that there is.
KINDS = [
    ("system", 4, "autojoin"), ("system", 4, "repaired"), ("system", 4, "peer"),
    ("system", 4, "socket"), ("system", 4, "auto"),
    ("system", 6, "repaired"), ("system", 6, "socket"), ("system", 6, "auto"),
    ("netdev", 4, "autojoin"), ("netdev", 4, "repaired"), ("netdev", 4, "socket"),
    ("netdev", 4, "auto"),
    ("netdev", 6, "repaired"), ("netdev", 6, "socket"), ("netdev", 6, "auto"),
]  # fmt: skip
CHOSEN = [kind for kind in KINDS if kind[2] != "auto"]
DATAPATHS = ("system", "netdev")
DEVICES = {"system": "eth0", "netdev": "br-phy"}


def wanted(
    datapath: str, family: int = 4, method: str = "autojoin", vnis: Any = (100, 101), **more: Any
) -> dict[str, Any]:
    """Return an overlay whose VNI 100 has the group ….1, and so on."""
    return {
        "datapath": datapath,
        "membership": method,
        "underlay": {"device": DEVICES[datapath]},
        "segments": [{"vni": vni, "group": GROUPS[family].format(vni - 99)} for vni in vnis],
        **more,
    }


def built(both: Subject, overlay: dict[str, Any]) -> Outcome:
    """The overlay, in place and seen to be."""
    outcome = both.step("reconcile", overlay)
    assert outcome.error == {}, (both.past, outcome.words)
    assert outcome.status["verified"]
    return outcome


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def kind(request: pytest.FixtureRequest) -> tuple[str, int, str]:
    """A datapath, an address family, a method."""
    found: tuple[str, int, str] = request.param
    return found


@pytest.fixture
def datapath(kind: tuple[str, int, str]) -> str:
    """The datapath of the kind, or of the test."""
    return kind[0]


on_each_datapath = pytest.mark.parametrize(
    "datapath", [pytest.param(datapath) for datapath in DATAPATHS]
)


def test_the_life_of_an_overlay(both: Subject, kind: tuple[str, int, str]) -> None:
    """An overlay is planned, built, left alone, grown, shrunk and torn down without a trace."""
    overlay = wanted(*kind)
    before = both.step("plan_teardown", "default")
    assert before.changes == []
    planned = both.step("plan", overlay)
    first = built(both, overlay)
    if kind[2] != "auto":
        assert planned.changes == first.changes[: len(planned.changes)]
    assert set(first.status["segments"]) == {"100", "101"}
    again = built(both, overlay)
    assert again.changes == []
    grown = built(both, wanted(*kind, vnis=(100, 101, 102)))
    gone = [change for change in grown.changes if change.startswith("-")]
    assert all(change.startswith("- route local") for change in gone)
    shrunk = built(both, wanted(*kind, vnis=(102,)))
    assert shrunk.status["segments"].keys() == {"102"}
    both.step("plan_teardown", "default")
    end = both.step("teardown", "default")
    assert (end.error, end.status["verified"]) == ({}, True)
    assert end.machine == before.machine
    assert both.step("teardown", "default").changes == []


# What an operator does where a run cannot help. Only a new device gives back what IPv6 autojoin
# still holds for addresses that went with the link.
_MENDING: tuple[Happening, ...] = ("link-up", "vtep-back", "vswitchd-restarts", "underlay-replaced")


# Whatever the datapath, family and method.
_ALWAYS_REPORTED = {
    "link-down", "flows-deleted", "flow-deleted", "flow-changed", "port-deleted", "patch-deleted",
    "bridge-deleted", "underlay-replaced",
}  # fmt: skip


def assert_mendable(both: Subject, overlay: dict[str, Any]) -> None:
    """The overlay is in place again, by a run or by an operator and a run."""
    for mending in _MENDING:
        outcome = both.step("reconcile", overlay)
        if not outcome.error:
            break
        both.happens(mending)
    else:
        outcome = both.step("reconcile", overlay)
    assert outcome.status.get("verified"), (both.past, outcome.words)


@pytest.mark.parametrize("kind", CHOSEN, indirect=True, ids=lambda kind: "-".join(map(str, kind)))
def test_what_happens_is_seen_and_repaired(both: Subject, kind: tuple[str, int, str]) -> None:
    """`verify` reports each event that a plan would repair; a run or an operator repairs it."""
    overlay = wanted(*kind)
    built(both, overlay)
    reported = set()
    for happening in get_args(Happening):
        if happening == "local-route-back" and kind[1] == 6:
            continue  # ip(8) makes none of metric 0, as the kernel's own is
        both.happens(happening)
        seen = both.step("verify", overlay)
        planned = both.step("plan", overlay)
        if not seen.error and seen.status["verified"]:
            assert (planned.error, planned.changes) == ({}, []), happening
        else:
            assert seen.error or seen.status["problems"], happening
            reported.add(happening)
        assert_mendable(both, overlay)
    assert reported >= _ALWAYS_REPORTED
    both.step("teardown", "default")


def segment(family: int, vni: int) -> dict[str, Any]:
    """A segment as those of ``wanted``."""
    return {"vni": vni, "group": GROUPS[family].format(vni - 99)}


def test_one_segment_more_or_less(both: Subject, kind: tuple[str, int, str]) -> None:
    """A segment added or removed alone gives the same result as a full reconcile."""
    built(both, wanted(*kind))
    more = both.step("add", segment(kind[1], 102))
    assert (more.error, more.status["segments"].keys()) == ({}, {"102"})
    whole = both.step("reconcile", wanted(*kind, vnis=(100, 101, 102)))
    assert whole.changes == []
    again = both.step("add", segment(kind[1], 102))
    assert (again.error, again.changes, again.status["segments"].keys()) == ({}, [], {"102"})
    other = segment(kind[1], 102) | {"vlan": 112}
    changed = both.step("add", other)
    assert (changed.error, changed.status["segments"]["102"]["vlan"]) == ({}, 112)
    assert {change.split()[1] for change in changed.changes} == {"bridge", "flow"}
    moved = both.step("add", other | {"group": segment(kind[1], 103)["group"]})
    assert moved.error == {}
    assert both.step("add", segment(kind[1], 102)).error == {}
    assert both.step("reconcile", wanted(*kind, vnis=(100, 101, 102))).changes == []
    taken = both.step("add", {"vni": 7, "vlan": 100, "group": "239.0.0.9"})
    assert taken.error["field"] in {"vlan", "group"}
    less = both.step("remove", 100)
    assert (less.error, less.status["segments"]) == ({}, {})
    assert both.step("reconcile", wanted(*kind, vnis=(101, 102))).changes == []
    assert both.step("remove", 100).error["field"] == "vni"
    both.happens("flow-deleted")
    both.happens("flows-deleted")
    both.step("add", segment(kind[1], 103))
    both.step("remove", 101)
    both.step("remove", 102)
    both.step("remove", 103)
    both.step("teardown", "default")
    assert both.step("add", segment(kind[1], 104)).error["field"] == "name"


def test_two_hosts_change_one_overlay(both: Subject, kind: tuple[str, int, str]) -> None:
    """Neither takes away what the other added, also where the whole is reconciled."""
    built(both, wanted(*kind))
    assert both.step("other add", segment(kind[1], 102)).error == {}
    assert both.step("add", segment(kind[1], 103)).error == {}
    for verb in ("overlay", "other overlay"):
        there = both.step(verb, "default").status["segments"]
        assert [one["vni"] for one in there] == [100, 101, 102, 103]
    assert both.step("remove", 102).error == {}
    both.happens("vswitchd-restarts")
    assert both.step("other add", segment(kind[1], 104)).error == {}
    both.happens("flows-deleted")
    assert both.step("remove", 100).error == {}
    assert both.step("reconcile", wanted(*kind, vnis=(101, 103, 104))).changes == []
    more = wanted(*kind, vnis=(101, 103), aging=60)
    assert both.step("other reconcile", more).error == {}
    assert both.step("add", segment(kind[1], 104)).error == {}
    assert both.step("overlay", "default").status["aging"] == 60
    both.step("other teardown", "default")


_REFUSED = {
    "tunnel bridge": "tunnel_bridge", "device": "tunnel_bridge", "port of our name": "name",
    "flow-based port": "underlay.udp_port", "Linux vxlan device": "underlay.udp_port",
    "group address": "segments", "nineteen autojoin addresses": "segments",
    "route of our metric": "segments",
}  # fmt: skip


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_what_is_in_the_way_is_refused(both: Subject, datapath: str) -> None:
    """A thing of another program in the way is refused by field name, and nothing is touched."""
    for name, field in _REFUSED.items():
        before = both.step("plan_teardown", "default")
        both.has(name)
        there = both.step("plan_teardown", "default")
        for verb in ("plan", "reconcile"):
            outcome = both.step(verb, wanted(datapath))
            assert (outcome.exit_status, outcome.error["field"]) == (2, field), name
        assert outcome.machine == there.machine
        both.lacks(name)
        assert both.step("plan_teardown", "default") == before


@pytest.mark.parametrize("datapath", DATAPATHS)
@pytest.mark.parametrize("method", ["autojoin", "socket"])
def test_what_is_not_in_the_way_stays(both: Subject, datapath: str, method: str) -> None:
    """A thing of another program that is not in the way survives setup and teardown."""
    for name in _BESIDE:
        if name == "port without a device" and datapath == "system":
            continue  # where the system's devices are dummies, each is there
        both.has(name)
        before = both.step("plan_teardown", "default")
        built(both, wanted(datapath, method=method))
        assert both.step("teardown", "default").machine == before.machine
        both.lacks(name)


_BESIDE = (
    "bridge", "port to a group", "two flow-based ports", "patch without a peer",
    "port without a device", "autojoin address",
)  # fmt: skip


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_a_port_that_takes_what_a_peer_sends(both: Subject, datapath: str) -> None:
    """It is named, exit status 3, and survives setup and teardown."""
    both.has("port to a peer")
    before = both.step("plan_teardown", "default")
    outcome = both.step("reconcile", wanted(datapath))
    assert outcome.exit_status == 3
    assert "vx on br-x takes what 10.0.0.99 sends" in str(outcome.error)
    assert both.step("teardown", "default").machine == before.machine


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_a_local_route_stays_with_the_address_that_shares_it(both: Subject, datapath: str) -> None:
    """Another's address of the same group keeps the local route that teardown leaves to it."""
    both.has("group address of a subnet")
    theirs = both.step("plan_teardown", "default")
    both.lacks("group address of a subnet")
    built(both, wanted(datapath))
    both.has("group address of a subnet")
    assert both.step("teardown", "default").machine == theirs.machine
    both.lacks("group address of a subnet")


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_what_refuses_is_told(both: Subject, datapath: str) -> None:
    """Where slots are lost, no socket joins, flows are refused: done, failed and pending."""
    overlay = wanted(datapath, method="socket")
    both.fails("sockets")
    refused = both.step("reconcile", overlay)
    assert refused.error["type"] == "ApplyError"
    assert [change.split()[1] for change in refused.error["failed"]] == ["membership"]
    both.works("sockets")
    built(both, overlay)
    both.fails("flows")
    refused = both.step("reconcile", wanted(datapath, method="socket", vnis=(102, 103)))
    assert (refused.exit_status, refused.error["type"]) == (1, "ApplyError")
    both.works("flows")
    built(both, overlay)
    both.step("teardown", "default")
    both.has("leaked slots")
    refused = both.step("reconcile", wanted(datapath))
    assert refused.error["type"] == "ApplyError"
    assert [change.split()[1] for change in refused.error["failed"]] == ["address", "address"]
    both.step("teardown", "default")


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_without_ovs_vswitchd_nothing_is_possible(both: Subject, datapath: str) -> None:
    """It is away: UnavailableError, 5, whatever is asked; back, its flows are made again."""
    overlay = wanted(datapath, method="socket")
    built(both, overlay)
    both.fails("ovs-vswitchd")
    for verb, asked in (("reconcile", overlay), ("verify", overlay), ("teardown", "default")):
        outcome = both.step(verb, asked)
        assert (outcome.exit_status, outcome.error["type"]) == (5, "UnavailableError")
    both.works("ovs-vswitchd")
    again = built(both, overlay)
    assert {change.split()[1] for change in again.changes} == {"flow"}
    both.step("teardown", "default")


@pytest.mark.parametrize("kind", CHOSEN, indirect=True, ids=lambda kind: "-".join(map(str, kind)))
def test_any_sequence_of_steps(both: Subject, kind: tuple[str, int, str]) -> None:
    """Runs, segments and happenings at random, by a seed that is the kind itself."""
    chance = Random(str(kind))
    for _ in range(_STEPS):
        vnis = sorted(chance.sample(range(100, 104), chance.randint(1, 3)))
        verb = chance.choice(("happens", "happens", "reconcile", "add", "remove", "teardown"))
        if verb == "happens":
            both.happens(chance.choice([h for h in get_args(Happening) if h != "local-route-back"]))
        elif verb == "reconcile":
            both.step(verb, wanted(*kind, vnis=vnis))
        elif verb == "add":
            both.step(verb, segment(kind[1], vnis[0]))
        else:
            both.step(verb, vnis[0] if verb == "remove" else "default")
    assert_mendable(both, wanted(*kind))
    assert both.step("plan", wanted(*kind)).changes == []
    both.step("teardown", "default")


_STEPS = 12
