"""One machine of the lab: unnamed network, mount and process namespaces, held by one process.

The holder is process 1 of its namespace and reads a pipe whose other end only the lab holds. When
the lab ends, even by kill -9, the holder reads end of file and ends too. The kernel then kills all
other processes of the namespace and removes its links, its mounts and /run, a tmpfs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from select import select
from signal import SIGKILL
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from ..adapters.packet_socket import within
from ..errors import UnavailableError

_T = TypeVar("_T")

RUNDIR = "/run/openvswitch"
OVS_DIRECTORIES = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), RUNDIR)

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--")
# /proc is still the outer one when the shell reads its own id from it. The shell then becomes the
# holder at once, while its child prepares the machine and reports when that is done. IPv6 is off by
# default, so that a test alone decides which frames are on the wire.
_BEFORE = f"""
read -r pid rest </proc/self/stat
(
set -e
trap '[ $? = 0 ] && echo $pid >&3 || echo failed >&3' EXIT
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir {RUNDIR}
[ ! -d /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
{{
"""
_AFTER = """
} 3>&-
) 3>&1 >&2 &
exec env --ignore-signal=CHLD cat >/dev/null 2>&1
"""
_SIGINT_ENDS = ("env", "--default-signal=INT", "--")
_START_SECONDS = 30
_END_SECONDS = 10


class Namespace:
    """A machine; ``script`` is a shell script that prepares it while the lab goes on.

    Its processes see their own process ids and their own /run; the file system is the host's.
    """

    def __init__(self, name: str, script: str = "") -> None:
        self.name = name
        self._pid = 0
        # A session of its own: Ctrl-C at a terminal reaches the lab alone.
        self._holder = Popen(
            [*_UNSHARE, "sh", "-c", f"{_BEFORE}{script or ':'}{_AFTER}"],
            env=os.environ | OVS_DIRECTORIES,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            cwd="/",
            text=True,
        )

    @property
    def pid(self) -> int:
        """Wait until the machine is prepared; return the holder's process id as the lab sees it."""
        if not self._pid:
            assert self._holder.stdout is not None
            ready, _, _ = select([self._holder.stdout], [], [], patient(_START_SECONDS))
            line = self._holder.stdout.readline() if ready else ""
            if not line.strip().isdigit():
                raise UnavailableError(f"{self.name} did not start: {self._last_words()}")
            self._pid = int(line)
        return self._pid

    def path(self, inside: str) -> Path:
        """Return the path, for this process, of a file of the machine such as /run/x.sock."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> CompletedProcess[str]:
        """Run a command to its end on the machine, in this working directory.

        With ``check``, an exit status other than 0 raises UnavailableError with the command's own
        message. A command that takes more than ``timeout`` seconds is killed, and always raises it.
        """
        process = self.popen(*command, env=env, piped=stdin is not None)
        done = _to_its_end(process, " ".join(command), stdin, timeout)
        if check and done.returncode != 0:
            reason = (done.stderr or done.stdout).strip()
            failed = f"{self.name}: {' '.join(command)}: exit status {done.returncode}: {reason}"
            raise UnavailableError(failed)
        return done

    def popen(
        self, *command: str, env: Mapping[str, str] | None = None, piped: bool = False
    ) -> Popen[str]:
        """Start a command on the machine, its output piped, and with ``piped`` its input.

        The command ends with the machine at the latest; ``os.killpg`` with its process id kills it.
        SIGINT has its default handler in the command, even if this process ignores SIGINT, as one
        does that a shell without job control has started in the background.
        """
        entered = [*self.enter_command(), f"--wdns={Path.cwd()}", "--", *_SIGINT_ENDS, *command]
        return _popen(entered, env={**os.environ, **OVS_DIRECTORIES, **(env or {})}, piped=piped)

    def inside(self, make: Callable[[], _T]) -> _T:
        """Return what ``make`` returns in the machine's network namespace, on a thread of its own.

        A socket stays in the namespace it was opened in. An exception of ``make`` is raised here.
        """
        return within(self.pid, make)

    def enter_command(self) -> tuple[str, ...]:
        """Return the command, less its last part, that enters the machine."""
        return ("nsenter", f"--target={self.pid}", "--net", "--mount", "--pid")

    def release(self) -> None:
        """Let the holder end, without waiting for it."""
        if self._holder.stdin is not None:
            with suppress(OSError):
                self._holder.stdin.close()

    def close(self) -> None:
        """Let the holder end, and wait until all processes of the machine have ended."""
        self.release()
        try:
            self._holder.wait(patient(_END_SECONDS))
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()

    def _last_words(self) -> str:
        assert self._holder.stderr is not None
        self._holder.kill()
        return " ".join(self._holder.stderr.read().split()) or "no reason given"


def link_batch(commands: Sequence[str], within: Namespace) -> None:
    """Run many ip(8) commands in one process, in the network namespace of a machine.

    Process ids in the commands (``netns PID``) are as the lab sees them.
    """
    enter = ["nsenter", f"--target={within.pid}", "--net", "--", "ip", "-batch", "-"]
    done = _to_its_end(_popen(enter, piped=True), "ip -batch", "\n".join(commands) + "\n")
    if done.returncode != 0:
        raise UnavailableError(f"{within.name}: ip -batch: {done.stderr.strip()}")


def _popen(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, piped: bool
) -> Popen[str]:
    try:
        return Popen(
            command,
            stdin=PIPE if piped else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=env,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from error


def _to_its_end(
    process: Popen[str], name: str, stdin: str | None = None, timeout: float = 60.0
) -> CompletedProcess[str]:
    """Wait for the process; if the wait is cut short, kill all of the process's session."""
    with process:
        try:
            stdout, stderr = process.communicate(stdin, patient(timeout))
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"{name}: no end after {patient(timeout):g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, SIGKILL)
    return CompletedProcess(name, process.returncode, stdout, stderr)


def wait_until(holds: Callable[[], bool], message: str, *, timeout: float) -> None:
    """Poll ``holds`` every 20 ms; raise UnavailableError with the message after ``timeout`` s."""
    asking = Retrying(
        retry=retry_if_result(lambda answer: not answer),
        stop=stop_after_delay(patient(timeout)),
        wait=wait_fixed(0.02),
    )
    try:
        asking(holds)
    except RetryError:
        raise UnavailableError(f"{message} after {patient(timeout):g} s") from None


# How many times slower this machine is than those that the timeouts in the code were chosen for.
_FACTOR = float(os.environ.get("OVS_MCAST_LAB_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return a timeout for a usual machine as one for this machine."""
    return seconds * _FACTOR
