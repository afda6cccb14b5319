"""Every script in examples/ runs as it is and leaves nothing; the README's examples are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FILES = sorted(path for path in (TOP / "examples").iterdir() if path.is_file())
SCRIPTS = [path for path in FILES if os.access(path, os.X_OK) and path.name != "sdn_agent.py"]
CONFIGURATIONS = {"overlay.yml": (TOP / "examples" / "overlay.yml").read_text()}
NOWHERE = "/nonexistent/openvswitch"

UNDER_A_MINUTE = 60


def _blocks(language: str) -> dict[str, str]:
    """The README's code blocks of a language, each with a name for the test's title."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", (TOP / "README.md").read_text(), re.M | re.S)
    return {f"README-{language}-{number}": text for number, text in enumerate(found, start=1)}


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def _processes_with(mark: str) -> list[str]:
    """The command lines of processes that have inherited an environment with the mark."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                left.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile
            continue
    return left


@pytest.mark.needs("root", "ovs-vswitchd", "ip", "ethtool", "unshare")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_as_it_stands_and_leaves_nothing(script: Path) -> None:
    """Exit status 0 in under a minute; then the same devices as before, and no process."""
    mark = uuid.uuid4().hex
    before = _links()
    done = subprocess.run(
        [script],
        env=os.environ | {"OVS_MCAST_PYTHON": sys.executable, "OVS_MCAST_EXAMPLE": mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UNDER_A_MINUTE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "it printed nothing"
    assert _links() == before
    assert _processes_with(mark) == []


def _setup(configuration: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ovs_mcast.setup", "--config", str(configuration)]
    return subprocess.run(
        [*command, "--dry-run", "--db", f"unix:{NOWHERE}/db.sock"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "text",
    (CONFIGURATIONS | _blocks("yaml")).values(),
    ids=(CONFIGURATIONS | _blocks("yaml")).keys(),
)
def test_a_shown_configuration_is_accepted(text: str, tmp_path: Path) -> None:
    """Without Open vSwitch the exit status is 5 (try again) for a valid configuration, else 2."""
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(text)
    bad.write_text(text + "\nno_such_key: 1\n")
    accepted, refused = _setup(good), _setup(bad)
    assert accepted.returncode == 5, accepted.stderr
    assert refused.returncode == 2, refused.stderr
    assert "no_such_key" in refused.stderr


@pytest.mark.parametrize("text", _blocks("python").values(), ids=_blocks("python").keys())
def test_a_shown_program_gets_as_far_as_connecting(
    text: str,
) -> None:
    """On a machine without Open vSwitch it makes its values, then names what is missing."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=os.environ | {"OVS_RUNDIR": NOWHERE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UnavailableError" in done.stderr, done.stderr
