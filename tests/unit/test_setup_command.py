"""`ovs-mcast setup` that ends before it changes a machine: exit status, JSON, stderr."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ovs_mcast import Overlay, Segment, Underlay
from ovs_mcast.cli.app import add_command, application
from ovs_mcast.setup.command import setup

ONE = ["--underlay", "eth0", "--segment", "100,group=239.0.0.1"]


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    app = application()
    add_command(app, setup)
    return CliRunner().invoke(app, list(arguments))


def nowhere(tmp_path: Path) -> list[str]:
    """Return the options for an Open vSwitch that does not run."""
    return ["--db", f"unix:{tmp_path}/db.sock"]


BAD: list[tuple[str, list[str], str]] = [
    ("nothing", [], "--underlay"),
    ("no underlay", ["--segment", "100"], "--underlay"),
    ("no segment", ["--underlay", "eth0"], "--segment"),
    ("segment not a number", ["--underlay", "eth0", "--segment", "x"], "--segment"),
    ("segment key", ["--underlay", "eth0", "--segment", "1,colour=red"], "--segment"),
    ("no group", ["--underlay", "eth0", "--segment", "100"], "segments.0.group"),
    ("unicast group", ["--underlay", "eth0", "--segment", "1,group=10.0.0.1"], "segments.0.group"),
    ("VNI", ["--underlay", "eth0", "--segment", "0"], "segments.0.vni"),
    ("VLAN twice", [*ONE, "--segment", "5,vlan=100,group=239.0.0.2"], "segments.1.vlan"),
    ("device", ["--underlay", "a/b", "--segment", "1,group=239.0.0.1"], "underlay.device"),
    ("TTL", [*ONE, "--ttl", "0"], "underlay.ttl"),
    ("UDP port", [*ONE, "--udp-port", "65536"], "underlay.udp_port"),
    ("VTEP", [*ONE, "--vtep", "239.0.0.1"], "underlay.vtep"),
    ("datapath", [*ONE, "--datapath", "dpdk"], "datapath"),
    ("membership", [*ONE, "--membership", "igmp"], "membership"),
    ("same bridges", [*ONE, "--bridge", "br-mcast"], "tunnel_bridge"),
    ("no file", ["--config", "/nonexistent/overlay.yaml"], "--config"),
    ("file and option", ["--config", "/nonexistent/overlay.yaml", "--ttl", "3"], "--ttl"),
]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [pytest.param(arguments, field, id=name) for name, arguments, field in BAD],
)
def test_bad_arguments_end_with_status_2(arguments: list[str], field: str) -> None:
    """Stderr names the field, stdout is empty, and Open vSwitch is not contacted."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert field in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "field"),
    [pytest.param(arguments, field, id=name) for name, arguments, field in BAD],
)
def test_bad_arguments_in_json(arguments: list[str], field: str) -> None:
    """With --json stdout is one document of the contract's shape, without a change."""
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert {"overlay", "changed", "changes", "verified", "segments", "problems"} <= set(report)
    assert (report["changed"], report["changes"], report["verified"]) == (False, [], False)
    assert report["segments"] == {}
    [problem] = report["problems"]
    assert problem.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "arguments",
    [["--ttl", "many"], ["--colour", "red"], ["--segment"], ["--udp-port", "4789.5"], ["extra"]],
)
def test_usage_errors_end_with_status_2(arguments: list[str]) -> None:
    """An unknown option is reported on stderr, with or without --json."""
    for more in ([], ["--json"]):
        result = run(*more, *arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr


def test_an_incomplete_file(tmp_path: Path) -> None:
    """An error in the file is reported by its key."""
    path = tmp_path / "overlay.yaml"
    path.write_text("underlay: {device: eth0}\nsegments: [{vni: 5000, group: 239.0.0.1}]\n")
    result = run("--config", str(path))
    assert result.exit_code == 2
    assert "segments.0.vlan" in result.stderr


def reported(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("command", [ONE, ["--teardown"], [*ONE, "--dry-run"],
                                     ["--teardown", "--dry-run"]])  # fmt: skip
def test_without_open_vswitch_the_status_is_5(tmp_path: Path, command: list[str]) -> None:
    """Build, teardown and dry run exit 5 without Open vSwitch, with one sentence of advice."""
    result = run(*command, *nowhere(tmp_path))
    assert result.exit_code == 5
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_without_open_vswitch_the_message_names_the_cure(tmp_path: Path) -> None:
    """A dry run needs no privilege; the message names what is missing, and where."""
    result = run("--teardown", "--dry-run", *nowhere(tmp_path))
    assert "start openvswitch-switch" in result.stderr
    assert str(tmp_path) in result.stderr


def test_without_open_vswitch_in_json(tmp_path: Path) -> None:
    """The JSON names the overlay and has the sentence as its problem."""
    result = run("--teardown", "--json", "--name", "tenants", *nowhere(tmp_path))
    assert result.exit_code == 5
    assert reported(result)["overlay"] == "tenants"
    assert len(reported(result)["problems"]) == 1


def test_json_names_the_overlay_of_the_file(tmp_path: Path) -> None:
    """A failure is reported under the name in the file, not under the default."""
    path = tmp_path / "overlay.yaml"
    path.write_text(
        "name: tenants\nunderlay: {device: eth0}\nsegments: [{vni: 5, group: 239.0.0.1}]\n"
    )
    for more in ([], ["--teardown"], ["--dry-run"]):
        result = run("--config", str(path), "--json", *more, *nowhere(tmp_path))
        assert result.exit_code == 5
        assert reported(result)["overlay"] == "tenants"


def test_teardown_needs_no_configuration(tmp_path: Path) -> None:
    """No underlay and no segment are required: marks identify the overlay."""
    result = run("--teardown", *nowhere(tmp_path))
    assert "--underlay" not in result.stderr
    assert result.exit_code == 5


def test_the_help_explains_the_exit_statuses() -> None:
    """The help is on stdout and explains the exit statuses."""
    result = run("--help")
    assert result.exit_code == 0
    assert "Exit status" in result.stdout
    for option in ("--config", "--segment", "--teardown", "--dry-run", "--json", "--hold"):
        assert option in result.stdout


def test_the_help_shows_the_defaults() -> None:
    """The defaults are those of the model, in brackets that neither typer nor rich consumes."""
    shown = run("--help").stdout
    options = (" ".join(option.split()) for option in shown.split("\n  --"))
    found = (re.fullmatch(r"([\w-]+).*\[default: (.*)\]", option) for option in options)
    shown_defaults = {match[1]: match[2] for match in found if match}
    underlay = Underlay(device="eth0")
    overlay = Overlay(underlay=underlay, segments=[Segment(vni=1, vlan=1, group="239.0.0.1")])
    names = "name bridge tunnel_bridge datapath membership aging learned_limit inner_vlan"
    wanted = {name.replace("_", "-"): str(getattr(overlay, name)) for name in names.split()}
    wanted |= {"udp-port": str(underlay.udp_port), "ttl": str(underlay.ttl)}
    assert wanted.items() <= shown_defaults.items()
    assert shown_defaults.keys() - wanted.keys() == {"vtep", "db"}
