"""The schema of the database: answers in parts, and servers that do not answer."""

from __future__ import annotations

import json
import socket
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest

from ovs_mcast.adapters.ovsdb import schema
from ovs_mcast.adapters.ovsdb.connection import Ovsdb
from ovs_mcast.errors import UnavailableError

pytestmark = pytest.mark.timeout(60, method="thread")

SCHEMA = {"name": "Open_vSwitch", "tables": {"Bridge": {"é": {}}}}


def test_a_server_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    """It accepts and says nothing: an error that names the remote, and no wait without end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "db"))
        server.listen()
        with pytest.raises(UnavailableError, match=f"at unix:{tmp_path}/db .*timed out"):
            Ovsdb(f"unix:{tmp_path}/db", timeout=0.2)


def test_an_answer_in_parts() -> None:
    """Parts may end where an object does, or within a character."""
    text = json.dumps({"id": 0, "error": None, "result": SCHEMA}, ensure_ascii=False).encode()
    cuts = [0, text.index(b"}") + 1, text.index("é".encode()) + 1, len(text)]
    cuts.sort()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                assert json.loads(connection.recv(1000))["params"] == ["Open_vSwitch"]
                for begin, end in pairwise(cuts):
                    connection.sendall(text[begin:end])

        thread = Thread(target=answer)
        thread.start()
        try:
            assert schema.fetch(f"tcp:127.0.0.1:{server.getsockname()[1]}", 20) == SCHEMA
        finally:
            thread.join()


@pytest.mark.parametrize("answer", [b"", b'{"id": 0, "error": "unknown database"}'])
def test_a_server_without_the_database(tmp_path: Path, answer: bytes) -> None:
    """It ends the connection, or says that it has no such database."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "db"))
        server.listen()

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = Thread(target=refuse)
        thread.start()
        try:
            with pytest.raises(UnavailableError, match=r"closed the connection|no database"):
                Ovsdb(f"unix:{tmp_path}/db", timeout=20)
        finally:
            thread.join()
