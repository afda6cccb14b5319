"""Rules for all commands: start, end, version, completion, schema."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen

import pytest
import typer
from typer.testing import CliRunner

import ovs_mcast as om
from ovs_mcast.__main__ import application as ovs_mcast_application
from ovs_mcast.cli.app import add_command, application
from ovs_mcast.cli.run import INTERRUPTED, Failure, judge, run
from ovs_mcast.core import schemas

PACKAGE = Path(om.__file__).parent
PROGRAMS = sorted(path.parent.name for path in PACKAGE.glob("*/command.py"))
VERSION = f"ovs-mcast {om.__version__}\n"
NO_DEVICE = ("--device", "nosuchdevice", "--group", "239.0.0.1")


@pytest.fixture(autouse=True)
def _signals_restored() -> Iterator[None]:
    """Restore the handlers that commands set in this process."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ovs_mcast(*arguments: str) -> CompletedProcess[str]:
    """Run `ovs-mcast` in this process."""
    done = CliRunner().invoke(ovs_mcast_application(), [*arguments], prog_name="ovs-mcast")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def module(name: str, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """Run `python -m NAME` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# How each is started


def test_there_are_programs() -> None:
    assert {"agent", "lab", "probe", "setup", "status"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_a_module_and_a_subcommand(name: str) -> None:
    """`python -m ovs_mcast.NAME` and `ovs-mcast NAME` are the same command, by rule."""
    helped = module(f"ovs_mcast.{name}", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"Usage: python -m ovs_mcast.{name} ")
    assert "--version" in helped.stdout
    shown = ovs_mcast(name, "--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, VERSION, "")


def test_a_folder_with_a_main_is_a_program() -> None:
    """No folder runs as a module and does nothing, as `python -m ovs_mcast.status` once did."""
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__main__.py")) == PROGRAMS
    for name in PROGRAMS:
        assert callable(import_module(f"ovs_mcast.{name}.command").main)


def test_the_version_of_the_whole() -> None:
    assert module("ovs_mcast", "--version").stdout == VERSION
    assert ovs_mcast("probe", "send", "--version").stdout == VERSION
    assert om.__version__[0].isdigit()


def test_the_shell_completes_commands() -> None:
    """The protocol of click's completion, which --install-completion sets up."""
    shown = module(
        "ovs_mcast", _OVS_MCAST_COMPLETE="complete_bash", COMP_WORDS="ovs-mcast st", COMP_CWORD="1"
    )
    assert shown.stdout.split() == ["status"]
    assert "--install-completion" in ovs_mcast("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (("setup", "--schema"), schemas.configuration),
        (("setup", "--schema", "--json"), schemas.setup),
        (("status", "--schema"), schemas.status),
        (("lab", "--schema"), schemas.lab),
        (("probe", "path", "--schema"), schemas.path),
        (("probe", "send", "--schema"), schemas.send),
    ],
)
def test_the_schema_is_shown_without_other_options(
    arguments: tuple[str, ...], schema: Callable[[], object]
) -> None:
    """--schema prints to stdout with status 0; nothing is read, opened or required."""
    shown = ovs_mcast(*arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(shown.stdout) == schema()


# How each ends


OURS: list[tuple[om.OvsMcastError, int]] = [
    (om.ConfigurationError("no", field="ttl"), 2),
    (om.UnavailableError("no"), 5),
    (om.ApplyError("no"), 1),
    (om.VerifyError("no"), 3),
]


@pytest.mark.parametrize(("error", "status"), OURS, ids=lambda one: type(one).__name__)
def test_an_error_of_ours_is_its_own_exit_status(
    capsys: pytest.CaptureFixture[str], error: om.OvsMcastError, status: int
) -> None:
    """Its message on stderr, behind the command's name."""
    assert ended(error) == status
    assert capsys.readouterr() == ("", f"ovs-mcast x: {error}\n")


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EMFILE, 5), (errno.EPERM, 5), (errno.ENOENT, 5), (errno.ENOBUFS, 5), (errno.EINVAL, 1)],
)
def test_an_error_of_the_system(
    capsys: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    """5 if the machine lacks something; a request that the kernel finds invalid is a defect."""
    assert ended(OSError(number, os.strerror(number))) == status
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert os.strerror(number) in err
    assert ("please report" in err) == (status == 1)


def test_a_defect_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """1, with the request to report it; never a traceback."""
    assert ended(ZeroDivisionError("division by zero")) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "a defect" in err
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize(("interrupted", "unread"), [(INTERRUPTED, 1), (0, 0), (1, 1)])
def test_ctrl_c_and_a_closed_reader(
    capsys: pytest.CaptureFixture[str], interrupted: int, unread: int
) -> None:
    """130, or the command's own status; 0 for a command that Ctrl-C ends in order. No message."""
    assert ended(KeyboardInterrupt(), interrupted=interrupted) == interrupted
    assert judge(BrokenPipeError(), interrupted=interrupted).exit_status == unread
    assert capsys.readouterr() == ("", "")


def test_a_command_may_report_its_failure_itself(capsys: pytest.CaptureFixture[str]) -> None:
    failures: list[Failure] = []
    error = om.UnavailableError("away")
    assert ended(error, report=failures.append) == 5
    assert failures == [Failure(error, "away", 5)]
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_ends_early_is_no_error() -> None:
    """`ovs-mcast setup --schema | head -0`: no message, no traceback, also not at the exit."""
    with subprocess.Popen(
        [sys.executable, "-m", "ovs_mcast", "setup", "--schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


STAYS = """
import signal
from ovs_mcast.cli.run import run
def act():
    print("ready", flush=True)
    while True:
        signal.pause()
run("x", act, interruptible={interruptible})
"""


def test_sigint_ends_what_was_started_in_the_background() -> None:
    """A shell without job control starts it with SIGINT ignored; Ctrl-C by kill -INT works."""
    program = STAYS.format(interruptible=True) + "\n"
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) != 0
        finally:
            process.kill()


def interrupted(process: Popen[str]) -> tuple[int, str, str]:
    """Press Ctrl-C; return the exit status, stdout and stderr."""
    try:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


def start(name: str, *arguments: str) -> Popen[str]:
    """Start `python -m ovs_mcast.NAME` as a terminal does, where SIGINT is not ignored."""
    command = ["env", "--default-signal=INT", sys.executable, "-m", f"ovs_mcast.{name}"]
    return Popen([*command, *arguments], stdout=PIPE, stderr=PIPE, text=True)


def test_ctrl_c_while_setup_reads_its_file(tmp_path: Path) -> None:
    """1, as whenever it is cut short, with what to do, in the JSON too."""
    file = tmp_path / "overlay.yml"
    os.mkfifo(file)
    process = start("setup", "--json", "--config", str(file))
    with file.open("w"):  # opened once setup has opened it, which then waits for its text
        status, out, err = interrupted(process)
    assert status == 1
    assert json.loads(out)["problems"] == [err.removeprefix("ovs-mcast setup: ").rstrip()]
    assert err == "ovs-mcast setup: interrupted: run it again, it continues from what is in place\n"


def test_ctrl_c_while_status_waits_for_ovsdb(tmp_path: Path) -> None:
    """130, and no message: nothing was to be changed."""
    (tmp_path / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n")
    with listening(tmp_path / f"ovs-vswitchd.{os.getpid()}.ctl"), listening(tmp_path / "db") as db:
        process = start("status", "--db", f"unix:{tmp_path}/db")
        connection, _ = db.accept()
        with connection:
            assert connection.recv(1)
            assert interrupted(process) == (130, "", "")


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that accepts connections, for a server that never answers."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(20)
        yield server


def test_a_command_finds_what_its_program_gives_it() -> None:
    """typer.Context and its ``obj`` pass the options that all commands have."""
    found: list[object] = []

    def command(context: typer.Context, name: str = "x") -> None:
        found.append((context.obj, name))

    app = application()
    add_command(app, command)
    assert CliRunner().invoke(app, ["--name", "y"], obj="given").exit_code == 0
    assert found == [("given", "y")]


@pytest.mark.parametrize(
    ("arguments", "status", "name"),
    [
        (("setup", "--config", "/nonexistent"), 2, "setup"),
        (("setup", "--teardown", "--dry-run", "--db", "unix:/nonexistent"), 5, "setup"),
        (("status", "3"), 2, "status"),
        (("status", "--db", "unix:/nonexistent/db.sock"), 5, "status"),
        (("agent", "--config", "/nonexistent"), 2, "agent"),
        (("lab", "--datapath", "none"), 2, "lab"),
        (("probe", "path", *NO_DEVICE), 2, "probe path"),
        (("probe", "respond", *NO_DEVICE), 2, "probe respond"),
        (("probe", "send", *NO_DEVICE), 2, "probe send"),
    ],
)
def test_every_command_ends_by_the_same_table(
    arguments: tuple[str, ...], status: int, name: str
) -> None:
    """One line on stderr, `ovs-mcast COMMAND: MESSAGE`, and nothing on stdout."""
    done = ovs_mcast(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"ovs-mcast {name}: ")


def test_the_help_of_every_command_has_its_exit_statuses() -> None:
    """And no command is without --version."""
    for words in (["setup"], ["status"], ["lab"], ["agent"], ["probe", "path"], ["probe", "send"]):
        shown = " ".join(ovs_mcast(*words, "--help").stdout.split())
        assert "Exit status: 0 " in shown
        assert "--version" in shown


def ended(error: BaseException, **named: object) -> int:
    """Return the exit status of a command that raises the error."""

    def act() -> int:
        raise error

    with pytest.raises(typer.Exit) as raised:
        run("x", act, **named)  # type: ignore[arg-type]
    return raised.value.exit_code
