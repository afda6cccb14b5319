"""`python -m ovs_mcast.NAME` takes no module from the current directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ovs_mcast
from ovs_mcast.search_path import _runs_us

PACKAGE = str(Path(ovs_mcast.__file__).parents[1])
# Modules of the standard library and of packages that a run of ours imports, and Python alone not.
PLANTED = ("ctypes", "json", "yaml", "pyroute2", "typer", "decimal")


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory, capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": PACKAGE, "PATH": ""},
    )  # fmt: skip


def test_a_planted_module_does_not_run(tmp_path: Path) -> None:
    """The file would write beside itself."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})"
        )
    done = run(tmp_path, "-m", "ovs_mcast.setup", "--help")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_an_agent_of_somebody_elses_keeps_its_directory(tmp_path: Path) -> None:
    """A program that is run by -m and imports the library finds its own modules."""
    (tmp_path / "my_agent").mkdir()
    (tmp_path / "my_agent" / "__init__.py").write_text("import ovs_mcast")
    (tmp_path / "my_agent" / "__main__.py").write_text("import helper")
    (tmp_path / "helper.py").write_text("print('found')")
    assert run(tmp_path, "-m", "my_agent").stdout == "found\n"


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["python", "-m", "ovs_mcast.setup"], True),
        (["python", "-movs_mcast", "--help"], True),
        (["python", "-Wd", "-m", "ovs_mcast.agent"], True),
        (["python", "-m", "ovs_mcastx"], False),
        (["python", "-m"], False),
        (["python", "script.py", "-m", "ovs_mcast"], False),
        (["python"], False),
    ],
)
def test_which_runs_are_ours(words: list[str], ours: bool) -> None:
    assert _runs_us(words) is ours


RESPONDER = """
import ovs_mcast as om
from ovs_mcast.agent.responder import Responder
segments = [om.Segment(vni=1, group="239.0.0.1")]
with Responder() as responder:
    responder.keep(om.Overlay(underlay=om.Underlay(device="nowhere0"), segments=segments))
    responder._process.wait(30)
"""


def test_nor_in_the_process_that_answers_probes(tmp_path: Path) -> None:
    """It is started by an agent whose current directory is another user's."""
    ran = tmp_path / "ran"
    (tmp_path / "ctypes.py").write_text(f"open({str(ran)!r}, 'a').write('x')")
    done = run(tmp_path, "-P", "-c", RESPONDER)
    assert "cannot answer probes" in done.stderr, done.stderr
    assert not ran.exists()
