"""The lab carries frames as drawn, and reports truthfully on them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer

from ovs_mcast.core import schemas
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_EXPERIMENTAL, decode_vxlan, ethernet
from ovs_mcast.errors import UnavailableError
from ovs_mcast.lab import Lab, SetupRun
from ovs_mcast.lab import command as lab_command
from ovs_mcast.lab.reachability import Stray, reach
from tests.functional.lab_programs import (
    hello,
    invoke,
    run_lab,
    signals_restored,
    within,
)
from tests.schemas import assert_fits

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


# What the lab shows


def test_every_workload_reaches_its_segment_and_no_other() -> None:
    """The default lab, by its command: all reach all in their segment, and nothing leaks.

    h1, h2, h3 (Open vSwitch) ─┐
                               ├─ switch      VNI 100, 101 on each
    l1 (Linux vxlan) ──────────┘
    """
    done = run_lab("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert_fits(report, schemas.lab)
    assert report["ok"] is True
    assert set(report["segments"]) == set(report["groups"]) == {"100", "101"}
    assert {vni: len(pairs) for vni, pairs in report["segments"].items()} == {"100": 12, "101": 12}
    assert set(report["hosts"]) == {"h1", "h2", "h3"}
    assert report["seconds"] < 15


def test_the_table_is_for_people() -> None:
    """Without --json, stdout is a table a segment and a line that sums up.

    h1 ─ switch ─ l1      VNI 100
    """
    done = run_lab("--hosts", "1", "--segments", "1")
    assert done.returncode == 0, done.stderr
    assert "VNI 100, 239.0.0.1" in done.stdout
    assert "2 of 2 directions work, nothing leaks between segments" in done.stdout


def test_the_switch_snoops(lab: Lab) -> None:
    """A host that is no member of a group hears nothing of it; once it joins, it does.

    l1 (239.0.0.1) ─ switch ─ l2 (nothing, then 239.0.0.1)
    """
    first, second = lab.add_linux_host(), lab.add_linux_host()
    sender = first.add_segment(vni=100, group="239.0.0.1")
    with lab.capture(second, "eth0", decode_vxlan) as wire:
        with lab.capture(lab.switch, first.name, decode_vxlan) as sent:
            sender.send(hello(sender.mac))
            assert [packet.destination for packet in sent.wait()] == ["239.0.0.1"]
        assert wire.seen(0.3) == []
        listener = second.add_segment(vni=100, group="239.0.0.1")
        assert within(5, lambda: lab.switch.members("239.0.0.1") == {first.name, second.name})
        with listener.listen() as heard:
            sender.send(hello(sender.mac))
            assert [packet.vni for packet in wire.wait()] == [100]
            assert heard.receive(1) == hello(sender.mac)


def test_a_broadcast_from_each_side_is_judged_apart(lab: Lab) -> None:
    """Each direction has its own result: a host may receive and be unable to send.

    l1 (VNI 100 in 239.0.0.1) ─ switch ─ l2 (VNI 100 in 239.0.0.2, VNI 101 in 239.0.0.1)
    """
    first, second = lab.add_linux_host(), lab.add_linux_host()
    first.add_segment(vni=100, group="239.0.0.1")
    second.add_segment(vni=100, group="239.0.0.2")
    second.add_segment(vni=101, group="239.0.0.1")
    heard = reach(lab.workloads, timeout=1)
    assert {(p.sender, p.receiver): (p.broadcast, p.unicast) for p in heard.pairs} == {
        ("l1-100", "l2-100"): (True, True),
        ("l2-100", "l1-100"): (False, False),
    }
    assert not heard.ok


def test_a_leak_between_segments_is_told(lab: Lab) -> None:
    """A port in the wrong VLAN receives the other segment, and the lab reports the leak.

    workload (VNI 100) ─ VLAN 100 ─ br-int ─ VLAN 100 ─ workload (VNI 101)
    """
    host = lab.add_host()
    host.add_workload(vlan=100)
    host.add_workload(vlan=100, vni=101)
    heard = reach(lab.workloads, timeout=1)
    assert heard.leaks == (Stray("h1-100", 100, "h1-101", 101), Stray("h1-101", 101, "h1-100", 100))
    assert heard.to_json()["ok"] is False


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_setup_is_shown_with_its_words(
    capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """Exit status 1, nothing on stdout, and on stderr the host's name and setup's messages.

    h1 ─ switch
    """
    failed = SetupRun(1, {}, "no room on the shelf")
    with signals_restored(), pytest.raises(typer.Exit) as stopped:
        lab_command.build(1, 1, 0, "netdev", keep=False, as_json=as_json, set_up=lambda *_: failed)
    said = capfd.readouterr()
    assert (stopped.value.exit_code, said.out) == (1, "")
    assert "h1" in said.err
    assert "no room on the shelf" in said.err


# What the lab is made of


def test_a_host_is_alone_with_its_open_vswitch(lab: Lab) -> None:
    """Each host sees its own database, processes and underlay address, and reaches the other.

    h1 (10.0.0.1 on br-phy) ─ switch ─ h2 (10.0.0.2 on br-phy)
    """
    first, second = lab.add_hosts(2)
    first.vsctl("add-br", "br-mine", "--", "set", "bridge", "br-mine", "datapath_type=netdev")
    assert first.vsctl("list-br").split() == ["br-mine", "br-phy"]
    assert second.vsctl("list-br").split() == ["br-phy"]
    assert first.run("pidof", "ovs-vswitchd").stdout.split() == [
        first.path("/run/openvswitch/ovs-vswitchd.pid").read_text().strip()
    ]
    first.run("ping", "-c1", "-W2", second.vtep)


def test_ovs_vswitchd_comes_back_after_kill_9(lab: Lab) -> None:
    """Killed, nothing answers; started again, the underlay is as it was.

    h1 (10.0.0.1 on br-phy) ─ switch ─ l1
    """
    host, other = lab.add_host(), lab.add_linux_host()
    host.stop_vswitchd()
    with pytest.raises(UnavailableError, match="ovs-vswitchd"):
        host.appctl("version")
    host.start_vswitchd()
    host.run("ping", "-c1", "-W2", other.vtep)


def test_the_database_comes_back_after_kill_9(lab: Lab) -> None:
    """A killed ovsdb-server does not answer; started again, it has its rows.

    h1 ─ switch
    """
    host = lab.add_host()
    host.stop_ovsdb()
    with pytest.raises(UnavailableError, match=r"db\.sock"):
        host.vsctl("list-br")
    host.start_ovsdb()
    assert host.vsctl("list-br").split() == ["br-phy"]


def test_a_dummy_host_has_a_system_datapath_without_the_kernel(lab: Lab) -> None:
    """A bridge of datapath type system gets an ofport though no kernel module is there.

    h1 (10.0.0.1 on eth0, ovs-vswitchd --enable-dummy=system) ─ switch
    """
    host = lab.add_host(kind="dummy")
    workload = host.add_workload(vlan=100)
    port = host.vsctl("--columns=ofport,error", "list", "interface", workload.port)
    assert "ofport              : 1" in port
    assert host.vsctl("get", "bridge", "br-int", "datapath_type").strip() == "system"
    assert host.vtep in host.run("ip", "-brief", "addr", "show", "eth0").stdout


def test_the_kernels_datapath_needs_its_module(lab: Lab) -> None:
    """Without openvswitch.ko a host on it is refused, with the command that loads it."""
    loaded = Path("/sys/module/openvswitch").exists()
    with nullcontext() if loaded else pytest.raises(UnavailableError, match="modprobe openvswitch"):
        assert lab.add_host(kind="kernel").datapath == "system"
    assert len(lab.hosts) == loaded


def test_underlay_addresses_of_both_families(lab: Lab) -> None:
    """Hosts take the addresses they are given, and IPv6 is there only where one is.

    h1 (10.1.0.1, fd00::1) ─ switch ─ l1 (10.1.0.2, fd00::2)
    """
    host = lab.add_host(addresses=["10.1.0.1/24", "fd00::1/64"])
    other = lab.add_linux_host(addresses=["10.1.0.2/24", "fd00::2/64"])
    host.run("ping", "-c1", "-W2", "10.1.0.2")
    host.run("ping", "-c1", "-W2", "fd00::2")
    assert other.vtep == "10.1.0.2"
    assert "inet6" not in host.run("ip", "addr", "show", "eth0").stdout


def test_a_tagged_frame_is_heard_with_its_tag(lab: Lab) -> None:
    """A captured frame has its VLAN tag in place, which the kernel delivers as ancillary data.

    workload ─ VLAN 100 ─ br-int ─ trunk ─ workload
    """
    host = lab.add_host()
    access, trunk = host.add_workload(vlan=100), host.add_workload(vni=4095)
    with trunk.listen(ethertype=0x0003) as heard:
        access.send(hello(access.mac))
        frame = ethernet(BROADCAST, access.mac, ETHERTYPE_EXPERIMENTAL, b"hello", vlan=100)
        assert (heard.receive(2) or b"")[:23] == frame[:23]


def test_sigint_ends_a_command_though_the_lab_ignores_it(lab: Lab) -> None:
    """As where a shell without job control has started the lab.

    switch (sleep)
    """
    with signals_restored():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = lab.switch.popen("sleep", "60")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with process:
        assert within(5, lambda: bool(children.read_text().split()))
        (child,) = map(int, children.read_text().split())
        assert within(5, lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        os.kill(child, signal.SIGINT)
        assert process.wait(10) != 0


# What the lab refuses


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hosts", "0"),
        ("--segments", "0"),
        ("--linux", "-1"),
        ("--hosts", "249", "--linux", "9"),
        ("--datapath", "kernel"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    """Exit status 2, and nothing on stdout."""
    done = run_lab(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hosts" in done.stderr or arguments[0].strip("-") in done.stderr


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit status 5, and what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = invoke()
    assert done.returncode == 5
    assert "ovs-vswitchd" in done.stderr
    assert "openvswitch-switch" in done.stderr


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 5, and who to be."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = invoke()
    assert done.returncode == 5
    assert "root" in done.stderr
