"""What operators start from in examples/: the service, the playbook, an agent of one's own.

h1 (Open vSwitch, userspace datapath) ─ switch ─ l1 (Linux vxlan), where packets have to pass
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from ovs_mcast.core.fields import VLAN_MAX
from ovs_mcast.lab import Host, Lab, Workload
from ovs_mcast.membership.sockets import GROUPS_PER_SOCKET

from .node import difference, state
from .wire import eventually, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

TOP = Path(__file__).parents[2]
EXAMPLES = TOP / "examples"
UNIT = EXAMPLES / "ovs-mcast-agent.service"
_PACKAGE = {"PYTHONPATH": str(TOP), "OVS_MCAST_PYTHON": sys.executable}
_SEGMENT = "--segment=100,group=239.0.0.1"


# The service


def service() -> dict[str, str]:
    """The options of the unit's [Service]."""
    lines = UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines()
    options = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in options}


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """It verifies the unit where systemd is there: no unknown option, no bad value."""
    assert service()["KillMode"] == "process", "it would end the keeper"
    if shutil.which("systemd-analyze") is None:
        return
    copy = tmp_path / UNIT.name
    command = service()["ExecStart"].split()[0]
    copy.write_text(UNIT.read_text().replace(command, "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    about_it = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert (verified.returncode, about_it) == (0, [])


def test_the_units_store_has_room_for_the_sockets_of_three_sets() -> None:
    """That of an agent that was killed, that of the next one, and the one that replaces it."""
    most = 3 * -(-VLAN_MAX // GROUPS_PER_SOCKET)
    assert int(service()["FileDescriptorStoreMax"]) >= most
    assert int(service()["LimitNOFILE"]) >= 2 * int(service()["FileDescriptorStoreMax"])


def with_capabilities(host: Host, *names: str) -> CompletedProcess[str]:
    """Run setup as root with only these capabilities."""
    bounds = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    return host.run(
        *("setpriv", f"--bounding-set=-all,{bounds}", "--no-new-privs", "--"),
        *(sys.executable, "-m", "ovs_mcast.setup", "--underlay", host.underlay),
        *("--datapath", host.datapath, _SEGMENT, "--json"),
        env=_PACKAGE,
        check=False,
    )


def keeper_of(host: Host) -> dict[str, str]:
    """Return the status in /proc of the process that holds the groups."""
    look = ("-m", "ovs_mcast.status", "--json")
    shown = json.loads(host.run(sys.executable, *look, env=_PACKAGE).stdout)
    pid = shown["overlays"][0]["held_by"]["pid"]
    text = host.path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_the_units_capabilities_are_enough_and_each_is_needed(lab: Lab) -> None:
    """With those of the unit setup builds everything; without any one of them it does not, or less.

    Without NET_ADMIN or NET_RAW it says so, with status 5; without SETUID or SETGID the keeper is
    left as root without a capability.

    h1 (setup in a bounding set)
    """
    host = lab.add_host()
    bounding = service()["CapabilityBoundingSet"].split()
    for missing, words in (("CAP_NET_ADMIN", "CAP_NET_ADMIN"), ("CAP_NET_RAW", "raw socket")):
        refused = with_capabilities(host, *(name for name in bounding if name != missing))
        assert refused.returncode == 5, refused.stderr
        assert words in " ".join(json.loads(refused.stdout)["problems"])
    for missing in ("CAP_SETUID", "CAP_SETGID"):
        built = with_capabilities(host, *(name for name in bounding if name != missing))
        assert built.returncode == 0, built.stderr
        assert keeper_of(host)["Uid"].split()[0] == "0"
        assert host.setup("--teardown").status == 0
    built = with_capabilities(host, *bounding)
    assert json.loads(built.stdout)["verified"] is True, built.stderr
    keeper = keeper_of(host)
    assert keeper["Uid"].split()[0] != "0"
    assert int(keeper["CapEff"], 16) == 0
    assert {*bounding} == {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SETUID", "CAP_SETGID"}


# The playbook


def playbook(host: Host, home: Path, *arguments: str) -> tuple[int, str]:
    """Run examples/provision.yml on a host as on the machine itself; its status and its recap."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    ansible = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if ansible is None:
        pytest.skip("missing here: ansible-playbook")
    command = [sys.executable, "-c", "from ovs_mcast.__main__ import main; main()"]
    given = {
        "ovs_mcast": command, "underlay": host.underlay, "datapath": host.datapath,
        "privileged": False, "ansible_python_interpreter": sys.executable,
    }  # fmt: skip
    done = host.run(
        *(ansible, "-c", "local", "-i", "localhost,", str(EXAMPLES / "provision.yml")),
        *("-e", json.dumps(given), *arguments),
        env={**_PACKAGE, "ANSIBLE_HOME": str(home), "ANSIBLE_NOCOLOR": "1"},
        check=False,
    )
    recap = [line for line in done.stdout.splitlines() if line.startswith("localhost ")]
    return done.returncode, recap[-1] if recap else done.stdout + done.stderr


@pytest.mark.timeout(300)  # ansible starts a dozen processes for each task
def test_the_playbook_shows_changes_and_changes_nothing_twice(lab: Lab, tmp_path: Path) -> None:
    """Check mode reports changes and makes none; the play makes them once; a bad play fails.

    h1 (ansible-playbook examples/provision.yml)
    """
    host = lab.add_host()
    before = state(host)
    status, recap = playbook(host, tmp_path, "--check")
    assert (status, "changed=1" in recap) == (0, True), recap
    assert difference(before, state(host)) == []
    status, recap = playbook(host, tmp_path)
    assert (status, "changed=1" in recap) == (0, True), recap
    status, recap = playbook(host, tmp_path)
    assert (status, "changed=0" in recap) == (0, True), recap
    status, recap = playbook(host, tmp_path, "-e", '{"overlay": {"name": "tenants"}}')
    assert (status, "failed=1" in recap) == (2, True), recap


# An agent of one's own


@contextmanager
def sdn_agent(host: Host, directory: Path) -> Iterator[Popen[str]]:
    """Run examples/sdn_agent.py on a host; it ends in order at SIGTERM."""
    process = host.popen(
        str(EXAMPLES / "sdn_agent.py"),
        *(f"--underlay={host.underlay}", f"--datapath={host.datapath}", str(directory)),
        env={**_PACKAGE, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    try:
        yield process
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def reaches(lab: Lab, sender: Workload, receiver: Workload, *, seconds: float = 20) -> bool:
    """Whether a broadcast comes to be heard."""

    def heard() -> bool:
        one = frame(sender.mac)
        with hears(lab, receiver) as seen:
            sender.send(one)
            return bool(seen.wait(1, timeout=0.5, where=lambda heard: heard == one))

    return eventually(heard, seconds=seconds)


def test_a_file_is_a_segment_for_as_long_as_it_is_there(lab: Lab, tmp_path: Path) -> None:
    """A file dropped: traffic passes; ovs-vswitchd killed: it passes again; deleted: it is gone.

    h1 (sdn_agent.py; h1-100) ─ switch ─ l1 (Linux vxlan; l1-100)
    """
    host, linux = lab.add_host(), lab.add_linux_host()
    mine, theirs = host.add_workload(vlan=100), linux.add_segment(vni=100, group="239.0.0.1")
    (tmp_path / "bad.yml").write_text("vni: [")
    (tmp_path / "rival.json").write_text('{"vni": 5, "vlan": 100, "group": "239.0.0.5"}')
    with sdn_agent(host, tmp_path):
        (tmp_path / "a.yml").write_text("{vni: 100, group: 239.0.0.1}")
        assert reaches(lab, theirs, mine)
        assert reaches(lab, mine, theirs)
        assert "vni=5" not in host.ofctl("dump-flows", "br-mcast")
        host.stop_vswitchd()
        host.start_vswitchd()
        assert reaches(lab, mine, theirs, seconds=40)
        assert reaches(lab, theirs, mine)
        (tmp_path / "a.yml").unlink()
        (tmp_path / "rival.json").unlink()
        wait_for_members(lab, "239.0.0.1", {"l1"})
        (tmp_path / "a.yml").write_text('{"vni": 100, "group": "239.0.0.1"}')
        assert reaches(lab, mine, theirs)
    assert reaches(lab, mine, theirs), "the overlay ended with its agent"


def test_it_explains_itself() -> None:
    """--help; exit status 2 for missing or invalid arguments."""
    for arguments, status in ((["--help"], 0), ([], 2), (["--no-such"], 2)):
        done = subprocess.run(
            [sys.executable, EXAMPLES / "sdn_agent.py", *arguments],
            env=os.environ | _PACKAGE,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "directory" in done.stdout + done.stderr
