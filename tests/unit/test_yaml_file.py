"""Configuration files that mean harm: each is refused in a sentence, and soon."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_mcast.cli.overlay_options import OverlayOptions
from ovs_mcast.cli.yaml_file import read_file
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.text import harmless
from ovs_mcast.errors import ConfigurationError

BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 25)
)
MERGES = "a0: &a0 {x0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], x{n}: 1}}\n" for n in range(1, 30)
)
FIFO = "a FIFO"
HARMFUL = {
    "an alias bomb": (BOMB, "too much"),
    "a bomb of merges": (MERGES, "too much"),
    "an alias within itself": ("a: &a [*a]", "too much"),
    "deep brackets": ("[" * 100_000, "nesting"),
    "deep sequences": ("- " * 100_000, "nested too deeply"),
    "deep braces": ("{a: " * 50_000, "nested too deeply"),
    "100,000 segments": (
        "segments:\n" + "".join(f"- {{vni: {n}}}\n" for n in range(1, 100_001)), "larger than",
    ),
    "50,000 short segments": (
        "segments: [" + "{vni: 1}," * 50_000 + "]", "too much",
    ),
    "5,000 segments": (
        "underlay: {device: eth0}\nsegments: [" + "{vni: 1}," * 5_000 + "]",
        "5,000 segments are more than there are VLANs, 4,094",
    ),
    "a number of 4,000 digits": (
        "underlay: {device: eth0, ttl: " + "9" * 4000 + "}", "underlay.ttl",
    ),
    "a number of 5,000 digits": ("a: " + "9" * 5000, "digits"),
    "a long key": ("underlay: {device: eth0}\n" + "k" * 1000 + ": 1", "there is no such key"),
    "a long value": ("bridge: " + "b" * 100_000, "is not a name that Linux accepts"),
    "escapes in a key": (
        'underlay: {device: eth0}\n"\\e]0;owned\\a\\e[2J": 1', "there is no such key",
    ),
    "a tag of Python's": ("a: !!python/object/apply:os.system [id]", "could not determine"),
    "nothing": ("", "is not a mapping"),
    FIFO: ("", "is not a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("what", HARMFUL)
def test_a_harmful_file_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    text, reason = HARMFUL[what]
    path = tmp_path / "overlay.yml"
    if what == FIFO:
        os.mkfifo(path)
    else:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        OverlayOptions(config=path).overlay()
    said = harmless(str(raised.value))
    assert reason in said
    assert len(said) < 600
    assert said.isprintable()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin/x", "/dev"])
def test_what_is_no_file_is_refused(device: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_file(Path(device))
    assert raised.value.field == "--config"


def test_aliases_that_people_use_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yml"
    path.write_text(
        "x: &group 239.0.0.1\ny: &segment {group: *group}\n"
        "segments: [{<<: *segment, vni: 1}, {<<: *segment, vni: 2}]\n"
    )
    assert read_file(path)["segments"] == [
        {"vni": 1, "group": "239.0.0.1"}, {"vni": 2, "group": "239.0.0.1"},
    ]  # fmt: skip


def _pretty(overlay: object) -> str:
    return json.dumps(overlay, indent=4)


@pytest.mark.parametrize("form", [_pretty, str])
def test_the_largest_overlay_is_within_the_limits(
    tmp_path: Path, form: Callable[[object], str]
) -> None:
    """4,094 segments with IPv6 groups, written out at length."""
    group = "ff05:1234:5678:9abc:def0:1234:5678"
    segments = [{"vni": 16_000_000 + n, "vlan": n, "group": f"{group}:{n:x}"}
                for n in range(1, 4095)]  # fmt: skip
    path = tmp_path / "overlay.json"
    path.write_text(form({"underlay": {"device": "eth0"}, "segments": segments}).replace("'", '"'))
    assert len(Overlay.from_mapping(read_file(path)).segments) == 4094


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text("[]{}&*<:-,!'\"\n ax1", max_size=100).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_refusal(tmp_path: Path, content: bytes) -> None:
    """Nothing but ConfigurationError, whatever the file is."""
    path = tmp_path / "overlay.yml"
    path.write_bytes(content)
    with suppress(ConfigurationError):
        OverlayOptions(config=path).overlay()


@given(st.text())
def test_what_is_said_acts_on_no_terminal(text: str) -> None:
    shown = harmless(text)
    assert shown.isprintable()
    assert harmless(shown) == shown
