"""ovs-vswitchd's control socket: whether the daemon runs, its routes, tunnel neighbours."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from .. import files
from ..core.changes import Neighbour
from ..core.closeable import Closeable
from ..core.observed import RoutePath
from ..errors import UnavailableError

_ROUTE = re.compile(
    r"(?:Cached|User): (?P<host>[0-9a-f.:]+)/(?:32|128) (?:MARK \S+ )?dev (?P<device>\S+)"
    r"(?: GW \S+)?(?: SRC (?P<source>\S+))?"
)
_DECODER = json.JSONDecoder()
_PATIENCE = 30.0  # seconds that one answer may take
_NO_FAMILY = "No such file or directory"
_PID_MAX = 64  # bytes
DEFAULT_RUNDIR = "/var/run/openvswitch"


def run_directory() -> Path:
    """Return the directory of Open vSwitch's sockets: $OVS_RUNDIR, else its compiled-in default."""
    return Path(os.environ.get("OVS_RUNDIR") or DEFAULT_RUNDIR)


class Vswitchd(Closeable):
    """One connection to ovs-vswitchd's control socket. UnavailableError without an answer."""

    def __init__(self, rundir: Path) -> None:
        missing = f"ovs-vswitchd does not run (no answer in {rundir}): start openvswitch-switch"
        try:
            pid = int(files.read(rundir / "ovs-vswitchd.pid", _PID_MAX))
        except PermissionError:
            raise UnavailableError(
                f"reading {rundir} needs privileges: run as root", reason="privilege"
            ) from None
        except (OSError, ValueError):
            raise UnavailableError(missing, reason="vswitchd") from None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._received = ""
        try:
            self._socket.connect(str(rundir / f"ovs-vswitchd.{pid}.ctl"))
        except PermissionError:
            self._socket.close()
            raise UnavailableError(
                "reaching ovs-vswitchd needs privileges: run as root", reason="privilege"
            ) from None
        except OSError:
            self._socket.close()
            raise UnavailableError(missing, reason="vswitchd") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, command: str, *arguments: str) -> str:
        """Run one command, as `ovs-appctl` does; UnavailableError if it fails."""
        return self._calls([(command, *arguments)])[0]

    def _calls(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        """Run many commands; the first that fails is an UnavailableError."""
        answers = self._answers(commands)
        for answer in answers:
            if isinstance(answer, UnavailableError):
                raise answer
        return [str(answer) for answer in answers]

    def _answers(self, commands: Sequence[tuple[str, ...]]) -> list[str | UnavailableError]:
        """Run many commands, sent at once and answered in order (JSON-RPC, ovs-appctl(8)).

        The answer to one that fails is its error.
        """
        asked = "".join(
            json.dumps({"id": number, "method": command[0], "params": command[1:]})
            for number, command in enumerate(commands)
        )
        sender = threading.Thread(target=self._send, args=(asked.encode(),))
        sender.start()
        try:
            return [self._answer(command[0]) for command in commands]
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"ovs-vswitchd does not answer: {error}", reason="vswitchd"
            ) from None
        finally:
            sender.join()

    def _send(self, asked: bytes) -> None:
        with suppress(OSError):  # the reader of the answers meets the error
            self._socket.sendall(asked)

    def _answer(self, command: str) -> str | UnavailableError:
        while True:
            with suppress(json.JSONDecodeError):
                answer, end = _DECODER.raw_decode(self._received)
                self._received = self._received[end:].lstrip()
                break
            part = self._socket.recv(1 << 20)
            if not part:
                raise ValueError("it closed the connection")
            self._received += part.decode(errors="replace")
        if answer.get("error"):
            return UnavailableError(
                f"ovs-vswitchd: {command}: {answer['error']}", reason="vswitchd"
            )
        return str(answer.get("result") or "")

    def set_neighbours(self, neighbours: Iterable[Neighbour]) -> None:
        """Set the Ethernet addresses of outer destinations in the userspace datapath.

        They age out after 900 s without use, and go when ovs-vswitchd ends (`tnl/neigh/show`).
        """
        self._calls([("tnl/neigh/set", one.bridge, one.group, one.mac) for one in neighbours])

    def routes(self) -> dict[str, RoutePath]:
        """Return Open vSwitch's own host routes, by which the userspace datapath sends.

        It sends by routes of the kernel's table ``local`` too. From 3.7 on its output does not
        distinguish our routes there from those of addresses.
        """
        self._read_notifications()
        found = {}
        for line in self.call("ovs/route/show").splitlines():
            if printed := _ROUTE.match(line):
                found[printed["host"]] = RoutePath(printed["device"], printed["source"])
        return found

    def _read_notifications(self) -> None:
        """Make ovs-vswitchd read the kernel's pending notifications: it answers afterwards."""
        self.call("version")

    def has_datapath(self, kind: str) -> bool:
        """Return whether ovs-vswitchd has this type of datapath: system or netdev.

        Without the kernel's module it has no Generic Netlink family (lib/dpif-netlink.c): ENOENT,
        not ENODEV as for a datapath of another name. `datapath_types` has system all the same.
        ovs-vswitchd looks for the module once, when it first needs it.
        """
        [answer] = self._answers([("dpctl/show", f"{kind}@ovs-mcast-none")])
        return not isinstance(answer, UnavailableError) or _NO_FAMILY not in str(answer)

    def flows(self, bridge: str) -> list[str]:
        """Return all flows of a bridge, whatever OpenFlow versions it speaks; none without it."""
        [printed] = self._answers([("bridge/dump-flows", bridge)])
        return printed.splitlines() if isinstance(printed, str) else []

    def trace(self, bridge: str, frames: Sequence[str]) -> dict[str, str]:
        """Return frame → what would become of it (`ofproto/trace`, which changes nothing)."""
        answers = self._answers([("ofproto/trace", bridge, frame) for frame in frames])
        answered = zip(frames, answers, strict=True)
        return {frame: answer for frame, answer in answered if isinstance(answer, str)}

    def look_up(self, destinations: Iterable[str]) -> dict[str, RoutePath]:
        """Return Open vSwitch's path to each address, by `ovs/route/lookup`."""
        self._read_notifications()
        wanted = list(destinations)
        answers = self._answers([("ovs/route/lookup", one) for one in wanted])
        return {
            one: RoutePath(None) if isinstance(answer, UnavailableError) else _path(answer)
            for one, answer in zip(wanted, answers, strict=True)
        }


def _path(printed: str) -> RoutePath:
    """Return the path of the lines `src`, `gateway` and `dev`."""
    found = dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)
    gateway = found.get("gateway")
    return RoutePath(
        found.get("dev"), found.get("src"), None if gateway in {"::", "0.0.0.0"} else gateway
    )
