"""Overlays are validated once, when made; a refusal names the field as the file would."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress
from pydantic import ValidationError

from ovs_mcast import ConfigurationError, OvsMcastError
from ovs_mcast.core.model import Overlay, Segment, Underlay

from .strategies import overlays

DEVICE = {"device": "eth0"}
G1, G2 = "239.0.0.1", "239.0.0.2"


def config(**values: object) -> dict[str, object]:
    """Return a configuration that is valid except for the given values."""
    return {"underlay": DEVICE, "groups": "239.1.0.0/20", **values}


def segments(*rows: Mapping[Any, object], **values: object) -> dict[str, object]:
    return config(segments=list(rows), **values)


REFUSED: list[tuple[str, object, str]] = [
    # VNI and VLAN
    ("VNI 0", segments({"vni": 0}), "segments.0.vni"),
    ("VNI negative", segments({"vni": -1}), "segments.0.vni"),
    ("VNI too large", segments({"vni": 1 << 24, "vlan": 1}), "segments.0.vni"),
    ("VNI too large, no VLAN", segments({"vni": 1 << 24}), "segments.0.vni"),
    ("VNI missing", segments({"vlan": 1}), "segments.0.vni"),
    ("VLAN 0", segments({"vni": 1, "vlan": 0}), "segments.0.vlan"),
    ("VLAN 4095", segments({"vni": 1, "vlan": 4095}), "segments.0.vlan"),
    ("VNI above 4094 without VLAN", segments({"vni": 4095}), "segments.0.vlan"),
    ("VNI twice", segments({"vni": 1}, {"vni": 2}, {"vni": 1, "vlan": 3}), "segments.2.vni"),
    ("VLAN twice", segments({"vni": 5000, "vlan": 2}, {"vni": 2}), "segments.1.vlan"),
    # Groups
    ("unicast group", segments({"vni": 1, "group": "10.0.0.1"}), "segments.0.group"),
    ("224.0.0.0/24", segments({"vni": 1, "group": "224.0.0.5"}), "segments.0.group"),
    ("232.0.0.0/8", segments({"vni": 1, "group": "232.1.1.1"}), "segments.0.group"),
    ("interface-local", segments({"vni": 1, "group": "ff01::5"}), "segments.0.group"),
    ("link-local", segments({"vni": 1, "group": "ff02::5"}), "segments.0.group"),
    ("link-local, flags", segments({"vni": 1, "group": "ff12::5"}), "segments.0.group"),
    ("no address", segments({"vni": 1, "group": "abc"}), "segments.0.group"),
    ("group a number", segments({"vni": 1, "group": 4009754625}), "segments.0.group"),
    ("no group, no pool", segments({"vni": 1}, groups=None), "segments.0.group"),
    ("two families", segments({"vni": 1, "group": G1}, {"vni": 2, "group": "ff05::1"}),
     "segments.1.group"),
    ("pool of another family", segments({"vni": 1}, {"vni": 2, "group": "ff05::1"}),
     "segments.1.group"),
    ("unicast pool", config(groups="10.0.0.0/8"), "groups"),
    ("pool with host bits", config(groups="239.1.0.1/20"), "groups"),
    ("pool not a network", config(groups="239.1.0.0"), "groups"),
    ("pool a list", config(groups=["239.1.0.0/20"]), "groups"),
    ("reserved pool", config(groups="224.0.0.0/24"), "groups"),
    # The underlay
    ("multicast VTEP", config(underlay={**DEVICE, "vtep": G1}), "underlay.vtep"),
    ("broadcast VTEP", config(underlay={**DEVICE, "vtep": "255.255.255.255"}), "underlay.vtep"),
    ("loopback VTEP", config(underlay={**DEVICE, "vtep": "127.0.0.1"}), "underlay.vtep"),
    ("link-local VTEP", config(underlay={**DEVICE, "vtep": "fe80::1"}), "underlay.vtep"),
    ("VTEP with prefix", config(underlay={**DEVICE, "vtep": "10.0.0.1/24"}), "underlay.vtep"),
    ("VTEP of another family", segments({"vni": 1}, underlay={**DEVICE, "vtep": "fd00::1"}),
     "underlay.vtep"),
    ("IPv4 VTEP, IPv6 group",
     segments({"vni": 1, "group": "ff05::1"}, underlay={**DEVICE, "vtep": "10.0.0.1"}),
     "underlay.vtep"),
    ("UDP port 0", config(underlay={**DEVICE, "udp_port": 0}), "underlay.udp_port"),
    ("UDP port 65536", config(underlay={**DEVICE, "udp_port": 65536}), "underlay.udp_port"),
    ("TTL 0", config(underlay={**DEVICE, "ttl": 0}), "underlay.ttl"),
    ("TTL 256", config(underlay={**DEVICE, "ttl": 256}), "underlay.ttl"),
    ("ECN in the TOS", config(underlay={**DEVICE, "tos": 3}), "underlay.tos"),
    ("TOS 256", config(underlay={**DEVICE, "tos": 256}), "underlay.tos"),
    ("TOS a word", config(underlay={**DEVICE, "tos": "copy"}), "underlay.tos"),
    ("TOS true", config(underlay={**DEVICE, "tos": True}), "underlay.tos"),
    ("DF a number", config(underlay={**DEVICE, "df": 0}), "underlay.df"),
    ("checksum a word", config(underlay={**DEVICE, "checksum": "yes"}), "underlay.checksum"),
    ("mark 0", config(underlay={**DEVICE, "mark": 0}), "underlay.mark"),
    ("mark of 33 bits", config(underlay={**DEVICE, "mark": 1 << 32}), "underlay.mark"),
    ("mark, userspace", config(datapath="netdev", underlay={**DEVICE, "mark": 7}),
     "underlay.mark"),
    ("no underlay", {"segments": []}, "underlay"),
    ("no device", config(underlay={}), "underlay.device"),
    ("underlay a name", config(underlay="eth0"), "underlay"),
    # Names
    ("device too long", config(underlay={"device": "a" * 16}), "underlay.device"),
    ("device too long in octets", config(underlay={"device": "ü" * 8}), "underlay.device"),
    ("empty device", config(underlay={"device": ""}), "underlay.device"),
    ("device a number", config(underlay={"device": 0}), "underlay.device"),
    ("bridge with slash", config(bridge="a/b"), "bridge"),
    ("bridge with colon", config(bridge="a:b"), "bridge"),
    ("bridge with space", config(bridge="a b"), "bridge"),
    ("bridge with newline", config(bridge="br-int\n"), "bridge"),
    ("bridge .", config(bridge="."), "bridge"),
    ("tunnel bridge ..", config(tunnel_bridge=".."), "tunnel_bridge"),
    ("tunnel bridge too long", config(tunnel_bridge="b" * 16), "tunnel_bridge"),
    ("same bridges", config(bridge="br", tunnel_bridge="br"), "tunnel_bridge"),
    ("bridge is the default tunnel bridge", config(bridge="br-mcast"), "tunnel_bridge"),
    ("bridge is the device", config(bridge="eth0"), "bridge"),
    ("tunnel bridge is the device", config(tunnel_bridge="eth0"), "tunnel_bridge"),
    ("empty name", config(name=""), "name"),
    ("name with space", config(name="a b"), "name"),
    ("name with newline", config(name="a\n"), "name"),
    ("name too long", config(name="a" * 64), "name"),
    # Choices
    ("datapath", config(datapath="dpdk"), "datapath"),
    ("membership", config(membership="igmp"), "membership"),
    ("aging 0", config(aging=0), "aging"),
    ("aging 65536", config(aging=65536), "aging"),
    ("learned limit 0", config(learned_limit=0), "learned_limit"),
    ("guard a word", config(guard="yes"), "guard"),
    ("inner VLAN", config(inner_vlan="pass"), "inner_vlan"),
    ("peers alone", config(peers=["10.0.0.2"]), "peers"),
    ("no peers", config(only_peers=True), "only_peers"),
    ("peer with host bits", config(peers=["10.0.0.2/24"], only_peers=True), "peers.0"),
    ("peer a group", config(peers=["10.0.0.2", G1], only_peers=True), "peers.1"),
    ("every peer", config(peers=["0.0.0.0/0"], only_peers=True), "peers.0"),
    ("peer a number", config(peers=[10], only_peers=True), "peers.0"),
    ("peer a name", config(peers=["h2"], only_peers=True), "peers.0"),
    ("peer of another family", segments({"vni": 1}, peers=["fd00::/64"], only_peers=True),
     "peers.0"),
    # Unknown keys
    ("unknown key", config(colour="red"), "colour"),
    ("unknown key of the underlay", config(underlay={**DEVICE, "mtu": 9}), "underlay.mtu"),
    ("unknown key of a segment", segments({"vni": 1}, {"vni": 2, "vlna": 3}), "segments.1.vlna"),
    ("misspelt key", config(segmnts=[]), "segmnts"),
    ("key that is a number", config(underlay={"device": "eth0", 1: "eth0"}), "underlay.1"),
    ("segments by VNI", segments({100: {"vlan": 5}}), "segments.0.vni"),
    # Shapes
    ("segments a mapping", config(segments={"100": {"vlan": 1}}), "segments"),
    ("segments a text", config(segments="100"), "segments"),
    ("segment a number", config(segments=[100]), "segments.0"),
    ("segment a text", config(segments=["100"]), "segments.0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "field"), [pytest.param(data, field, id=name) for name, data, field in REFUSED]
)
def test_a_refusal_names_the_field(data: dict[str, object], field: str) -> None:
    """An invalid value is a ConfigurationError of one sentence that names the field."""
    with pytest.raises(ConfigurationError) as raised:
        Overlay.from_mapping(data)
    assert raised.value.field == field
    assert str(raised.value) == f"{raised.value.field}: {raised.value.reason}"
    assert raised.value.reason
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("vni", "segments.0.vni"),
        ("vlan", "segments.0.vlan"),
        ("udp_port", "underlay.udp_port"),
        ("ttl", "underlay.ttl"),
        ("aging", "aging"),
        ("learned_limit", "learned_limit"),
    ],
)
@pytest.mark.parametrize("value", [True, False, "10", "", 10.0, 1.5, [10], {}])
def test_only_a_number_is_a_number(where: str, field: str, value: object) -> None:
    """Booleans, text, floats and lists are not taken for the number that they resemble."""
    segment: dict[str, object] = {"vni": 10, "vlan": 10}
    underlay: dict[str, object] = dict(DEVICE)
    data = config(segments=[segment], underlay=underlay)
    target = {"segments.0": segment, "underlay": underlay}.get(field.rpartition(".")[0], data)
    target[where] = value
    with pytest.raises(ConfigurationError) as raised:
        Overlay.from_mapping(data)
    assert raised.value.field == field


@pytest.mark.parametrize("data", [None, [], "overlay", 3, [("name", "x")]])
def test_a_configuration_is_a_mapping(data: object) -> None:
    """A list, a text or nothing is not a configuration."""
    with pytest.raises(ConfigurationError, match="not a mapping"):
        Overlay.from_mapping(data)


def test_a_refusal_is_a_value_error_and_ours() -> None:
    """Callers may catch ValueError, or every error of ovs_mcast at once."""
    with pytest.raises(ValueError, match=r"^vni: .*0") as raised:
        Segment(vni=0)
    assert isinstance(raised.value, OvsMcastError)
    assert raised.value.exit_status == 2


def test_a_refusal_within_a_segment_of_the_library() -> None:
    """Made alone, a segment or an underlay names its own field."""
    for make, field in (
        (lambda: Segment(vni=1, group="10.0.0.1"), "group"),
        (lambda: Segment(vni=70000), "vlan"),
        (lambda: Underlay(device="a/b"), "device"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            make()
        assert raised.value.field == field


def test_what_is_left_out_has_its_default() -> None:
    """The defaults are those of the contract."""
    overlay = Overlay(underlay=Underlay(device="eth0"))
    assert (overlay.name, overlay.bridge, overlay.tunnel_bridge) == (
        "default",
        "br-int",
        "br-mcast",
    )
    assert (overlay.datapath, overlay.membership, overlay.segments) == ("system", "auto", ())
    assert (overlay.underlay.udp_port, overlay.underlay.vtep) == (4789, None)
    assert (overlay.aging, overlay.groups) == (300, None)


def test_none_is_left_out() -> None:
    """A key without a value, as an empty line in YAML, has its default too."""
    full = config(name=None, segments=[{"vni": 7, "vlan": None, "group": None}], aging=None)
    [segment] = Overlay.from_mapping(full).segments
    assert (segment.vni, segment.vlan, str(segment.group)) == (7, 7, "239.1.0.7")


def test_the_limits_are_allowed() -> None:
    """The first and the last of every range is in it."""
    for vni, vlan, ttl, port in ((1, 1, 1, 1), ((1 << 24) - 1, 4094, 255, 65535)):
        overlay = Overlay(
            underlay=Underlay(device="d" * 15, ttl=ttl, udp_port=port),
            segments=[Segment(vni=vni, vlan=vlan, group=G1)],
        )
        assert overlay.segments[0].vni == vni
    assert Segment(vni=4094).vlan == 4094


def test_segments_are_ordered_and_their_groups_resolved() -> None:
    """Segments are kept by VNI; a group of its own is kept, another is from the pool."""
    overlay = Overlay.from_mapping(segments({"vni": 4100, "vlan": 9}, {"vni": 3, "group": G2}))
    assert [segment.vni for segment in overlay.segments] == [3, 4100]
    assert [str(segment.flood_group) for segment in overlay.segments] == [G2, "239.1.0.4"]
    assert list(overlay.flood_groups) == [IPAddress(G2), IPAddress("239.1.0.4")]


def test_the_first_vni_that_is_no_vlan_says_what_to_do() -> None:
    """VNI 4095 needs a VLAN of its own, and the message asks for it."""
    with pytest.raises(ConfigurationError, match="name the VLAN"):
        Segment(vni=4095)


def test_a_segment_alone_may_lack_its_group() -> None:
    """A segment without a group is a value; asking it for its group is refused."""
    segment = Segment(vni=5)
    assert segment.group is None
    with pytest.raises(ConfigurationError) as raised:
        _ = segment.flood_group
    assert raised.value.field == "group"


@pytest.mark.parametrize(
    ("overlay", "family"),
    [
        (Overlay(underlay=Underlay(device="e")), 4),
        (Overlay(underlay=Underlay(device="e", vtep="fd00::1")), 6),
        (Overlay(underlay=Underlay(device="e"), groups="ff05::/16"), 6),
        (Overlay(underlay=Underlay(device="e"), segments=[Segment(vni=1, group="ff05::1")]), 6),
        (Overlay(underlay=Underlay(device="e"), segments=[Segment(vni=1, group=G1)]), 4),
    ],
)
def test_the_family_of_an_overlay(overlay: Overlay, family: int) -> None:
    """The groups determine the address family; without groups the VTEP or the pool does."""
    assert overlay.family == family


def test_groups_that_share_an_ethernet_address_are_a_warning() -> None:
    """Two such groups are allowed, and named with the address that they share."""
    alike = Overlay.from_mapping(
        segments(
            {"vni": 1, "group": G1}, {"vni": 2, "group": "239.128.0.1"}, {"vni": 3, "group": G2}
        )
    )
    [warning] = alike.warnings()
    assert "239.0.0.1, 239.128.0.1" in warning
    assert "01:00:5e:00:00:01" in warning
    assert G2 not in warning


def test_segments_of_one_group_are_no_warning() -> None:
    """Sharing the group itself, as a small pool makes segments do, is meant."""
    shared = Overlay.from_mapping(segments({"vni": 1, "group": G1}, {"vni": 2, "group": G1}))
    assert shared.warnings() == []
    assert len(shared.flood_groups) == 1


def test_values_do_not_change() -> None:
    """Overlays are frozen."""
    overlay = Overlay(underlay=Underlay(device="eth0"))
    with pytest.raises(ValidationError):
        overlay.name = "other"


@given(overlays())
def test_a_file_says_the_same_as_the_library(overlay: Overlay) -> None:
    """An overlay written down as a mapping of text and numbers reads back as itself."""
    data = overlay.model_dump(exclude_none=True)
    data["underlay"] = {key: _plain(value) for key, value in data["underlay"].items()}
    data["segments"] = [
        {key: _plain(value) for key, value in row.items()} for row in data["segments"]
    ]
    if "groups" in data:
        data["groups"] = str(data["groups"])
    assert Overlay.from_mapping(data) == overlay
    assert overlay.warnings() == Overlay.from_mapping(data).warnings()


def _plain(value: object) -> object:
    return str(value) if isinstance(value, IPAddress) else value


_keys: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(["name", "bridge", "underlay", "groups", "segments", "vni", "vlan", "ttl"]),
    st.integers(0, 3),
    st.text(max_size=3),
)
_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_keys, _values, max_size=5))
def test_any_file_is_an_overlay_or_refused(data: dict[object, object]) -> None:
    """Whatever a file holds, no other error than ConfigurationError comes of it."""
    for given_data in (data, {"underlay": DEVICE, "groups": "239.1.0.0/20", **data}):
        with suppress(ConfigurationError):
            Overlay.from_mapping(given_data)
