"""The agent reports: nothing while idle, to systemd, as metrics and as records.

h1 (agent; br-int ═ br-mcast ─ vxlan ─ eth0) ─ switch
"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.functional.agents import (
    assert_true,
    configuration,
    running,
    start,
    write,
)
from tests.functional.node import Node
from tests.functional.wire import eventually

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")


def spent(process: int) -> int:
    """Ticks of processor time, of all threads."""
    with open(f"/proc/{process}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_idle_it_does_nothing(either: Node) -> None:
    """No reconcile, no event, and next to no processor time.

    h1 (agent; nothing happens)
    """
    with running(either) as agent:
        for _ in range(3):  # on a busy machine the last of what it did itself may come late
            reconciles, ticks = agent.reconciles(), spent(agent.pid)
            time.sleep(4)  # the time that is measured
            if agent.reconciles() == reconciles:
                break
        assert agent.reconciles() == reconciles, agent.said()
        assert spent(agent.pid) - ticks <= 2


@contextmanager
def systemd(node: Node) -> Iterator[socket.socket]:
    """A datagram socket of the host, at /run/notify, in place of systemd's."""
    path = node.host.path("/run/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(30)
        try:
            yield told
        finally:
            path.unlink()


def until(told: socket.socket, word: str) -> list[str]:
    """Return what systemd is notified of, up to this word."""
    heard: list[str] = []
    while not any(line.startswith(word) for line in heard[-1:]):
        heard += told.recv(4096).decode().splitlines()[:1]
    return heard


def test_what_systemd_is_notified_of(system: Node) -> None:
    """READY=1 once all is applied, RELOADING=1 and READY=1 again, WATCHDOG=1 in time, STOPPING=1.

    h1 (agent with NOTIFY_SOCKET and WATCHDOG_USEC; SIGHUP; SIGTERM)
    """
    write(system, configuration(system))
    with systemd(system) as told:
        environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "400000"}
        agent = start(system, env=environment)
        first = until(told, "READY=1")
        assert "STATUS=default: 2 segments applied and verified" in first
        assert "WATCHDOG=1" in first
        assert_true(system)
        until(told, "WATCHDOG=1")
        agent.send(signal.SIGHUP)
        until(told, "RELOADING=1")
        until(told, "READY=1")
        agent.send(signal.SIGSTOP)
        told.settimeout(1)
        with suppress(TimeoutError):
            while True:  # earlier notifications
                told.recv(4096)
        told.settimeout(30)
        agent.send(signal.SIGCONT)
        until(told, "WATCHDOG=1")
        agent.send(signal.SIGTERM)
        until(told, "STOPPING=1")
        assert agent.wait().status == 0


def test_metrics_and_records(system: Node) -> None:
    """--metrics is served while it runs, and --log json writes lines for programs.

    h1 (agent --metrics 127.0.0.1:9417 --log json; a bad address; a bad name of a log)
    """
    write(system, configuration(system))
    agent = start(system, "--metrics=127.0.0.1:9417", "--log=json")
    read = (
        "import urllib.request;"
        "print(urllib.request.urlopen('http://127.0.0.1:9417/metrics').read().decode())"
    )

    def healthy() -> bool:
        done = system.host.run("python3", "-c", read, check=False)
        return 'ovs_mcast_healthy{overlay="default"} 1.0' in done.stdout

    assert eventually(healthy, seconds=30), agent.said()
    records = [json.loads(line) for line in agent.said().splitlines() if line.startswith("{")]
    assert {"configured", "reconciled"} <= {record["event"] for record in records}
    for option in ("--metrics=nowhere", "--log=verse"):
        assert start(system, option).wait().status == 2
    assert agent.ends().status == 0
