"""The JSON Schemas fit the documents that the library makes, and reject others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from netaddr import IPAddress, IPNetwork

import ovs_mcast as om
from ovs_mcast.cli.yaml_file import read_file
from ovs_mcast.core import schemas
from ovs_mcast.core.observed import Decision
from ovs_mcast.core.status import Holder, OverlayStatus, SegmentDetail
from ovs_mcast.core.traffic import Count, Traffic
from ovs_mcast.lab import SetupRun
from ovs_mcast.lab.command import Trial
from ovs_mcast.lab.reachability import Pair, Stray
from ovs_mcast.lab.reachability import Reachability as LabReachability
from ovs_mcast.probe.protocol import Reason
from ovs_mcast.probe.reachability import Delivery, Reachability, Responder, RoundTrip
from ovs_mcast.probe.verdict import Evidence, judge
from ovs_mcast.testing import FakeHost
from tests.schemas import SCHEMAS, Schema, assert_fits
from tests.unit.strategies import overlays
from tests.unit.test_probe_verdict import EVIDENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "overlay.yml"


def plain(value: Any) -> Any:
    """Return a dumped model as a configuration file has it."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, IPAddress | IPNetwork) else value


def is_rejected(document: object, schema: Schema) -> bool:
    return not Draft202012Validator(
        schema(), format_checker=Draft202012Validator.FORMAT_CHECKER
    ).is_valid(document)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_a_schema_is_one(schema: Schema) -> None:
    """Valid by its dialect, JSON by itself, and every type in it explained."""
    made = schema()
    Draft202012Validator.check_schema(made)
    assert json.loads(json.dumps(made)) == made
    parts = [made, *made.get("$defs", {}).values()]
    assert [part.get("title") for part in parts if not part.get("description")] == []
    assert ">>>" not in json.dumps(made)


# The configuration


@given(overlays())
def test_every_overlay_fits(overlay: om.Overlay) -> None:
    """The schema accepts all that the model accepts."""
    assert_fits(plain(overlay.model_dump()), schemas.configuration)


def test_the_example_fits() -> None:
    """Also as YAML reads it, with the keys that are left out."""
    assert_fits(read_file(EXAMPLE), schemas.configuration)


MINIMAL = {"underlay": {"device": "eth0"}, "segments": [{"vni": 5, "group": "239.0.0.1"}]}
SEGMENT = {"vni": 5, "group": "239.0.0.1"}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"underlay": "eth0"},
        {"underlay": {"device": "a/b"}},
        {"underlay": {"device": "x" * 16}},
        {"underlay": {"device": "eth0", "ttl": 0}},
        {"underlay": {"device": "eth0", "vtep": "10.0.0"}},
        MINIMAL | {"name": "-x"},
        MINIMAL | {"no_such_key": 1},
        MINIMAL | {"datapath": "dpdk"},
        MINIMAL | {"membership": "igmp"},
        MINIMAL | {"groups": "239.1.0.0"},
        MINIMAL | {"aging": 65536},
        MINIMAL | {"aging": "300"},
        MINIMAL | {"segments": [SEGMENT | {"vni": 0}]},
        MINIMAL | {"segments": [SEGMENT | {"vni": 1 << 24, "vlan": 1}]},
        MINIMAL | {"segments": [SEGMENT | {"vni": 5000}]},
        MINIMAL | {"segments": [SEGMENT | {"vlan": 4095}]},
        MINIMAL | {"segments": [SEGMENT | {"group": "all hosts"}]},
        MINIMAL | {"segments": [{"group": "239.0.0.1"}]},
        MINIMAL | {"segments": [SEGMENT | {"colour": "red"}]},
    ],
)
def test_what_the_schema_rejects_the_model_rejects(document: object) -> None:
    """A mistake that an editor can mark is one that `setup` refuses too."""
    assert_fits(MINIMAL, schemas.configuration)
    assert is_rejected(document, schemas.configuration)
    with pytest.raises(om.ConfigurationError):
        om.Overlay.from_mapping(document)


# The documents


def test_setup_on_a_host() -> None:
    """Of a first run, a second, a failed one and a teardown, with a decision and without."""
    host = FakeHost(device="eth0", addresses=["10.0.0.1/24"])
    overlay = om.Overlay(underlay=om.Underlay(device="eth0"), segments=[om.Segment(**SEGMENT)])  # type: ignore[arg-type]
    first = host.reconcile(overlay)
    for status in (first, host.reconcile(overlay), host.teardown("default")):
        assert_fits(status.to_json(), schemas.setup)
    assert first.to_json()["decision"] is not None
    assert first.to_json()["changes"]
    assert_fits(om.Status("x", problems=("eth0 is missing",)).to_json(), schemas.setup)
    chosen = Decision("socket", "eth0", 6, "evidence")
    assert_fits(om.Status("x", decision=chosen).to_json(), schemas.setup)


def test_status_of_an_overlay() -> None:
    """One that is known in full, and one of which only the name and a problem are."""
    traffic = Traffic(vlan=5, bum_sent=Count(3, 180), peers={"10.0.0.2": ("02:00:00:00:00:01",)})
    details = {5: SegmentDetail(5, "239.0.0.5", "none", "wire", traffic)}
    full = OverlayStatus(
        "tenants", True, "eth0", "10.0.0.1", "system", "br-int", "br-mcast",
        Holder("keeper", 7), details,
    )  # fmt: skip
    gone = OverlayStatus("gone", healthy=False, problems=("its tunnel bridge is gone",))
    assert_fits({"overlays": [one.to_json() for one in (full, gone)]}, schemas.status)
    assert_fits({"overlays": []}, schemas.status)


@given(EVIDENCE)
def test_the_path_of_a_datagram(seen: Evidence) -> None:
    """Whatever was seen."""
    assert_fits(judge(seen).to_json(), schemas.path)


@given(st.sampled_from(Reason), st.booleans() | st.none(), st.none() | st.integers(0, 5))
def test_who_answered(refused: Reason, joined: bool | None, seen: int | None) -> None:
    """Responders that answered, refused, or were never heard."""
    trip = RoundTrip(0.1, 0.2, 0.3)
    none = Delivery(sent=5)
    some = replace(none, received=5, round_trip=trip)
    responders = {
        "10.0.0.2": Responder("10.0.0.2", some, none, joined=joined, seen=seen, complete=True),
        "10.0.0.3": Responder("10.0.0.3", none, none, refused=refused),
    }
    found = Reachability(
        "239.0.0.1", "eth0", "10.0.0.1", "raw", 5, responders, expected=("10.0.0.3",)
    )
    assert_fits(found.to_json(), schemas.send)


def test_the_lab() -> None:
    """A pair, a leak and an echo, and the report of setup on a host."""
    host = FakeHost(device="eth0", addresses=["10.0.0.1/24"])
    overlay = om.Overlay(underlay=om.Underlay(device="eth0"), segments=[om.Segment(**SEGMENT)])  # type: ignore[arg-type]
    report = host.reconcile(overlay).to_json()
    heard = LabReachability(
        (Pair(5, "h1-5", "h2-5", True, 0, True, 1),),
        (Stray("h1-5", 5, "h2-6", 6),),
        (Stray("h1-5", 5, "h1-5", 5),),
    )
    trial = Trial({5: "239.0.0.1"}, {"h1": SetupRun(0, report, "")}, heard, 1.2345)
    assert_fits(trial.to_json(), schemas.lab)


@pytest.mark.parametrize("schema", SCHEMAS[1:], ids=lambda schema: schema.__name__)
def test_a_document_without_its_fields_is_rejected(schema: Schema) -> None:
    """Every field is required: a reader may rely on it."""
    assert is_rejected({}, schema)
    made = schema()
    assert set(made["required"]) == set(made["properties"])
