"""The options that choose an overlay: a file, or options of the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_mcast.cli.overlay_options import OverlayOptions, parse_segment
from ovs_mcast.cli.yaml_file import read_file
from ovs_mcast.errors import ConfigurationError

FULL = """
name: tenants
bridge: br-int
tunnel_bridge: br-mcast
datapath: system
membership: auto
underlay: {device: eth0, vtep: 10.0.0.1, udp_port: 4789, ttl: 8}
groups: 239.1.0.0/20
segments:
  - {vni: 100, vlan: 100, group: 239.0.0.1}
  - {vni: 101, vlan: 101}
"""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("100", {"vni": 100}),
        ("100,vlan=7", {"vni": 100, "vlan": 7}),
        ("100,group=239.0.0.1", {"vni": 100, "group": "239.0.0.1"}),
        ("100,group=239.0.0.1,vlan=7", {"vni": 100, "group": "239.0.0.1", "vlan": 7}),
        ("100,vlan=7,group=ff05::1", {"vni": 100, "vlan": 7, "group": "ff05::1"}),
        (" 100 , vlan=7 ", {"vni": 100, "vlan": 7}),
        ("0", {"vni": 0}),
        ("100,group=", {"vni": 100, "group": ""}),
    ],
)
def test_a_segment_on_the_command_line(text: str, meant: dict[str, object]) -> None:
    """VNI first, then group and VLAN in any order; the same mapping as in a file."""
    assert parse_segment(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", ",", "vni=100", "x", "-1", "1.5", "0x64", "1_000", "٣", "100,", "100,vlan", "100,vlan=",
     "100,vlan=x", "100,vlan=-1", "100,vlan=7,vlan=8", "100,group=239.0.0.1,group=239.0.0.2",
     "100,vni=5", "100,colour=red", "100,239.0.0.1", "100 vlan=7", "9" * 5000],
)  # fmt: skip
def test_an_invalid_segment_is_refused(text: str) -> None:
    """Any other text is refused; the error names --segment."""
    with pytest.raises(ConfigurationError) as raised:
        parse_segment(text)
    assert raised.value.field == "--segment"


@given(
    st.integers(0, 1 << 30),
    st.none() | st.integers(0, 1 << 20),
    st.none() | st.ip_addresses().map(str),
    st.booleans(),
)
def test_a_segment_is_read_as_written(
    vni: int, vlan: int | None, group: str | None, group_first: bool
) -> None:
    """The values in the text are returned, also those that the model will refuse."""
    parts = [f"vlan={vlan}"] * (vlan is not None) + [f"group={group}"] * (group is not None)
    text = ",".join([str(vni), *(reversed(parts) if group_first else parts)])
    wanted: dict[str, object] = {"vni": vni, "vlan": vlan, "group": group}
    assert parse_segment(text) == {key: value for key, value in wanted.items() if value is not None}


@given(st.text("0123456789,=vlangroup. ", max_size=30) | st.text(max_size=10))
def test_any_segment_is_read_or_refused(text: str) -> None:
    """No text raises any other error."""
    try:
        found = parse_segment(text)
    except ConfigurationError as refusal:
        assert refusal.field == "--segment"  # noqa: PT017
    else:
        assert {"vni"} <= found.keys() <= {"vni", "vlan", "group"}


def test_options_make_an_overlay() -> None:
    """Every option has its place in the overlay."""
    overlay = OverlayOptions(
        name="x", bridge="b", tunnel_bridge="t", datapath="netdev", membership="autojoin",
        underlay="eth0", vtep="10.0.0.1", udp_port=4790, ttl=3, groups="239.1.0.0/20", aging=9,
        learned_limit=8, tos="0x48", df=False, checksum=True,
        guard=False, inner_vlan="keep", peers=["10.0.0.2"], only_peers=True,
        segments=["100,vlan=7", "101,group=239.0.0.1"],
    ).overlay()  # fmt: skip
    assert (overlay.name, overlay.bridge, overlay.tunnel_bridge) == ("x", "b", "t")
    assert (overlay.datapath, overlay.membership) == ("netdev", "autojoin")
    assert (overlay.underlay.device, str(overlay.underlay.vtep)) == ("eth0", "10.0.0.1")
    assert (overlay.underlay.udp_port, overlay.underlay.ttl) == (4790, 3)
    outer = overlay.underlay
    assert (outer.tos, outer.df, outer.checksum, outer.mark) == (72, False, True, None)
    assert (overlay.aging, overlay.learned_limit) == (9, 8)
    assert (overlay.guard, overlay.inner_vlan, overlay.only_peers) == (False, "keep", True)
    assert list(map(str, overlay.peers)) == ["10.0.0.2/32"]
    assert [(s.vni, s.vlan, str(s.group)) for s in overlay.segments] == [
        (100, 7, "239.1.0.100"),
        (101, 101, "239.0.0.1"),
    ]


def test_options_and_the_file_of_the_same_names_are_one() -> None:
    """An omitted option has the same default as in the library."""
    overlay = OverlayOptions(underlay="eth0", segments=["5,group=239.0.0.1"]).overlay()
    assert (overlay.name, overlay.bridge, overlay.underlay.udp_port) == ("default", "br-int", 4789)


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        (OverlayOptions(), "--underlay"),
        (OverlayOptions(segments=["5"]), "--underlay"),
        (OverlayOptions(underlay="eth0"), "--segment"),
        (OverlayOptions(underlay="eth0", segments=["5"]), "segments.0.group"),
        (OverlayOptions(underlay="eth0", segments=["x"]), "--segment"),
        (OverlayOptions(underlay="eth0", segments=["5,group=239.0.0.1"], ttl=0), "underlay.ttl"),
        (
            OverlayOptions(underlay="eth0", segments=["5,group=239.0.0.1"], udp_port=0),
            "underlay.udp_port",
        ),
        (OverlayOptions(underlay="eth0", segments=["5,group=239.0.0.1"], name=""), "name"),
        (OverlayOptions(underlay="", segments=["5,group=239.0.0.1"]), "underlay.device"),
    ],
)
def test_options_that_make_no_overlay_are_refused(choice: OverlayOptions, field: str) -> None:
    """The error names the missing option or the invalid value."""
    with pytest.raises(ConfigurationError) as raised:
        choice.overlay()
    assert raised.value.field == field


def test_a_file_makes_an_overlay(tmp_path: Path) -> None:
    """The example of the design is read, as YAML and as JSON, to the same overlay."""
    path = tmp_path / "overlay.yaml"
    path.write_text(FULL)
    overlay = OverlayOptions(config=path).overlay()
    assert (overlay.name, overlay.underlay.ttl) == ("tenants", 8)
    assert [str(segment.group) for segment in overlay.segments] == ["239.0.0.1", "239.1.0.101"]
    assert OverlayOptions(config=path).overlay_name() == "tenants"
    same = tmp_path / "overlay.json"
    same.write_text(json.dumps(read_file(path)))
    assert OverlayOptions(config=same).overlay() == overlay


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a mapping"),
        ("- 1\n- 2\n", "not a mapping"),
        ("hello", "not a mapping"),
        ("[]", "not a mapping"),
        ('{"name": ', "line"),
        ("name: [", "line"),
        ("a: b: c", "line 1"),
        ("name: x\n\tbridge: y", "line 2"),
        ("name: !!python/object/apply:os.system [id]", "line 1"),
        ("? [a]\n: b", "line 1"),
        ("name: \x01", "cannot be read"),
        ("name: 2026-99-99", "2026"),
        ("aging: " + "9" * 5000, "digits"),
        ("[" * 5000, ""),
    ],
)  # fmt: skip
def test_an_invalid_file_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """A file that is not a mapping in YAML or JSON is refused, with the line if known."""
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        OverlayOptions(config=path).overlay()
    assert raised.value.field == "--config"
    if says != "2026":
        assert says in raised.value.reason
    assert str(path) in raised.value.reason


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a directory, or a file that is not text."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "missing", tmp_path, binary):
        with pytest.raises(ConfigurationError) as raised:
            OverlayOptions(config=path).overlay()
        assert raised.value.field == "--config"
        assert str(path) in raised.value.reason


def test_a_mistake_in_a_file_names_its_key(tmp_path: Path) -> None:
    """A refusal by the model names the key in the file."""
    path = tmp_path / "overlay.yaml"
    path.write_text(FULL.replace("vlan: 101", "vlan: 100"))
    with pytest.raises(ConfigurationError) as raised:
        OverlayOptions(config=path).overlay()
    assert raised.value.field == "segments.1.vlan"


@pytest.mark.parametrize(
    ("other", "option"),
    [
        ({"name": "x"}, "--name"),
        ({"name": ""}, "--name"),
        ({"tunnel_bridge": "t"}, "--tunnel-bridge"),
        ({"underlay": "eth0"}, "--underlay"),
        ({"segments": ["5"]}, "--segment"),
        ({"udp_port": 4789}, "--udp-port"),
        ({"udp_port": 0}, "--udp-port"),
        ({"ttl": 0}, "--ttl"),
        ({"groups": "239.1.0.0/20"}, "--groups"),
        ({"learned_limit": 1}, "--learned-limit"),
        ({"peers": ["10.0.0.2"]}, "--peer"),
    ],
)
def test_a_file_excludes_other_options(tmp_path: Path, other: dict[str, str], option: str) -> None:
    """With a file every other option is refused, also an invalid one."""
    path = tmp_path / "overlay.yaml"
    path.write_text(FULL)
    for ask in (OverlayOptions.overlay, OverlayOptions.overlay_name):
        with pytest.raises(ConfigurationError) as raised:
            ask(OverlayOptions(config=path, **other))  # type: ignore[arg-type]
        assert raised.value.field == option


def test_the_name_alone_is_enough_for_teardown() -> None:
    """Teardown needs neither underlay nor segments; the default name is the model's."""
    assert OverlayOptions().overlay_name() == "default"
    assert OverlayOptions(name="tenants").overlay_name() == "tenants"
