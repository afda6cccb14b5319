"""The probe on machines of the lab: its functions in a forked process there, or its commands."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

from netaddr import IPAddress

from ovs_mcast.core import schemas
from ovs_mcast.core.frames import UdpDatagram, decode_udp
from ovs_mcast.lab import Lab, LinuxHost
from ovs_mcast.lab.namespace import Namespace, wait_until
from ovs_mcast.membership.device_groups import DeviceGroups
from ovs_mcast.probe import PORT, Ready, respond, send, send_path
from tests.schemas import assert_fits

GROUP = "239.0.0.1"
CHECKOUT = Path(__file__).resolve().parents[2]
_CLONE_NEWNET = 0x40000000
_SECONDS = 30
_T = TypeVar("_T")


def call(machine: Namespace, function: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """Call the function in a forked process within the machine's network namespace."""
    with _forked(machine, function, *arguments, **named) as here:
        assert here.poll(_SECONDS), f"no answer after {_SECONDS} s"
        result = here.recv()
    if isinstance(result, BaseException):
        raise result
    answer: _T = result
    return answer


def find_path(host: Namespace, group: str, **named: Any) -> dict[str, Any]:
    """Return the JSON document of `probe path`."""
    return call(host, send_path, "eth0", group, **named).to_json()


def ask(host: Namespace, group: str, **named: Any) -> dict[str, Any]:
    """Return the JSON document of `probe send`, for ten questions in a quarter of a second."""
    defaults: dict[str, Any] = {"count": 10, "interval": 0.01, "timeout": 0.3}
    return call(host, send, "eth0", group, **(defaults | named)).to_json()


@contextmanager
def answering(host: Namespace, *groups: str, **named: Any) -> Iterator[None]:
    """`probe respond` on the host's eth0, from when it is ready to the end of the context."""
    with _forked(host, _respond, list(groups), **named) as here:
        assert here.poll(_SECONDS), f"not ready after {_SECONDS} s"
        said = here.recv()
        if isinstance(said, BaseException):
            raise said
        yield


@contextmanager
def holding(host: Namespace, group: str) -> Iterator[None]:
    """A process that is a member of the group on the host's eth0, to the end of the context."""
    with _forked(host, _hold, group) as here:
        assert here.poll(_SECONDS), f"not joined after {_SECONDS} s"
        said = here.recv()
        if isinstance(said, BaseException):
            raise said
        yield


def command(host: Namespace, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """`python -m ovs_mcast.probe …` on the host."""
    done = host.run(
        sys.executable, "-m", "ovs_mcast.probe", *arguments,
        check=False, timeout=_SECONDS, env={"PYTHONPATH": str(CHECKOUT), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def command_json(host: Namespace, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON of the same."""
    done = command(host, *arguments, "--json")
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert_fits(document, schemas.path if arguments[0] == "path" else schemas.send)
    return done.returncode, document


def sh(machine: Namespace, *lines: str) -> None:
    """Run commands on the machine, words apart by blanks."""
    for line in lines:
        machine.run(*line.split())


def write(machine: Namespace, path: str, value: object) -> None:
    """Write a sysctl of the machine."""
    machine.run("sh", "-c", f"echo {value} >/proc/sys/net/{path}")


def probes(frame: bytes) -> UdpDatagram | None:
    """What of a frame is the probe's: to its port, or from it."""
    datagram = decode_udp(frame)
    if datagram is None or PORT not in {datagram.destination_port, datagram.source_port}:
        return None
    return datagram


def hosts(lab: Lab, number: int) -> list[LinuxHost]:
    """Hosts l1, l2 and so on, which are 10.0.0.1, 10.0.0.2 and so on."""
    return [lab.add_linux_host() for _ in range(number)]


def _respond(there: Connection, groups: list[str], **named: Any) -> None:
    def ready(_: Ready) -> None:
        there.send(None)

    respond("eth0", groups, on_ready=ready, **named)


def _hold(there: Connection, group: str) -> None:
    with DeviceGroups("eth0") as held:
        held.join([IPAddress(group)])
        there.send(None)
        signal.pause()


@contextmanager
def _forked(
    machine: Namespace, function: Callable[..., Any], *arguments: Any, **named: Any
) -> Iterator[Connection]:
    """Its end of a pipe; what stays gets the other end, what returns has its result put in."""
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe()

    def run() -> None:
        here.close()
        try:
            _enter(machine.pid)
            if function in {_respond, _hold}:
                function(there, *arguments, **named)
            else:
                there.send(function(*arguments, **named))
        except BaseException as error:
            there.send(error)

    process = forking.Process(target=run)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        here.close()


def _enter(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def member(lab: Lab, host: LinuxHost, **named: Any) -> Iterator[None]:
    """A responder that has joined, and the switch knows it."""
    with answering(host, GROUP, **named):
        wait_until(lambda: host.name in lab.switch.members(GROUP), "never joined", timeout=5)
        yield


def answers_of(said: dict[str, Any], host: str) -> tuple[Any, ...]:
    one = said["responders"][host]
    return one["received"], one["unicast"]["received"], one["duplicates"], one["out_of_order"]
