"""The public names: documented, with examples that run; typed; no logging of the library's own."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import ovs_mcast as om
from ovs_mcast import aio
from ovs_mcast.cli import app

# Every public name, as users import it. Nothing here is taken away or renamed.
PUBLIC = {
    "ovs_mcast": [
        "ApplyError", "Change", "ClosedError", "ConfigurationError", "Host", "Observed", "Overlay",
        "OvsMcastError", "Plan", "Segment", "SegmentStatus", "Status", "UnavailableError",
        "Underlay", "VerifyError", "connect", "plan",
    ],
    "ovs_mcast.aio": ["AsyncHost", "connect"],
    "ovs_mcast.errors": [
        "ApplyError", "ClosedError", "ConfigurationError", "OvsMcastError",
        "UnavailableError", "VerifyError",
    ],
    "ovs_mcast.lab": [
        "Capture", "Host", "Kind", "Lab", "LinuxHost", "SetupRun", "Switch", "Workload",
    ],
    "ovs_mcast.probe": [
        "PORT", "Delivery", "Evidence", "Reachability", "Ready", "Reason", "Responder",
        "RoundTrip", "SendPath", "Verdict", "respond", "send", "send_path",
    ],
    "ovs_mcast.testing": [
        "FAULTS", "HAPPENINGS", "Address", "ArpSettings", "Bridge", "FakeHost", "Fault", "Flow",
        "GroupMembership", "Happening", "Interrupted", "Link", "Port", "Route",
    ],
}  # fmt: skip
PROGRAMS = ["agent", "lab", "probe", "segment", "setup", "status"]
NEED_A_MACHINE = {"Host", "connect"}  # tests/functional/test_library.py runs theirs


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there(module: str) -> None:
    """The names are those listed above, each importable, and no module shadows one of them."""
    public = importlib.import_module(module)
    names = sorted(getattr(public, "__all__", None) or PUBLIC[module])
    assert names == sorted(PUBLIC[module])
    assert [name for name in names if not hasattr(public, name)] == []
    assert [name for name in names if inspect.ismodule(getattr(public, name))] == []
    if hasattr(public, "__path__"):
        found = [name for name in names if importlib.util.find_spec(f"{module}.{name}")]
        # `lab.Host` and the like have no module; `probe.send` is both by its history.
        assert [name for name in found if module != "ovs_mcast.probe"] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_is_a_module(program: str) -> None:
    """`python -m ovs_mcast.NAME` is the program of that name, and no other module is one."""
    package = Path(om.__file__).parent
    assert sorted(path.parent.name for path in package.glob("*/__main__.py")) == PROGRAMS
    command = [sys.executable, "-m", f"ovs_mcast.{program}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: python -m ovs_mcast.{program} " in done.stdout


@pytest.mark.parametrize("name", om.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    """A docstring of its own with an example in it; each public method has a docstring too."""
    public = vars(om)[name]
    assert ">>> " in (public.__doc__ or "")
    if inspect.isclass(public) and public.__module__.startswith("ovs_mcast"):
        methods = {n: m for n, m in vars(public).items() if inspect.isfunction(m) and n[0] != "_"}
        assert [name for name, method in methods.items() if not method.__doc__] == []


@pytest.mark.parametrize("name", sorted(set(om.__all__) - NEED_A_MACHINE))
def test_the_examples_run(name: str) -> None:
    """Those that need no Open vSwitch."""
    [test] = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(
            vars(om)[name], name, module=False, globs={"om": om}
        )
        if test.examples
    ]
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert told == []


def test_aio_has_what_a_host_has() -> None:
    """AsyncHost has each method of Host with its arguments, but those that block by design."""
    left_out = {"compare", "hold"}
    theirs = {
        name: inspect.signature(method).parameters
        for name, method in vars(om.Host).items()
        if inspect.isfunction(method) and name[0] != "_" and name not in left_out
    }
    ours = {
        name: inspect.signature(vars(aio.AsyncHost)[name]).parameters
        for name in theirs
        if name in vars(aio.AsyncHost)
    }
    assert {name: list(theirs[name]) for name in theirs} == {n: list(ours[n]) for n in ours}
    assert inspect.signature(om.connect).parameters == inspect.signature(aio.connect).parameters


def test_the_library_configures_no_logging() -> None:
    """Importing all of it adds no handler; the commands' own is added once, however often."""
    program = (
        "import logging, ovs_mcast, ovs_mcast.aio\n"
        "names = [None, *logging.Logger.manager.loggerDict]\n"
        "print([n for n in names if n in {None, 'ovs_mcast'} and logging.getLogger(n).handlers])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"
    ours = logging.getLogger("ovs_mcast")
    before = list(ours.handlers), ours.level, ours.propagate
    try:
        app.log_to_stderr(False)
        once = len(ours.handlers)
        app.log_to_stderr(True)
        assert len(ours.handlers) == once
        assert ours.level == logging.DEBUG
    finally:
        ours.handlers[:], ours.propagate = before[0], before[2]
        ours.setLevel(before[1])


def test_users_types(tmp_path: Path) -> None:
    """Mypy --strict accepts a program that uses every public name with its types."""
    program = Path(__file__).with_name("users_program.py")
    used = program.read_text()
    assert [name for name in om.__all__ if f"om.{name}" not in used] == []
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-version=3.11",
         "--explicit-package-bases", "--ignore-missing-imports", "--follow-imports=silent",
         f"--cache-dir={tmp_path}", str(program)],
        capture_output=True, text=True, check=False, cwd=Path(om.__file__).parents[1],
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
