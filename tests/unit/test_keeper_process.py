"""A keeper's answers, octet by octet: keepers outlive the version that started them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from ovs_mcast.membership import keeper_process
from ovs_mcast.membership.keeper_messages import KeeperAnswer, ask
from ovs_mcast.membership.sockets import GroupSockets

_PACKAGE = Path(keeper_process.__file__).parents[1]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Path]:
    """The socket of a keeper, by a thread, that holds two groups of device "a b", which is 7."""
    path = tmp_path / "keeper"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        held = GroupSockets(7, ["239.0.0.10", "ff05::1"])
        reading, writing = os.pipe()
        thread = Thread(
            target=keeper_process.serve,
            args=(listener, held, '"a b"', os.geteuid()),
            kwargs={"thread": reading},
        )
        thread.start()
        yield path
        os.close(writing)
        thread.join()
        os.close(reading)


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"look", '"device": "a b", "index": 7, "groups": ["239.0.0.10", "ff05::1"]'),
        (b"end", '"device": "a b", "index": 7, "groups": ["239.0.0.10", "ff05::1"]'),
        (b"join 8 239.0.0.1", '"device": "a b", "index": 7, "refused": 19'),
        (b"leave 7", '"device": "a b", "index": 7, "refused": 19'),
        (b"leave 7 239.9.9.9", '"device": "a b", "index": 7, "refused": 0'),
        (b"join 7 239.0.0.10", '"device": "a b", "index": 7, "refused": 0'),
        (b"join 7 nonsense", '"device": "a b", "index": 7, "refused": 22'),
    ],
)
def test_the_answers(keeper: Path, request_: bytes, answer: str) -> None:
    """Answers are JSON that begins with the process and whether it outlives the keeper."""
    with closing(connect(keeper)) as connection:
        connection.sendall(request_)
        received = connection.recv(1 << 16).decode()
    assert received == f'{{"pid": {os.getpid()}, "stays": true, {answer}}}'


def test_asked_as_the_library_asks(keeper: Path) -> None:
    """The groups come in order; after `end` nobody answers."""
    wanted = KeeperAnswer(os.getpid(), True, "a b", 7, ("239.0.0.10", "ff05::1"), 0)
    assert ask(connect(keeper), "look") == wanted
    assert ask(connect(keeper), "end") == wanted


def test_the_program_loads_nothing_but_its_sockets() -> None:
    """Loaded as the program is, it imports two modules of ours, and none that is installed."""
    script = (
        f"import sys; sys.path.append({str(_PACKAGE)!r}); import membership.keeper_process; "
        "print(*sorted(name for name, one in sys.modules.items() "
        "if not name.startswith('_') and name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout
    assert printed.split() == ["membership", "membership.keeper_process", "membership.sockets"]
