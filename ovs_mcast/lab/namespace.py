"""One machine of the lab: unnamed network, mount and process namespaces, held by one process.

The holder is process 1 in there and reads a pipe of which only the lab holds the other end. When
the lab ends, however it ends, the holder reads end of file and ends too; the kernel then kills all
that runs in the namespace and takes the rest away: links, mounts, and /run, which is a tmpfs.
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
# holder at once, while its child prepares the machine and tells when that is done. IPv6 is off by
# default, so that nothing is on the wire but what a test puts there.
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
    """A machine of its own; ``script`` is a shell script that prepares it while the lab goes on.

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
        """The holder's process id, as seen from outside; waits until the machine is prepared."""
        if not self._pid:
            assert self._holder.stdout is not None
            ready, _, _ = select([self._holder.stdout], [], [], patient(_START_SECONDS))
            line = self._holder.stdout.readline() if ready else ""
            if not line.strip().isdigit():
                raise UnavailableError(f"{self.name} did not start: {self._last_words()}")
            self._pid = int(line)
        return self._pid

    def path(self, inside: str) -> Path:
        """A file of the machine, such as /run/openvswitch/db.sock, as a path of this process."""
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

        With ``check``, a status other than 0 is an UnavailableError that has the command's own
        words; so is, always, a command that takes more than ``timeout`` seconds, and is killed.
        """
        process = self.popen(*command, env=env, piped=stdin is not None)
        done = _to_its_end(process, " ".join(command), stdin, timeout)
        if check and done.returncode != 0:
            words = (done.stderr or done.stdout).strip()
            said = f"{self.name}: {' '.join(command)}: status {done.returncode}: {words}"
            raise UnavailableError(said)
        return done

    def popen(
        self, *command: str, env: Mapping[str, str] | None = None, piped: bool = False
    ) -> Popen[str]:
        """Start a command on the machine, its output piped, and with ``piped`` its input.

        It ends with the machine, if not before: ``os.killpg`` with the process's id kills it.
        SIGINT ends it, even if this process was started with SIGINT ignored, as a shell without job
        control does in the background: what is ignored would else be inherited.
        """
        entered = [*self.enter_command(), f"--wdns={Path.cwd()}", "--", *_SIGINT_ENDS, *command]
        return _popen(entered, env={**os.environ, **OVS_DIRECTORIES, **(env or {})}, piped=piped)

    def inside(self, make: Callable[[], _T]) -> _T:
        """Return what ``make`` returns in the machine's network namespace, on a thread of its own.

        Sockets that it opens stay there; its exception is raised here.
        """
        return within(self.pid, make)

    def enter_command(self) -> tuple[str, ...]:
        """Return the command, less its last part, that enters the machine."""
        return ("nsenter", f"--target={self.pid}", "--net", "--mount", "--pid")

    def release(self) -> None:
        """Let the holder end; does not wait for it."""
        if self._holder.stdin is not None:
            with suppress(OSError):
                self._holder.stdin.close()

    def close(self) -> None:
        """Let the holder end, and wait until all of the machine's processes have."""
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
    """Many ip(8) commands in one process, in the network namespace of a machine.

    Process ids in the commands (``netns PID``) are those of the lab itself.
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
    """Wait for the process; if that is cut short, kill all of its session."""
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
    """Ask every 20 ms until it holds; UnavailableError with the message after ``timeout`` s."""
    asking = Retrying(
        retry=retry_if_result(lambda answer: not answer),
        stop=stop_after_delay(patient(timeout)),
        wait=wait_fixed(0.02),
    )
    try:
        asking(holds)
    except RetryError:
        raise UnavailableError(f"{message} after {patient(timeout):g} s") from None


# How many times slower this machine is than those for which the seconds in the code were chosen.
_FACTOR = float(os.environ.get("OVS_MCAST_LAB_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """So many seconds on a usual machine, as seconds on this one."""
    return seconds * _FACTOR
