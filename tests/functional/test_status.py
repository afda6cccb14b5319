"""`ovs-mcast status` shows the overlays, changes nothing, and reports problems.

h1, h2 (Open vSwitch) ─┐          VNI 100 in 239.0.0.1
                       ├─ switch  VNI 101 in 239.0.0.2
l1 (Linux vxlan) ──────┘          VNI 70000, VLAN 12, in 239.0.0.1 too
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core import schemas
from ovs_mcast.lab import Host, Lab
from ovs_mcast.lab.namespace import OVS_DIRECTORIES
from tests.schemas import assert_fits

from .node import difference, state
from .wire import (
    GROUP_1,
    GROUP_MAC,
    NETS,
    Overlay,
    eventually,
    frame,
    hears,
    mac_of,
    packet,
    wait_for_members,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

_PACKAGE = {"PYTHONPATH": str(Path(__file__).parents[2])}
_COMMAND = (sys.executable, "-m", "ovs_mcast.status")


def status(host: Host, *arguments: str) -> CompletedProcess[str]:
    done = host.run(*_COMMAND, *arguments, env=_PACKAGE, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def shown(host: Host, *arguments: str) -> dict[str, Any]:
    """The one overlay that is there, as JSON."""
    done = status(host, "--json", *arguments)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert_fits(document, schemas.status)
    (one,) = document["overlays"]
    return dict(one)


def test_it_shows_who_is_behind_which_vtep_and_what_was_sent(overlay: Overlay) -> None:
    """Five broadcasts of h2's workload and two of l1's come to h1; it sends three, and answers one.

    h2-101, l1-101 (broadcast) ─ switch ─ h1-101 (broadcasts, then unicast to h2-101)
    """
    mine, theirs, linux = overlay["h1", 101], overlay["h2", 101], overlay["l1", 101]
    before = shown(overlay.h1)["segments"]["101"]
    for sender, frames in ((theirs, 5), (linux, 2), (mine, 3)):
        for _ in range(frames):
            sender.send(frame(sender.mac))

    def gained(name: str) -> tuple[int, int]:
        now, was = shown(overlay.h1)["segments"]["101"][name], before[name]
        return now["packets"] - was["packets"], now["bytes"] - was["bytes"]

    assert eventually(lambda: gained("bum_received")[0] == 7)
    mine.send(frame(mine.mac, theirs.mac))
    assert eventually(lambda: gained("unicast_sent")[0] == 1)
    assert gained("bum_sent") == (3, 3 * 60)
    assert gained("bum_received") == (7, 7 * 60)
    assert gained("unicast_received") == (0, 0)

    one = shown(overlay.h1)["segments"]["101"]
    assert one["peers"] == {overlay.vtep("h2"): [theirs.mac], overlay.vtep("l1"): [linux.mac]}
    assert one["learned"] == 2
    assert (one["vlan"], one["group"]) == (NETS[101].vlan, NETS[101].group)
    assert (one["joined_by"], one["send_path"]) == ("socket", "wire")


def test_it_changes_nothing_and_finds_nothing_wrong(overlay: Overlay) -> None:
    """The whole state of the machine is the same before and after, and the exit status 0.

    h1 (status)
    """
    before = state(overlay.h1)
    done = status(overlay.h1)
    assert done.returncode == 0, done.stdout
    assert difference(before, state(overlay.h1)) == []
    assert "overlay default  healthy" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "239.0.0." in line] == [
        str(vni) for vni in NETS
    ]


def test_it_names_what_is_missing(overlay: Overlay) -> None:
    """A deleted flow and a killed keeper are both reported, with status 3.

    h1 (status)
    """
    host = overlay.h1
    host.ofctl("del-flows", "br-mcast", "table=30,dl_vlan=12")
    gone = status(host, "--json")
    assert gone.returncode == 3
    (one,) = json.loads(gone.stdout)["overlays"]
    assert one["problems"] == ["+ flow vlan 12 → 239.0.0.1: missing"]
    assert set(one["segments"]) == set(map(str, NETS))

    keeper = shown(host)["held_by"]
    assert keeper["who"] == "keeper"
    host.run("kill", "-9", str(keeper["pid"]))
    assert eventually(lambda: shown(host)["held_by"] == {"who": "nobody", "pid": None})
    unheld = shown(host)
    assert "no process holds the groups: run setup again" in unheld["problems"]
    assert {one["joined_by"] for one in unheld["segments"].values()} == {"none"}

    assert overlay.set_up(host).status == 0
    assert shown(host)["healthy"]


def test_a_bridge_for_workloads_that_was_deleted_is_named(lab: Lab) -> None:
    """The problems name the operator's bridge that is gone, and status the bridge it was.

    h1 (s1 ═ br-mcast; ovs-vsctl del-br s1; status)
    """
    host = lab.add_host()
    host.vsctl("add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev")
    assert host.setup(f"--segment=100,group={GROUP_1}", "--bridge=s1").status == 0
    host.vsctl("del-br", "s1")
    seen = shown(host)
    assert (seen["healthy"], seen["bridge"]) == (False, "s1")
    assert "+ bridge s1: missing" in seen["problems"]


def test_another_host_with_our_vtep_is_a_warning(lab: Lab) -> None:
    """Packets from the host's own VTEP address are dropped, counted and named; nothing without.

    h1 (status) ─ switch ─ l1 (a raw packet with h1's address as its source)
    """
    host, clone = lab.add_host(kind="netdev"), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), clone.add_segment(vni=100, group=GROUP_1)
    assert host.setup(f"--segment=100,group={GROUP_1}").status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    for sender, hearer in ((here, there), (there, here)):
        sent = frame(sender.mac)
        with hears(lab, hearer) as heard:
            sender.send(sent)
            assert heard.wait(1) == [sent]
    assert shown(host)["problems"] == []
    with PacketSocket("eth0", namespace=clone.pid) as wire:
        eth = (mac_of(clone, "eth0"), GROUP_MAC[GROUP_1])
        wire.send(packet(host.vtep, GROUP_1, 100, frame(there.mac), eth=eth))
    assert eventually(lambda: shown(host)["problems"] != [])
    [problem] = shown(host)["problems"]
    assert problem.startswith(f"packets came from {host.vtep}, this host's own VTEP")
    assert shown(host)["healthy"]


def test_what_is_not_there_is_told_apart(lab: Lab) -> None:
    """Nothing of ours: 0; no such name: 3; no ovs-vswitchd, or no privilege: 5; odd arguments: 2.

    h1 (status)
    """
    host = lab.add_host(kind="dummy")
    nothing = status(host)
    assert (nothing.returncode, nothing.stdout) == (0, "no overlay of ovs-mcast on this host\n")
    assert json.loads(status(host, "--json").stdout) == {"overlays": []}
    named = status(host, "--name", "tenants")
    assert named.returncode == 3
    assert "no overlay tenants on this host" in named.stdout
    for odd in (["5"], ["--watch", "0"], ["--db", ""], ["--no-such"]):
        assert status(host, *odd).returncode == 2, odd
    host.stop_vswitchd()
    away = status(host)
    assert (away.returncode, away.stdout) == (5, "")
    assert "ovs-vswitchd does not run" in away.stderr


@contextmanager
def watched(host: Host, *arguments: str) -> Iterator[tuple[Popen[bytes], int]]:
    """The command on a terminal of 150 columns and 30 lines, and the terminal's other end."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": "150", "LINES": "30", "TERM": "xterm-256color"}
    process = Popen(
        [*host.enter_command(), f"--wdns={Path.cwd()}", "--", *_COMMAND, "--watch", *arguments],
        env={**os.environ, **OVS_DIRECTORIES, **_PACKAGE, **size},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


def until(terminal: int, *wanted: bytes) -> bytes:
    """Return the terminal's content once it has all of the wanted text, or is closed."""
    seen = b""
    while not all(part in seen for part in wanted):
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # EIO: the other side is closed
            break
        seen += part
    assert all(part in seen for part in wanted), seen.decode()
    return seen


def interrupt(process: Popen[bytes]) -> int:
    """Ctrl-C for the command itself, which nsenter has started; its exit status."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGINT)
    return process.wait(20)


def test_watch_redraws_in_place_with_rates_and_ends_with_ctrl_c(overlay: Overlay) -> None:
    """On a terminal: the alternate screen, numbers that move, rates; Ctrl-C gives it back, with 0.

    h1 (status --watch 0.2, on a pseudo-terminal) ─ h1-100 (broadcasts)
    """
    with watched(overlay.h1, "0.2") as (process, terminal):
        until(terminal, b"\x1b[?1049h", b"70000")
        for _ in range(50):
            overlay["h1", 100].send(frame(overlay["h1", 100].mac))
        seen = until(terminal, b"/s", b"\x1b[H")
        assert b"overlay" in seen
        assert interrupt(process) == 0
        until(terminal, b"\x1b[?1049l", b"\x1b[?25h")


def test_watch_outlives_open_vswitch(lab: Lab) -> None:
    """--watch reports the end of ovs-vswitchd, and shows the overlays again after its return.

    h1 (status --watch --json)
    """
    host = lab.add_host(kind="dummy")
    assert host.setup("--segment=100,group=239.0.0.1").status == 0
    process = host.popen(*_COMMAND, "--watch", "--json", "0.1", env=_PACKAGE)
    assert process.stdout is not None

    def until_healthy(healthy: bool) -> dict[str, Any]:
        assert process.stdout is not None
        for line in process.stdout:
            one: dict[str, Any] = json.loads(line)["overlays"][0]
            if one["healthy"] is healthy:
                return one
        raise AssertionError("it ended")

    try:
        assert list(until_healthy(True)["segments"]) == ["100"]
        host.stop_vswitchd()
        assert "ovs-vswitchd" in until_healthy(False)["problems"][0]
        host.start_vswitchd()
        assert host.setup("--segment=100,group=239.0.0.1").status == 0
        assert list(until_healthy(True)["segments"]) == ["100"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_it_is_a_subcommand_too(lab: Lab) -> None:
    """`ovs-mcast status` is the same command.

    h1 (ovs-mcast status)
    """
    host = lab.add_host(kind="dummy")
    program = "from ovs_mcast.__main__ import main; main()"
    done: subprocess.CompletedProcess[str] = host.run(
        sys.executable, "-c", program, "status", "--json", env=_PACKAGE
    )
    assert json.loads(done.stdout) == {"overlays": []}


HARM = 'x\x1b[2J"]\nevil'


def test_strangers_names_in_the_database(lab: Lab) -> None:
    """They act on no terminal, forge no line, and stay as they are in JSON.

    h1: a bridge whose external_ids call it an overlay so named, and a port so named on br-mcast
    """
    host = lab.add_host(kind="dummy")
    segment = f"--segment=100,group={GROUP_1}"
    assert host.setup(segment, "--membership=socket").status == 0
    name = json.dumps(HARM)
    host.vsctl("--no-wait", "add-br", "b9", "--", "set", "bridge", "b9",
               f"external_ids:ovs-mcast={name}")  # fmt: skip
    host.vsctl("--no-wait", "--", "--id=@i", "create", "interface", f"name={name}",
               "type=internal", "--", "--id=@p", "create", "port", f"name={name}",
               "interfaces=@i", "--", "add", "bridge", "br-mcast", "ports", "@p")  # fmt: skip
    seen = status(host)
    lines = seen.stdout.splitlines()
    assert all(line.isprintable() for line in lines), lines
    assert not any(line.startswith("evil") for line in lines)
    told = json.loads(status(host, "--json").stdout)["overlays"]
    assert [one["overlay"] for one in told] == ["default", HARM]
    done = host.setup(segment, "--membership=socket")
    assert any(HARM in str(problem) for problem in done.report["problems"])
    assert "evil" not in [line[:4] for line in done.stderr.splitlines()]
    assert all(line.isprintable() for line in done.stderr.splitlines())
    host.vsctl("--no-wait", "del-br", "b9")
