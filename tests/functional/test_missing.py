"""Setup names what the machine lacks and what to do, touches nothing, and shows no traceback.

h1: br-phy ─ eth0 ─ switch
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ovs_mcast
from ovs_mcast.adapters.ovsdb.connection import Ovsdb
from ovs_mcast.core.changes import Change, Plan
from ovs_mcast.core.items import Bridge
from ovs_mcast.errors import UnavailableError
from ovs_mcast.host.apply import apply
from ovs_mcast.host.connect import open_backend
from ovs_mcast.lab.namespace import RUNDIR
from tests.functional.node import Node, difference
from tests.functional.warm import Result

if TYPE_CHECKING:
    from tests.functional.node_fixtures import Hosts

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures",)

SEGMENT = ("--segment", "100,group=239.0.0.1")
WAYS = {"setup": SEGMENT, "dry run": ("--dry-run", *SEGMENT), "teardown": ("--teardown",)}
KEYS = {"overlay", "changed", "changes", "verified", "segments", "problems"}


def assert_refused(result: Result, status: int, *words: str) -> None:
    """Assert that nothing changed, and that JSON and stderr name the reason."""
    assert result.status == status, result.stderr
    assert result.report.keys() >= KEYS
    assert (result.report["changed"], result.report["changes"]) == (False, [])
    assert result.report["verified"] is False
    assert len(result.report["problems"]) == 1
    for word in words:
        assert word in result.problems
        assert word in " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Node]:
    """One host for all: nothing is ever changed on it."""
    node: Node = request.getfixturevalue("hosts").new("dummy")
    before = node.state()
    yield node
    assert difference(before, node.state()) == []


@pytest.fixture(scope="module")
def without_vswitchd(request: pytest.FixtureRequest) -> Node:
    node: Node = request.getfixturevalue("hosts").new("dummy")
    node.host.stop_vswitchd()
    return node


@pytest.fixture(scope="module")
def without_ovsdb(request: pytest.FixtureRequest) -> Node:
    node: Node = request.getfixturevalue("hosts").new("dummy")
    node.host.stop_ovsdb()
    return node


@pytest.mark.parametrize("way", WAYS)
def test_without_ovs_vswitchd(without_vswitchd: Node, way: str) -> None:
    """ovs-vswitchd does not run: exit 5, start it.

    h1: ovsdb-server alone
    """
    before = without_vswitchd.state()
    result = without_vswitchd.setup(*WAYS[way])
    assert_refused(result, 5, "ovs-vswitchd does not run", "start openvswitch-switch")
    assert difference(before, without_vswitchd.state()) == []


def test_ovs_vswitchd_ends_meanwhile(hosts: Hosts) -> None:
    """If ovs-vswitchd ends during a run, the unfollowed transaction is reported with that reason.

    h1: ovsdb-server; ovs-vswitchd (killed)
    """
    host = hosts.new("dummy").host
    remote = f"unix:{host.path(RUNDIR)}/db.sock"
    wanted = Change("add", Bridge("br-mcast", "system", owner="default"), "missing")
    with (
        closing(open_backend(remote, None, "keeper")) as connected,
        closing(Ovsdb(remote, timeout=1)) as impatient,
    ):
        host.stop_vswitchd()
        with pytest.raises(UnavailableError, match=r"ovs-vswitchd does not run .*: start"):
            apply(replace(connected, ovsdb=impatient), Plan("default", (wanted,)))


@pytest.mark.parametrize("way", WAYS)
def test_without_ovsdb_server(without_ovsdb: Node, way: str) -> None:
    """ovsdb-server does not run: exit 5, start it.

    h1: ovs-vswitchd alone
    """
    result = without_ovsdb.setup(*WAYS[way])
    assert_refused(result, 5, "no ovsdb-server answers", "db.sock", "start openvswitch-switch")


def test_without_open_vswitch(shared: Node) -> None:
    """No socket anywhere where Open vSwitch should be: exit 5."""
    for way in WAYS.values():
        result = shared.setup(*way, env={"OVS_RUNDIR": "/run/nowhere"})
        assert_refused(result, 5, "does not run", "/run/nowhere", "start openvswitch-switch")


def test_without_ovs_ofctl(shared: Node, tmp_path: Path) -> None:
    """No ovs-ofctl in PATH: exit 5, install it."""
    result = shared.setup(*SEGMENT, env={"PATH": str(tmp_path)})
    assert result.status in {1, 5}
    assert "there is no ovs-ofctl: install openvswitch-switch" in result.problems
    shared.torn_down()


@pytest.mark.parametrize("way", WAYS)
def test_without_privilege(shared: Node, way: str) -> None:
    """Nobody, without any capability: exit 5, run it as root."""
    result = shared.setup(*WAYS[way], nobody=True)
    assert_refused(result, 5, "run as root" if way == "dry run" else "run it as root")


@pytest.mark.needs("setpriv")
def test_without_capabilities(shared: Node) -> None:
    """Root without CAP_NET_ADMIN: exit 5, and which one.

    h1, as in a container
    """
    done = shared.host.run(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all",
        sys.executable, "-m", "ovs_mcast.setup", "--underlay", "eth0", *SEGMENT,
        env={"PYTHONPATH": str(Path(ovs_mcast.__file__).parents[1])}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "")
    assert "CAP_NET_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("remote", "status", "words"),
    [
        ("unix:/run", 5, "does not run"),
        ("unix:/run/openvswitch", 5, "does not run"),
        ("unix:/nowhere/db.sock", 5, "does not run"),
        ("unix:/run/openvswitch/nothing.sock", 5, "nothing.sock"),
        ("unix:/run/openvswitch/ovs-vswitchd.log", 5, "ovs-vswitchd.log"),
        ("tcp:127.0.0.1:1", 5, "ovsdb-server/add-remote ptcp:1:127.0.0.1"),
        ("tcp:[::1]:1", 5, "ovsdb-server/add-remote ptcp:1:[::1]"),
        ("", 2, "--db"),
        ("unix:", 2, "--db"),
        ("tcp:127.0.0.1", 2, "--db"),
        ("tcp:::1:6640", 2, "--db"),
        ("ptcp:6640", 2, "--db"),
        ("ssl:127.0.0.1:6640", 2, "unix:FILE"),
        ("carrier:pigeon", 2, "carrier:pigeon"),
    ],
)
def test_no_database_there(shared: Node, remote: str, status: int, words: str) -> None:
    """--db without a server behind it is exit 5; an invalid --db is exit 2; both are named."""
    for way in WAYS.values():
        assert_refused(shared.setup(*way, "--db", remote), status, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Is a directory"),
        ("gone", "No such file"),
        (b"", "not a mapping"),
        (b"- 1\n- 2\n", "not a mapping"),
        (b"just text", "not a mapping"),
        (b"\xff\xfe\x00\x01\x80", "not text"),
        (b"\0\1\2", ""),
        (b"{", "line"),
        (b"a: [b\nc: d", "line"),
        (b"a: b: c", "line"),
        (b"underlay: 7\n", "underlay"),
        (b"underlay: {device: eth0}\nsegments: {vni: 1}\n", "segments"),
        (b"underlay: {device: eth0}\nsegments: [7]\n", "segments.0"),
        (b"underlay: {device: eth0}\nsegmints: []\n", "segmints"),
        (b"underlay: {device: eth0, udp_port: '4789'}\n", "underlay.udp_port"),
        (b"1: 2\n", "underlay"),
        (b"underlay: {device: eth0}\nname: !!python/object:os.system {}\n", "line"),
        (b"a: &a [*a]\n", "a"),
    ],
)
def test_a_configuration_that_is_none(
    shared: Node, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    """An invalid configuration is exit 2, with the place of the mistake."""
    path = tmp_path / "overlay.yml"
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    result = shared.setup("--config", str(path))
    assert_refused(result, 2, words)
