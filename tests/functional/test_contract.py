"""The command's contract: exit statuses, what goes to stdout, and the shapes of its JSON.

h1: br-int ═ br-mcast ─ vxlan      eth0 ─ switch
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

import ovs_mcast
from tests.functional.node import Node, difference

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENTS = ("--segment", "100,group=239.0.0.1,vlan=7", "--segment", "101")
OPTIONS = {
    "--name": "tenants", "--bridge": "br-x", "--tunnel-bridge": "br-t", "--groups": "239.1.0.0/20",
    "--udp-port": "4790", "--ttl": "8", "--membership": "autojoin", "--aging": "60",
    "--learned-limit": "9", "--datapath": "system", "--underlay": "eth0",
}  # fmt: skip
CONFIGURATION = {
    "name": "tenants", "bridge": "br-x", "tunnel_bridge": "br-t", "groups": "239.1.0.0/20",
    "membership": "autojoin", "aging": 60, "learned_limit": 9, "datapath": "system",
    "underlay": {"device": "eth0", "udp_port": 4790, "ttl": 8},
    "segments": [{"vni": 100, "vlan": 7, "group": "239.0.0.1"}, {"vni": 101}],
}  # fmt: skip
ENVIRONMENT = {"PYTHONPATH": str(Path(ovs_mcast.__file__).resolve().parents[1])}


def assert_shape(report: dict[str, object]) -> None:
    """The keys and types of the contract; more keys at the top level may come."""
    assert report.keys() >= {"overlay", "changed", "changes", "verified", "segments", "problems"}
    changes, segments, problems = report["changes"], report["segments"], report["problems"]
    assert isinstance(changes, list)
    assert isinstance(segments, dict)
    assert isinstance(problems, list)
    assert all(isinstance(problem, str) for problem in problems)
    assert report["changed"] is bool(changes)
    for change in changes:
        assert change.keys() == {"action", "kind", "target", "reason"}
        assert change["action"] in {"add", "update", "remove"}
        assert change["kind"] in {"bridge", "port", "address", "route", "flow", "membership"}
    for vni, segment in segments.items():
        assert vni.isdigit()
        assert segment.keys() == {"vlan", "group", "joined_by", "send_path"}
        assert segment["joined_by"] in {"autojoin", "repaired", "peer", "socket"}
        assert segment["send_path"] in {"wire", "loopback", "none"}


def command(node: Node, module: str, *arguments: str) -> CompletedProcess[str]:
    """A fresh Python, as a user starts it."""
    return node.host.run(sys.executable, "-m", module, *arguments, env=ENVIRONMENT, check=False)


def test_json_alone_is_on_stdout(dummy: Node) -> None:
    """Each outcome has its exit status and one JSON document of the same shape on stdout."""
    outcomes = [
        (4, ("--dry-run", *SEGMENTS[:2])),
        (0, SEGMENTS[:2]),
        (0, SEGMENTS[:2]),
        (0, ("--dry-run", *SEGMENTS[:2])),
        (2, SEGMENTS),
        (4, ("--dry-run", "--teardown")),
        (0, ("--teardown",)),
        (0, ("--teardown",)),
        (5, ("--teardown", "--db", "unix:/nowhere/db.sock")),
    ]
    for status, arguments in outcomes:
        result = dummy.setup(*arguments)
        assert result.status == status, (arguments, result.stderr)
        assert_shape(result.report)
        assert result.report["overlay"] == "default"
        if status:
            assert result.report["verified"] is False
        for problem in result.report["problems"]:
            assert problem in result.stderr


def test_without_json_stdout_is_empty(dummy: Node) -> None:
    """For people all is on stderr: the changes, then how it ended."""
    given = ("--underlay", "eth0", "--membership", "autojoin")
    done = dummy.setup(*given, *SEGMENTS[:2], bare=True)
    assert (done.status, done.stdout) == (0, "")
    assert "+ bridge br-mcast: missing" in done.stderr
    assert "+ flow vlan 7 → 239.0.0.1: missing" in done.stderr
    assert "applied and verified" in done.stderr
    again = dummy.setup(*given, *SEGMENTS[:2], bare=True)
    assert (again.status, again.stdout) == (0, "")
    assert "nothing to change" in again.stderr
    gone = dummy.setup("--teardown", bare=True)
    assert (gone.status, gone.stdout) == (0, "")
    assert "- bridge br-mcast" in gone.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("--udp-port", "many"),
        (),
        ("--underlay", "eth0"),
        ("--segment", "1,group=239.0.0.1"),
        ("--underlay", "eth0", "--segment", "one"),
        ("--underlay", "eth0", "--segment", "1,colour=red"),
        ("--config", "x.yml", "--segment", "1"),
    ],
)
def test_bad_arguments(dummy: Node, arguments: tuple[str, ...]) -> None:
    """Exit 2, nothing on stdout, the option at fault on stderr."""
    done = dummy.setup(*arguments, bare=True)
    assert (done.status, done.stdout) == (2, "")
    assert "--" in done.stderr


def test_a_file_is_the_same_as_options(dummy: Node, tmp_path: Path) -> None:
    """Options, YAML and JSON of the same content: after one, the others have nothing to do."""
    options = [part for option in OPTIONS.items() for part in option]
    before = dummy.state()
    first = dummy.built(*options, *SEGMENTS)
    as_json, as_yaml = tmp_path / "overlay.json", tmp_path / "overlay.yml"
    as_json.write_text(json.dumps(CONFIGURATION))
    as_yaml.write_text(yaml.safe_dump(CONFIGURATION))
    for file in (as_json, as_yaml):
        same = dummy.built("--config", str(file))
        assert same.changes == []
        assert same.report["segments"] == first.report["segments"]
        assert same.report["overlay"] == "tenants"
    assert first.report["segments"]["101"]["group"] == "239.1.0.101"
    gone = dummy.built("--teardown", "--config", str(as_yaml))
    assert gone.report["overlay"] == "tenants"
    assert difference(before, dummy.state()) == []


def test_the_console_script_is_the_module(dummy: Node) -> None:
    """`ovs-mcast setup` and `python -m ovs_mcast.setup` behave alike."""
    arguments = ("--underlay", "eth0", "--membership", "autojoin", *SEGMENTS[:2], "--json")
    told = command(dummy, "ovs_mcast.setup", "--dry-run", *arguments)
    script = "from ovs_mcast.__main__ import main; main()"
    again = dummy.host.run(
        sys.executable, "-c", script, "setup", "--dry-run", *arguments, env=ENVIRONMENT, check=False
    )
    assert (told.returncode, told.stdout) == (again.returncode, again.stdout)
    assert told.returncode == 4
    assert_shape(json.loads(told.stdout))
    made = dummy.host.run(
        sys.executable, "-c", script, "setup", *arguments, env=ENVIRONMENT, check=False
    )
    assert (made.returncode, json.loads(made.stdout)["verified"]) == (0, True)
    gone = command(dummy, "ovs_mcast.setup", "--teardown", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["changed"]) == (0, True)
