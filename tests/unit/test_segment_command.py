"""`ovs-mcast segment` on a machine in memory: exit statuses, documents, sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ovs_mcast as om
from ovs_mcast.segment.command import application
from ovs_mcast.testing import FakeHost

OVERLAY = om.Overlay(
    underlay=om.Underlay(device="eth0"),
    membership="socket",
    groups="239.1.0.0/20",
    segments=[om.Segment(vni=100, group="239.0.0.1")],
)


@pytest.fixture
def host() -> FakeHost:
    """A host with an overlay of one segment."""
    host = FakeHost()
    host.reconcile(OVERLAY)
    return host


@pytest.fixture
def segment(host: FakeHost) -> Callable[..., Result]:
    """The command, each time with a Host of its own."""
    app = application(lambda _db: host.another(), lambda: None)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def test_segments_come_change_and_go(host: FakeHost, segment: Callable[..., Result]) -> None:
    """One document for all of them; again, nothing changes."""
    came = segment("add", "101", "5050,vlan=10,group=239.1.1.50", "--json")
    assert came.exit_code == 0
    told = document(came)
    assert (told["overlay"], told["changed"], told["verified"]) == ("default", True, True)
    assert {vni: (one["vlan"], one["group"]) for vni, one in told["segments"].items()} == {
        "101": (101, "239.1.0.101"), "5050": (10, "239.1.1.50"),
    }  # fmt: skip
    again = segment("add", "101", "--json")
    assert (again.exit_code, document(again)["changes"]) == (0, [])
    assert "nothing to change" in segment("add", "101").stderr
    other = segment("add", "101,vlan=7")
    assert (other.exit_code, "applied and verified" in other.stderr) == (0, True)
    assert host.segments[101] == (7, "239.1.0.101")
    gone = segment("remove", "101", "5050", "77", "--json")
    assert (gone.exit_code, document(gone)["segments"]) == (0, {})
    assert host.segments.keys() == {100}
    assert segment("remove", "101").exit_code == 0


def test_the_list_is_what_add_takes(host: FakeHost, segment: Callable[..., Result]) -> None:
    """One segment a line, or a document by VNI."""
    listed = segment("list").stdout.splitlines()
    assert listed == ["100,vlan=100,group=239.0.0.1"]
    assert segment("add", *listed, "--json").exit_code == 0
    assert document(segment("list", "--json")) == {
        "overlay": "default", "segments": {"100": {"vlan": 100, "group": "239.0.0.1"}}
    }  # fmt: skip
    host.teardown("default")
    none = segment("list")
    assert (none.exit_code, none.stdout) == (2, "")
    assert "there is no overlay on this host" in none.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "x"), "SEGMENT: 'x' is not VNI[,group=G][,vlan=V]: 'x' is not a number"),
        (("add", "101", "0"), "SEGMENT: '0': vni: "),
        (("add", "101,colour=red"), "SEGMENT: '101,colour=red' is not"),
        (("add", "5050"), "SEGMENT: '5050': vlan: VNI 5050 is above 4094"),
        (("add", "101", "7,vlan=100"), "SEGMENT: VNI 7: VLAN 100 is that of VNI 100"),
        (("add", "7,vlan=9", "8,vlan=9"), "SEGMENT: VNI 8: VLAN 9 is that of VNI 7"),
        (("add", "7,group=ff05::1"), "SEGMENT: VNI 7: "),
        (("add", "101", "--name", "b"), "name: there is no overlay b on this host"),
        (("remove", "100", "--db", "nonsense"), "--db: "),
        (("remove",), "Missing argument"),
    ],
)
def test_what_is_wrong_touches_nothing(
    host: FakeHost, segment: Callable[..., Result], arguments: tuple[str, ...], says: str
) -> None:
    """Exit status 2, also where another segment of the same command is right."""
    made = host.made
    refused = segment(*arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert host.made == made


def test_what_fails_midway_is_reported_with_what_was_done(
    host: FakeHost, segment: Callable[..., Result]
) -> None:
    """The first segment is in place, the second is refused: that is no more exit status 2."""
    beside = om.Underlay(device="eth0", udp_port=4790)
    theirs = [om.Segment(vni=301, vlan=300, group="239.0.0.3")]
    host.reconcile(
        OVERLAY.replace(name="b", tunnel_bridge="br-b", underlay=beside, segments=theirs)
    )
    halfway = segment("add", "101", "7,vlan=300", "--name", "default", "--json")
    told = document(halfway)
    assert (halfway.exit_code, told["verified"], told["changed"]) == (1, False, True)
    assert "flow" in {change["kind"] for change in told["changes"]}
    assert [one.partition(": broadcasts")[0] for one in told["problems"]] == [
        "vlan: VLAN 300 on br-int is VNI 301 of overlay b"
    ]
    assert host.overlay("default").segments[-1].vni == 101
    host.teardown("b")
    host.fault("bundle-refused")
    failed = segment("add", "102", "--json")
    assert failed.exit_code == 1
    assert document(failed)["problems"]
    host.repair()
    host.fault("vswitchd-away")
    assert segment("add", "102").exit_code == 5


def test_the_schemas_are_those_of_the_documents(segment: Callable[..., Result]) -> None:
    """`--schema` of each; that of a change is setup's."""
    assert "decision" in document(segment("add", "--schema"))["properties"]
    assert document(segment("remove", "--schema")) == document(segment("add", "--schema"))
    assert document(segment("list", "--schema"))["properties"].keys() == {"overlay", "segments"}
