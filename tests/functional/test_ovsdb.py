"""The connection to an ovsdb-server that goes away: what waits for it ends, at once and always."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_mcast.adapters.ovsdb import Ovsdb
from ovs_mcast.changes import Change
from ovs_mcast.errors import UnavailableError
from ovs_mcast.events import RowEvent
from ovs_mcast.state import Bridge
from tests.functional.wire import eventually

pytestmark = [pytest.mark.needs("ovsdb-server", "ovsdb-tool"), pytest.mark.timeout(30)]

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


@contextmanager
def ovsdb_server(directory: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One of its own, and where it listens."""
    database, remote = directory / "conf.db", f"unix:{directory}/db.sock"
    subprocess.run(["ovsdb-tool", "create", database, _SCHEMA], check=True)
    server = subprocess.Popen(
        ["ovsdb-server", database, f"--remote=p{remote}", f"--unixctl={directory}/ctl",
         f"--log-file={directory}/log", "-vconsole:off"]
    )  # fmt: skip
    try:
        assert eventually((directory / "db.sock").exists)
        vsctl = ["ovs-vsctl", "--no-wait", f"--db={remote}", "--timeout=20", "init"]
        subprocess.run(vsctl, check=True)
        yield remote, server
    finally:
        server.kill()
        server.wait()


def test_who_watches_is_told_once_and_never_waits_again(tmp_path: Path) -> None:
    """The lock and a transaction fail at once, however often they are asked for.

    ovsdb-server (killed) ─ unix socket ─ Ovsdb
    """
    told: list[RowEvent] = []
    with ovsdb_server(tmp_path) as (remote, server):
        rows = Ovsdb(remote)
        rows.bridges()
        with rows.exclusive(5.0):
            rows.watch(told.append)
        server.kill()
        server.wait()
        assert eventually(lambda: RowEvent() in told)
        for _ in range(5):
            with (
                pytest.raises(UnavailableError, match="no ovsdb-server answers"),
                rows.exclusive(5.0),
            ):
                pass
        with pytest.raises(UnavailableError, match="went away"):
            rows.apply([Change("add", Bridge("br-mcast", "system"), "missing")])
        rows.close()
    assert told.count(RowEvent()) == 1
