"""The life of a Host: closed, forked, waited for; and one segment more by any of them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

import ovs_mcast as om
from ovs_mcast.testing import FakeHost

OVERLAY = om.Overlay(
    underlay=om.Underlay(device="eth0"),
    membership="socket",
    segments=[om.Segment(vni=100, group="239.0.0.1")],
)
MORE = om.Segment(vni=101, group="239.0.0.2")
CALLS: dict[str, Callable[[om.Host], object]] = {
    "hand_over": om.Host.hand_over,
    "observe": lambda host: host.observe("default"),
    "plan": lambda host: host.plan(OVERLAY),
    "compare": lambda host: host.compare(OVERLAY),
    "apply": lambda host: host.apply(om.Plan("default")),
    "verify": lambda host: host.verify(OVERLAY),
    "reconcile": lambda host: host.reconcile(OVERLAY),
    "overlay": lambda host: host.overlay("default"),
    "add": lambda host: host.add(MORE),
    "remove": lambda host: host.remove(100),
    "teardown": lambda host: host.teardown("default"),
    "plan_teardown": lambda host: host.plan_teardown("default"),
    "overlays": om.Host.overlays,
    "hold": lambda host: host.hold(OVERLAY, lambda: None),
}


def test_every_method_is_called() -> None:
    methods = {name for name, each in vars(om.Host).items() if callable(each) and name[0] != "_"}
    assert methods - CALLS.keys() == {"close"}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_host_says_so(call: str) -> None:
    host = FakeHost()
    host.reconcile(OVERLAY)
    host.close()
    host.close()  # again is nothing
    with pytest.raises(om.ClosedError, match="this Host is closed: connect anew"):
        CALLS[call](host)


@pytest.mark.parametrize("call", CALLS)
def test_a_forked_child_is_told_so_even_where_a_lock_was_held(call: str) -> None:
    """Its close leaves the parent's alone."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    reading, writing = os.pipe()
    with host._lock:
        child = os.fork()
        if child == 0:
            said = b"nothing"
            try:
                thread = threading.Thread(target=host.close)
                thread.start()
                thread.join()
                CALLS[call](host)
            except om.ClosedError as error:
                said = str(error).encode()
            finally:
                os.write(writing, said)
                os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        expected = f"this Host is of process {os.getpid()}, which forked this one: connect anew"
        assert pipe.read().decode() == expected
    os.waitpid(child, 0)
    assert host.overlays() == ["default"]


class _Seen(logging.Handler):
    """Calls something at each record."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self._call = call

    def emit(self, _record: logging.LogRecord) -> None:
        self._call()


def test_close_ends_the_wait_of_another_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Of a call that waits for another run; the short wait is no warning."""
    caplog.set_level(logging.INFO, "ovs_mcast")
    first = FakeHost()
    second = first.another()
    ended: list[str] = []
    waits = threading.Event()
    seen = _Seen(waits.set)

    def wait() -> None:
        try:
            second.reconcile(OVERLAY)
        except om.ClosedError as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    logging.getLogger("ovs_mcast").addHandler(seen)
    try:
        with first.backend.ovsdb.exclusive(5, lambda _seconds: None):
            thread.start()
            assert waits.wait(20)
            second.close()
            thread.join(20)
    finally:
        logging.getLogger("ovs_mcast").removeHandler(seen)
    assert ended == ["this Host is closed: connect anew"]
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_long_wait_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "ovs_mcast")
    monkeypatch.setattr("ovs_mcast.host.host.PATIENCE", 2.5)
    first = FakeHost()
    with (
        first.backend.ovsdb.exclusive(5, lambda _seconds: None),
        pytest.raises(om.UnavailableError, match="another run of ovs_mcast"),
    ):
        first.another().reconcile(OVERLAY)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_a_change_beside_an_agent_is_refused() -> None:
    """Where there is something to change; what there is may be asked for."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    refused = om.UnavailableError("an agent keeps overlay default")
    beside = om.Host(replace(host.backend, agent=lambda _overlay: refused))
    assert beside.reconcile(OVERLAY).verified
    assert beside.add(OVERLAY.segments[0]).changes == ()
    calls: dict[str, Callable[[], object]] = {
        "reconcile": lambda: beside.reconcile(OVERLAY.with_segment(MORE)),
        "add": lambda: beside.add(MORE),
        "remove": lambda: beside.remove(100),
        "teardown": lambda: beside.teardown("default"),
    }
    for name, call in calls.items():
        with pytest.raises(om.UnavailableError, match="an agent keeps"):
            call()
        assert host.overlay() == OVERLAY, name
    assert beside.teardown("none").changes == ()


def test_which_overlay_is_asked_for_only_where_there_are_two() -> None:
    host = FakeHost()
    with pytest.raises(om.ConfigurationError, match="there is no overlay on this host"):
        host.overlay()
    host.reconcile(OVERLAY)
    other = host.another()
    assert other.overlay() == OVERLAY
    underlay = om.Underlay(device="eth0", udp_port=4790)
    host.reconcile(
        OVERLAY.replace(name="b", tunnel_bridge="br-b", underlay=underlay, segments=[MORE])
    )
    for call in (other.overlay, lambda: other.add(MORE)):
        with pytest.raises(om.ConfigurationError, match="say which overlay: b, default"):
            call()
    assert other.add(MORE, name="b").changes == ()
    with pytest.raises(om.ConfigurationError, match="there is no overlay c on this host"):
        other.add(MORE, name="c")


def test_what_an_earlier_version_made_is_read_back() -> None:
    """It noted nothing: items show the overlay, and the first change notes it."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    host.put(replace(host.observe("default").bridges["br-mcast"], notes=()))
    other = host.another()
    assert other.overlay().segments == OVERLAY.segments
    assert next(str(one) for one in other.add(MORE).changes) == (
        "~ bridge br-mcast: desired overlay differs"
    )
    assert host.another().overlay().segments == (*OVERLAY.segments, MORE)


def test_notes_that_nobody_wrote_are_not_believed() -> None:
    """The items show the overlay then."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    bridge = host.observe("default").bridges["br-mcast"]
    for key, value in (
        ("ovs-mcast-overlay", "{"), ("ovs-mcast-overlay", "[]"),
        ("ovs-mcast-overlay", '{"underlay":{"device":"no/device"}}'),
        ("ovs-mcast-segments-36", "x"), ("ovs-mcast-segments-36", "100:9999:239.0.0.1"),
    ):  # fmt: skip
        host.put(replace(bridge, notes=tuple(sorted((dict(bridge.notes) | {key: value}).items()))))
        assert host.another().overlay().segments == OVERLAY.segments
        assert host.another().add(MORE).verified
        host.reconcile(OVERLAY)


BESIDE = OVERLAY.replace(
    name="b",
    tunnel_bridge="br-b",
    underlay=om.Underlay(device="eth0", udp_port=4790),
    segments=[om.Segment(vni=301, vlan=300, group="239.0.0.3")],
)


def test_a_vlan_of_another_overlay_on_the_bridge_is_refused() -> None:
    """By whichever comes later, whole or one segment, in any process; not on another bridge."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    host.reconcile(BESIDE)
    made = host.made
    taken = om.Segment(vni=302, vlan=100, group="239.0.0.4")
    calls: dict[str, Callable[[], object]] = {
        "segments.1.vlan": lambda: host.reconcile(BESIDE.with_segment(taken)),
        "vlan": lambda: host.another().add(taken, name="b"),
        "segments.0.vlan": lambda: host.plan(BESIDE.replace(segments=[taken])),
    }
    for field, call in calls.items():
        with pytest.raises(om.ConfigurationError, match="VNI 100 of overlay default") as refused:
            call()
        assert refused.value.field == field
    with pytest.raises(om.ConfigurationError, match="VLAN 300 on br-int is VNI 301 of overlay b"):
        host.add(om.Segment(vni=7, vlan=300, group="239.0.0.4"), name="default")
    assert host.made == made
    elsewhere = BESIDE.replace(bridge="br-x", segments=[taken])
    assert host.reconcile(elsewhere).verified
    assert host.remove(100, name="default").verified
    assert host.reconcile(BESIDE.replace(segments=[taken])).verified


def test_a_finding_names_the_segments_that_it_concerns() -> None:
    """For a program that has to tell whose segments are not carried."""
    host = FakeHost()
    both = OVERLAY.with_segment(MORE)
    host.reconcile(both)
    flow = next(one for one in host.observe("default").flows if one.match == "dl_vlan=101")
    host.take(flow)
    seen = host.verify(both)
    assert not seen.verified
    assert [(one.code, one.vnis) for one in seen.findings if one.severity == "error"] == [
        ("change-pending", (101,))
    ]
    assert tuple(map(str, seen.findings)) == seen.problems
    route = next(one for one in host.observe("default").routes if one.destination == "239.0.0.1")
    host.put(flow)
    host.take(route)
    found = host.verify(both).findings
    assert {one.vnis for one in found if one.severity == "error"} == {(100,)}
    assert {"change-pending", "send-path"} <= {one.code for one in found}
    [change] = host.plan(both)
    assert change.target == change.to_json()["target"]
