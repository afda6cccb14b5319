"""The command line of the probe: refusals by field, exit statuses, and output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from netaddr import IPAddress
from typer.testing import CliRunner

from ovs_mcast.core.observed import FibRoute
from ovs_mcast.errors import UnavailableError
from ovs_mcast.probe.command import Engine, application
from ovs_mcast.probe.reachability import Reachability
from ovs_mcast.probe.responder import Counts
from ovs_mcast.probe.verdict import Evidence, SendPath, judge

ON_LO = ("--device", "lo", "--group", "239.0.0.1")
NO_DEVICE = ("--device", "nosuchdevice", "--group", "239.0.0.1")


def invoke(*arguments: str, engine: Engine | None = None) -> CompletedProcess[str]:
    """Run the command in this process; an exception that came out of it is a traceback."""
    result = CliRunner().invoke(application(engine), list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return CompletedProcess(list(arguments), result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("path", *NO_DEVICE), "device: there is no device nosuchdevice"),
        (("path", *ON_LO), "device: lo is not an Ethernet device"),
        (("path", "--device", "lo", "--group", "10.0.0.1"), "group: 10.0.0.1 is not a multicast"),
        (("path", "--device", "lo", "--group", "x"), "group: 'x' is not an IP address"),
        (
            ("path", "--device", "lo", "--group", "ff02::1"),
            "group: ff02::1: IPv6 multicast scope 2",
        ),
        (("path", *ON_LO, "--port", "0"), "--port"),
        (("path", "--device", "lo"), "--group"),
        (("respond", "--device", "lo"), "--group"),
        (("respond", *NO_DEVICE), "device"),
        (("respond", *ON_LO, "--rate", "0"), "--rate"),
        (("respond", *ON_LO, "--key", ""), "key: the key is empty"),
        (("respond", *ON_LO, "--key-file", "/nonexistent"), "key-file: /nonexistent: No such file"),
        (("respond", *ON_LO, "--key", "k", "--key-file", "f"), "key: not allowed with --key-file"),
        (("send", *NO_DEVICE), "device"),
        (("send", *ON_LO, "--sender", "pigeon"), "sender: 'pigeon' is neither raw nor socket"),
        (("send", *ON_LO, "--count", "0"), "--count"),
        (("send", *ON_LO, "--ttl", "256"), "--ttl"),
        (("send", *ON_LO, "--interval", "0"), "--interval"),
        (("send", *ON_LO, "--interval", "nan"), "--interval"),
        (("send", *ON_LO, "--timeout", "inf"), "timeout: inf is not between 0 and 86400"),
        (("respond", *ON_LO, "--rate", "nan"), "--rate"),
        (("respond", *ON_LO, "--duration", "inf"), "duration"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], field: str) -> None:
    """Exit status 2; stderr names the field, stdout is empty."""
    done = invoke(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert field in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("no raw socket on eth0: Operation not permitted"), 5),
        (OSError(24, "Too many open files"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_sentences(error: BaseException, status: int) -> None:
    """A missing privilege is status 5 and one line; an interruption is 130; never a traceback."""

    def fail(*_: object, **__: object) -> SendPath:
        raise error

    done = invoke("path", *NO_DEVICE, engine=Engine(send_path=fail))
    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == (status == 5)


def evidence(seen: Sequence[str]) -> Evidence:
    group, route = IPAddress("239.0.0.1"), FibRoute("239.0.0.0", 8, "eth0", "main")
    return Evidence(group, "eth0", ("eth0", "lo"), frozenset(seen), taken=route)


@pytest.mark.parametrize(("seen", "status"), [(["eth0"], 0), (["lo"], 3), ([], 3)])
def test_the_verdict_is_the_exit_status(seen: list[str], status: int) -> None:
    """On the wire is 0, elsewhere 3; without a terminal stdout is JSON and nothing else."""
    engine = Engine(send_path=lambda *_, **__: judge(evidence(seen)))
    for arguments in (("path", *NO_DEVICE), ("path", *NO_DEVICE, "--json")):
        done = invoke(*arguments, engine=engine)
        assert done.returncode == status
        assert json.loads(done.stdout)["evidence"]["packets"]["eth0"] == int("eth0" in seen)


def test_on_a_terminal_it_is_words() -> None:
    """The verdict, the cause and the cure on stderr, nothing on stdout."""
    engine = Engine(send_path=lambda *_, **__: judge(evidence(["lo"])), on_terminal=lambda: True)
    done = invoke("path", *NO_DEVICE, engine=engine)
    assert done.stdout == ""
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "239.0.0.1 on eth0",
        "cause",
        "cure",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "key"),
    [
        ((), None, None),
        ((), "from the environment", b"from the environment"),
        (("--key", "given"), "from the environment", b"given"),
        (("--key-file", "FILE"), "from the environment", b"from a file"),
    ],
)
def test_where_the_key_comes_from(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    environment: str | None,
    key: bytes | None,
) -> None:
    """From an option, a file without its newline, or the environment; options take precedence."""
    found: dict[str, Any] = {}

    def respond(*_: object, **named: object) -> Counts:
        found.update(named)
        return Counts()

    file = tmp_path / "key"
    file.write_text("from a file\n")
    monkeypatch.delenv("OVS_MCAST_PROBE_KEY", raising=False)
    if environment is not None:
        monkeypatch.setenv("OVS_MCAST_PROBE_KEY", environment)
    given = [str(file) if one == "FILE" else one for one in arguments]
    done = invoke("respond", *NO_DEVICE, *given, engine=Engine(respond=respond))
    assert (done.returncode, found["key"]) == (0, key)


def test_an_interrupted_run_reports_what_came() -> None:
    """Exit status 130, with the answers received until then."""
    found = Reachability("239.0.0.1", "eth0", "10.0.0.1", "raw", 3, {}, interrupted=True)
    done = invoke("send", *NO_DEVICE, engine=Engine(send=lambda *_, **__: found))
    assert done.returncode == 130
    assert json.loads(done.stdout)["sent"] == 3
