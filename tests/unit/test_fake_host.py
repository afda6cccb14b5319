"""FakeHost by itself: its faults and happenings, its clock, and the laws on whole runs."""

from __future__ import annotations

import doctest
import subprocess
import sys
import threading
from importlib import import_module
from typing import get_args

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import ovs_mcast as om
from ovs_mcast.core.fields import Datapath
from ovs_mcast.core.items import Address, Flow, Port
from ovs_mcast.core.observed import ArpSettings, Link
from ovs_mcast.testing import FAULTS, HAPPENINGS, FakeHost, Fault, Happening, Interrupted

KINDS: list[tuple[Datapath, int, str]] = [
    ("system", 4, "autojoin"), ("system", 4, "repaired"), ("system", 4, "peer"),
    ("system", 4, "socket"), ("system", 4, "auto"), ("system", 6, "socket"),
    ("netdev", 4, "autojoin"), ("netdev", 4, "repaired"), ("netdev", 4, "socket"),
]  # fmt: skip
GROUPS = {4: "239.0.0.{}", 6: "ff05::7:{}"}
DEVICES = {"system": "eth0", "netdev": "br-phy"}
ERRORS: dict[Fault, type[om.OvsMcastError]] = {
    "vswitchd-away": om.UnavailableError,
    "ovsdb-away": om.UnavailableError,
    "transaction-refused": om.ApplyError,
    "transaction-unfollowed": om.UnavailableError,
    "bundle-refused": om.ApplyError,
    "address-refused": om.ApplyError,
    "not-permitted": om.UnavailableError,
    "join-refused": om.ApplyError,
    "locked": om.UnavailableError,
    "module-missing": om.UnavailableError,
}


def fake(datapath: Datapath = "system") -> FakeHost:
    return FakeHost(addresses=["10.0.0.1/24", "fd00::1/64"], datapath=datapath)


def overlay(
    datapath: str = "system",
    family: int = 4,
    method: str = "socket",
    vnis: tuple[int, ...] = (1, 2),
) -> om.Overlay:
    return om.Overlay(
        datapath=datapath,
        membership=method,
        underlay={"device": DEVICES[datapath]},
        segments=[om.Segment(vni=vni, group=GROUPS[family].format(vni)) for vni in vnis],
    )


def whole(host: FakeHost) -> object:
    """The machine as one comparable value."""
    seen = host.observe("default")
    return [
        sorted(map(str, items))
        for items in (
            seen.bridges.items(), seen.ports.items(), seen.flows, seen.addresses, seen.routes,
            [seen.held], seen.links.items(), host.members,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["host", "linux", "openvswitch", "faults", "happenings"])
def test_the_examples_run(module: str) -> None:
    """The examples in the docstrings print what they show."""
    found = doctest.testmod(
        import_module(f"ovs_mcast.testing.{module}"), optionflags=doctest.ELLIPSIS
    )
    assert found.failed == 0
    assert found.attempted or module != "host"


def test_it_needs_neither_pytest_nor_open_vswitch() -> None:
    """In a Python without any program to be found, nothing of a test framework is imported."""
    script = """
import sys
from ovs_mcast.testing import FakeHost
import ovs_mcast as om
host = FakeHost()
overlay = om.Overlay(underlay={"device": "eth0"}, segments=[{"vni": 1, "group": "239.0.0.1"}])
assert host.reconcile(overlay).verified
assert not {"pytest", "hypothesis"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], env={"PATH": "/nowhere"}, check=True)


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_fault_is_its_error_until_it_is_repaired(fault: Fault) -> None:
    """Each fault raises the error that `faults` documents, until it is lifted."""
    wanted = overlay(method="repaired" if fault == "address-refused" else "socket")
    assert ERRORS[fault].__name__ in FakeHost.faults[fault]
    host = fake()
    host.fault(fault, times=1)
    with pytest.raises(ERRORS[fault]):
        host.reconcile(wanted)
    assert host.reconcile(wanted).verified
    host.teardown("default")
    host.fault(fault)
    for _ in range(1 if fault == "transaction-unfollowed" else 2):  # the rows are there then
        with pytest.raises(ERRORS[fault]):
            host.reconcile(wanted)
    host.repair(fault)
    assert host.reconcile(wanted).verified
    host.teardown("default")
    with host.fault(fault), pytest.raises(ERRORS[fault]):
        host.reconcile(wanted)
    assert host.reconcile(wanted).verified


def test_a_segment_on_an_internal_port_of_the_underlays_bridge() -> None:
    """A segment added alone has its flows on the bridge that has the underlay device as a port."""
    host = fake("netdev")
    host.arp_settings["eth0"] = ArpSettings(arp_ignore=1, rp_filter=0)
    host.put(
        Link("vtep0", 1600, "02:00:00:00:00:07", True),
        Port("br-phy", "vtep0", "internal"),
        Address("vtep0", "10.1.0.1", 24),
    )
    wanted = overlay("netdev").replace(underlay={"device": "vtep0"})
    assert host.reconcile(wanted).verified
    added = host.add(om.Segment(vni=3, group="239.0.0.3"))
    assert added.verified
    flows = [one.item for one in added.changes if isinstance(one.item, Flow)]
    assert {flow.bridge for flow in flows} == {"br-mcast", "br-phy"}
    assert any("in_port=" in flow.match for flow in flows if flow.bridge == "br-phy")
    assert not any("LOCAL" in flow.match for flow in flows)
    assert not host.plan(host.overlay())
    assert host.remove(3).verified
    assert not host.plan(wanted)


def test_names_that_are_none_are_refused() -> None:
    """An unknown name or an invalid number is refused with the valid ones."""
    host = fake()
    with pytest.raises(ValueError, match=r"'no' is no fault: there are vswitchd-away, .*locked"):
        host.fault("no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'no' is no happening: .*link-flap"):
        host.happens("no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="never"):
        host.fault("locked", times=0)
    with pytest.raises(ValueError, match="-1"):
        host.interrupt_after(-1)
    assert (tuple(FAULTS), tuple(HAPPENINGS)) == (get_args(Fault), get_args(Happening))
    assert all(FAULTS.values())
    assert all(HAPPENINGS.values())


def test_time_is_the_machines_own() -> None:
    """An IPv6 address is tentative until its time has passed, and only then diverts sends."""
    host = fake()
    group = Address("eth0", "ff05::1", 128, autojoin=True)
    host.put(group, detect=True)
    assert [item.tentative for item in host.observe("default").addresses if item == group] == [True]
    assert host.observe("default").routes == ()
    host.elapse(1.9)
    assert host.observe("default").routes == ()
    host.elapse(0.2)
    assert [route.by_address for route in host.observe("default").routes] == [True]


def test_a_tentative_vtep_is_waited_for() -> None:
    """The run waits on the machine's clock, and not on ours, until the VTEP is sure."""
    host = FakeHost(addresses=["10.0.0.1/24"])
    host.put(Address("eth0", "fd00::9", 64), detect=True)
    assert host.reconcile(overlay(family=6)).verified
    assert not any(item.tentative for item in host.observe("default").addresses)


def test_what_a_test_looks_at() -> None:
    """Groups, segments, and every change in order, also those of runs that ended badly."""
    host = fake()
    status = host.reconcile(overlay())
    assert host.members == {"239.0.0.1", "239.0.0.2"}
    assert host.segments == {1: (1, "239.0.0.1"), 2: (2, "239.0.0.2")}
    assert [change.item for change in host.made] == [change.item for change in status.changes]
    host.add(om.Segment(vni=3, group="239.0.0.3"))
    host.remove(1)
    assert host.members == {"239.0.0.2", "239.0.0.3"}
    assert host.segments.keys() == {2, 3}
    host.teardown("default")
    assert (host.members, host.segments) == (frozenset(), {})


def test_hold_lasts_until_somebody_ends_it() -> None:
    """A thread that holds the groups returns when the overlay is torn down."""
    host = fake()
    host.reconcile(overlay())
    ready = threading.Event()
    holding = threading.Thread(target=host.hold, args=(overlay(), ready.set))
    holding.start()
    assert ready.wait(20)
    assert host.members == {"239.0.0.1", "239.0.0.2"}
    host.teardown("default")
    holding.join(20)
    assert not holding.is_alive()
    assert host.members == frozenset()


# The laws, on whole runs

kinds = st.sampled_from(KINDS)
vnis = st.sets(st.integers(1, 4), min_size=1).map(lambda found: tuple(sorted(found)))


@given(kinds, vnis, vnis, st.integers(0, 40))
def test_a_run_that_was_killed_is_taken_up_again(
    kind: tuple[Datapath, int, str], before: tuple[int, ...], after: tuple[int, ...], cut: int
) -> None:
    """Killed after any change, the next run ends where the first would have ended."""
    killed, straight = fake(kind[0]), fake(kind[0])
    for host in (killed, straight):
        host.reconcile(overlay(*kind, vnis=before))
    made = len(killed.made)
    killed.interrupt_after(cut)
    try:
        killed.reconcile(overlay(*kind, vnis=after))
    except Interrupted:
        event("interrupted")
        assert len(killed.made) - made <= cut
    killed.repair()
    killed.reconcile(overlay(*kind, vnis=after))
    straight.reconcile(overlay(*kind, vnis=after))
    assert whole(killed) == whole(straight)
    killed.teardown("default")
    assert whole(killed) == whole(fake(kind[0]))


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("happens"), st.sampled_from(get_args(Happening))),
        st.tuples(st.just("fault"), st.sampled_from(get_args(Fault))),
        st.tuples(st.just("reconcile"), vnis),
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("remove"), st.integers(1, 4)),
        st.tuples(st.just("teardown"), st.just("default")),
    ),
    max_size=12,
)


@given(kinds, _steps)
def test_whatever_happened_a_run_mends_it(
    kind: tuple[Datapath, int, str], steps: list[object]
) -> None:
    """After any past, a run ends as on a new machine, and there is no more to do.

    What is somebody else's is there as it was.
    """
    host = fake(kind[0])
    for step in steps:
        _carry_out(host, kind, step)
    host.repair()
    host.happens("link-up")
    host.happens("vtep-back")
    wanted = overlay(*kind, vnis=(1, 2))
    assert host.reconcile(wanted).verified
    assert not host.plan(wanted)
    new = fake(kind[0])
    new.reconcile(wanted)
    # autojoin minds no local route that somebody deleted, and auto's evidence tells of the past.
    if kind[2] not in {"autojoin", "auto"}:
        assert whole(host) == whole(new)
    host.teardown("default")
    assert whole(host) == whole(fake(kind[0]))


def _carry_out(host: FakeHost, kind: tuple[Datapath, int, str], step: object) -> None:
    assert isinstance(step, tuple)
    verb, what = step
    try:
        if verb == "happens":
            host.happens(what)
        elif verb == "fault":
            host.fault(what, times=1)
        elif verb == "reconcile":
            host.reconcile(overlay(*kind, vnis=what))
        elif verb == "add":
            host.add(om.Segment(vni=what, group=GROUPS[kind[1]].format(what)))
        elif verb == "remove":
            host.remove(what)
        else:
            host.teardown(what)
    except om.OvsMcastError as error:
        event(type(error).__name__)
