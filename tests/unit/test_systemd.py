"""Notifications to a service manager and descriptors from it, on real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from ovs_mcast.adapters.systemd import Notify

MESSAGE = 4096
MOST = 253  # descriptors of one message: SCM_MAX_FD of the kernel


class ServiceManager:
    """What listens at NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(path))
        self._told.settimeout(10)
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def heard(self) -> tuple[list[str], list[int]]:
        """The lines of the next message, and the descriptors that came with it."""
        message, descriptors, _, _ = socket.recv_fds(self._told, MESSAGE, MOST + 1)
        return message.decode().split("\n"), descriptors

    def close(self) -> None:
        self._told.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path / "notify")
    yield manager
    manager.close()


# Stored and discarded


def test_a_stored_descriptor_is_the_same_socket(told: ServiceManager) -> None:
    """A descriptor is stored with its name, and is the same socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        Notify(told.environment).store("ovs-mcast-default-1", [one.fileno()])
        lines, [descriptor] = told.heard()
        assert sorted(lines) == ["FDNAME=ovs-mcast-default-1", "FDPOLL=0", "FDSTORE=1"]
        assert os.path.sameopenfile(descriptor, one.fileno())
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 7)
    with socket.socket(fileno=descriptor) as kept:
        assert kept.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7


def test_many_are_stored_in_messages_that_the_kernel_takes(told: ServiceManager) -> None:
    """253 descriptors are all that one message may have; no more than are there are passed."""
    with open(os.devnull, "rb") as null:
        Notify(told.environment).store("many", [null.fileno()] * (2 * MOST + 1))
        Notify(told.environment).store("none", [])
        Notify(told.environment).ready()
    passed = []
    for _ in range(3):
        lines, descriptors = told.heard()
        assert "FDNAME=many" in lines
        passed.append(len(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
    assert passed == [MOST, MOST, 1]
    assert told.heard() == (["READY=1"], [])


def test_discarded_by_name(told: ServiceManager) -> None:
    """Nothing is passed with it."""
    Notify(told.environment).discard("ovs-mcast-default-1")
    lines, descriptors = told.heard()
    assert (sorted(lines), descriptors) == (["FDNAME=ovs-mcast-default-1", "FDSTOREREMOVE=1"], [])


def test_what_would_be_missed_waits_for_room_in_the_queue(told: ServiceManager) -> None:
    """A status may be lost in a full queue; a request to close a descriptor never is."""
    notify = Notify(told.environment)
    limit = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for number in range(2 * limit + 10):
        notify.status(str(number))
    discard = Thread(target=notify.discard, args=("late",))
    discard.start()
    discard.join(0.3)
    assert discard.is_alive()
    while (heard := told.heard()[0])[0].startswith("STATUS="):
        assert int(heard[0].partition("=")[2]) <= limit + 1
    discard.join()
    assert "FDNAME=late" in heard


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    """No variable, or nobody who listens."""
    nobody: dict[str, str] = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    for environment in ({}, nobody):
        notify = Notify(environment)
        notify.store("name", [0])
        notify.discard("name")


# Handed over

# A process of its own: descriptors from 3 on, and variables of its own environment.
_HANDED = """
import json, os, sys
for descriptor in range(3, 3 + int(sys.argv[1])):
    os.dup2(0, descriptor)
for name, value in json.loads(sys.argv[2]).items():
    os.environ["LISTEN_" + name.upper()] = str(os.getpid()) if value == "ours" else value
from ovs_mcast.adapters.systemd import handed_over
from ovs_mcast.membership.in_process import stored_sets
handed = handed_over()
inheritable = [one for some in handed.values() for one in some if os.get_inheritable(one)]
left = [name for name in os.environ if name.startswith("LISTEN_")]
ours = stored_sets(handed)
closed = [one for some in handed.values() for one in some if not os.path.exists(f"/dev/fd/{one}")]
print(json.dumps([handed, inheritable, left, ours, closed]))
"""


def handed(number: int, **listen: str) -> tuple[dict[str, list[int]], list[str], list[int]]:
    """Return what a process with so many descriptors receives, which are ours, what is closed."""
    done = subprocess.run(
        [sys.executable, "-c", _HANDED, str(number), json.dumps(listen)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found, inheritable, left, ours, closed = json.loads(done.stdout)
    assert inheritable == []
    assert left == []
    return found, ours, closed


def test_what_was_stored_is_handed_over() -> None:
    """By name, out of reach of what we start; ours are closed, since the store has its own."""
    names = "ovs-mcast-default-1:connection:ovs-mcast-default-1:ovs-mcast-other-2"
    found, ours, closed = handed(4, pid="ours", fds="4", fdnames=names, pidfdid="7")
    assert found == {
        "ovs-mcast-default-1": [3, 5],
        "connection": [4],
        "ovs-mcast-other-2": [6],
    }
    assert ours == ["ovs-mcast-default-1", "ovs-mcast-other-2"]
    assert sorted(closed) == [3, 5, 6]


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ({}, {}),
        ({"pid": "1", "fds": "2", "fdnames": "ovs-mcast-a-1:ovs-mcast-a-1"}, {}),
        ({"pid": "ours", "fds": "-2", "fdnames": "ovs-mcast-a-1:ovs-mcast-a-1"}, {}),
        ({"pid": "ours", "fds": "2"}, {"unknown": [3, 4]}),
        ({"pid": "ours", "fds": "2", "fdnames": "ovs-mcast-a-1"}, {"unknown": [3, 4]}),
        ({"pid": "ours", "fds": "3", "fdnames": "a:b:c"}, {"a": [3], "b": [4]}),
    ],
)
def test_what_is_not_ours_is_left_alone(
    listen: dict[str, str], found: dict[str, list[int]]
) -> None:
    """Another process's number, an invalid one, and missing names are ignored."""
    assert handed(2, **listen) == (found, [], [])
