"""The lab leaves nothing behind, however it ends: no namespace, process, device or file."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from ovs_mcast.lab import Lab
from tests.functional.lab_programs import (
    CHECKOUT,
    LAB_COMMAND,
    within,
)
from tests.processes import ended

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
IN_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
NAMESPACE_KINDS = ("net", "mnt", "pid")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


class Watch:
    """Processes and namespaces of one lab, identified by a mark in the environment.

    A namespace that was seen is held open, or else its number could be another's at the next look.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = f"LAB_WATCH={uuid.uuid4()}"
        self.namespaces: dict[str, int] = {}
        self.not_its = {os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACE_KINDS}
        self.links = set(Path("/sys/class/net").iterdir())

    @property
    def environment(self) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        return {name: value, "TMPDIR": str(self.directory), "PYTHONPATH": str(CHECKOUT)}

    def processes(self) -> dict[int, str]:
        """Id and name of each; their namespaces are remembered."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "comm").read_text().strip()
                    self.remember(process)
        return found

    def remember(self, process: Path) -> None:
        for kind in NAMESPACE_KINDS:
            held = os.open(process / "ns" / kind, os.O_RDONLY)
            name = f"{kind}:[{os.fstat(held).st_ino}]"
            if name in self.namespaces or name in self.not_its:
                os.close(held)
            else:
                self.namespaces[name] = held

    def left(self) -> list[str]:
        """Return what is left of the lab."""
        alive = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                alive |= {os.readlink(process / "ns" / kind) for kind in NAMESPACE_KINDS}
        return [
            *map(str, self.processes().items()),
            *(set(self.namespaces) & alive),
            *(str(link) for link in set(Path("/sys/class/net").iterdir()) - self.links),
            *map(str, self.directory.iterdir()),
        ]

    def close(self) -> None:
        for held in self.namespaces.values():
            os.close(held)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path)
    yield watch
    watch.close()


def test_nothing_is_left_after_the_end(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very moment the context is left, by an exception too, all is gone.

    h1 ─ switch ─ l1
    """
    for name, value in watch.environment.items():
        monkeypatch.setenv(name, value)

    def fill_and_fail() -> None:
        with Lab() as lab:
            lab.add_host().add_workload(vlan=100)
            lab.add_linux_host().add_segment(vni=100, group="239.0.0.1")
            assert {"ovsdb-server", "ovs-vswitchd", "cat"} <= set(watch.processes().values())
            raise LookupError("a test that fails")

    with pytest.raises(LookupError):
        fill_and_fail()
    assert watch.left() == []
    assert len(watch.namespaces) > 10


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("moment", ["first namespace", "Open vSwitch runs", "kept"])
def test_nothing_is_left_after_a_signal(watch: Watch, name: str, moment: str) -> None:
    """Whenever and however the lab is ended, kill -9 too, all is gone.

    SIGINT is ignored at first, as a shell without job control does in the background.

    h1, h2 ─ switch ─ l1      VNI 100
    """
    command = [*IN_BACKGROUND, *LAB_COMMAND, "--hosts", "2", "--segments", "1", "--keep"]
    environment = {**os.environ, **watch.environment}
    with ended(Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment,
                     start_new_session=True, cwd=watch.directory)) as process:  # fmt: skip
        assert process.stderr is not None
        if moment == "kept":
            assert any("stays until Ctrl-C" in line for line in process.stderr)
        elif moment == "Open vSwitch runs":
            assert within(10, lambda: "ovs-vswitchd" in watch.processes().values())
        else:
            assert within(10, lambda: "unshare" in watch.processes().values())
        watch.processes()
        # As a terminal does: to all of the process group.
        os.killpg(process.pid, signal.Signals[name])
        status = process.wait(20)
        said = process.stderr.read()
    statuses = {"SIGINT": 0 if moment == "kept" else 130, "SIGTERM": 143, "SIGKILL": -9}
    assert status == statuses[name]
    assert "Traceback" not in said
    # The kernel takes a moment where the lab was killed, or knew nothing yet of its newest child.
    assert within(5, lambda: watch.left() == []), watch.left()


def test_a_terminal_interrupts_the_lab_alone(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine of the lab is in the terminal's session, so Ctrl-C ends none of them by itself.

    h1 ─ switch
    """
    for name, value in watch.environment.items():
        monkeypatch.setenv(name, value)
    with Lab() as lab:
        lab.add_host()
        sessions = {os.getsid(process) for process in watch.processes()}
        assert len(sessions) > 1
        assert os.getsid(0) not in sessions
