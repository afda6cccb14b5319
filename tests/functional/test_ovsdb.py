"""The connection to an ovsdb-server that goes away: what waits for it ends, at once and always."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_mcast.adapters.ovsdb.connection import Ovsdb
from ovs_mcast.core.changes import Change
from ovs_mcast.core.events import RowEvent
from ovs_mcast.core.items import Bridge
from ovs_mcast.errors import UnavailableError
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


def added(name: str) -> Change:
    """What makes a bridge."""
    return Change("add", Bridge(name, "system", owner="default"), "missing")


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
            rows.apply([added("br-mcast")])
        rows.close()
    assert told.count(RowEvent()) == 1


def test_a_transaction_that_is_not_followed_is_no_success(tmp_path: Path) -> None:
    """The server goes away, or time does, while a transaction waits for ovs-vswitchd: an error.

    ovsdb-server (killed) ─ unix socket ─ Ovsdb
    """
    with ovsdb_server(tmp_path) as (remote, server):
        impatient = Ovsdb(remote, follow=1)
        with pytest.raises(UnavailableError, match="took no change in 1 s"):
            impatient.apply([added("br-1")])
        rows = Ovsdb(remote)
        rows.watch(lambda _event: None)
        with ThreadPoolExecutor() as pool:
            told = pool.submit(rows.apply, [added("br-2")])
            assert eventually(lambda: "br-2" in impatient.bridges())
            server.kill()
            with pytest.raises(UnavailableError, match="went away during a transaction"):
                told.result(5)
        for connection in (rows, impatient):
            connection.close()


def test_nothing_is_logged_of_what_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An embedding agent's log gets nothing from ovsdbapp: the exception carries the error.

    ovsdb-server ─ unix socket ─ Ovsdb
    """
    with ovsdb_server(tmp_path) as (remote, _server):
        rows = Ovsdb(remote, follow=1)
        with pytest.raises(UnavailableError):
            rows.apply([added("br-1")])
        rows.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
