"""A virtual machine with the kernel of Debian's package: this checkout and this Python run in it.

The host's own kernel is not touched: the packages are downloaded and unpacked, not installed, and
qemu emulates the processor. The machine sees the host's file system and cannot write to it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Final

from ovs_mcast.core.closeable import Closeable
from tests.functional.warm import IMPORTS

TOP: Final = Path(__file__).resolve().parents[2]
CACHE: Final = TOP / ".cache" / "kernel"
NEEDS: Final = (
    "root",
    "qemu-system-x86_64",
    "vng",
    "apt-get",
    "dpkg",
    "file",
    "ovs-vswitchd",
    "ip",
)

# By its own clock the machine is some five times slower than others.
PATIENCE: Final = 5
# Once it is up, the machine tells every ten seconds of its slow clock that it lives. A test that
# hangs is ended in there.
_SILENCE_SECONDS = 300.0
_CONSOLE_LINES = 30
_EMPTY_PIPE_SECONDS = 0.5
# Emulated code is translated once for each address that it is seen at: so all processes have their
# libraries at the same ones. And "rep movs" costs a look-up for each of its words.
_KERNEL_OPTIONS: Final = "mitigations=off norandmaps clearcpuid=rep_good"

# In a process namespace of its own, which ends with the machine, or when the other end of the pipe
# that is read here is closed, however that came: then all that is in it is killed.
_ENDS_WITH_US: Final = (
    "nice", "-n", "10",  # whoever runs beside it waits for real time to pass, and it does not
    "unshare", "--pid", "--fork", "--kill-child", "--",
    "sh", "-c",
    'exec 3<&0; "$@" </dev/null 3<&- & machine=$!;'
    ' { cat <&3; kill -9 $machine; } >/dev/null 2>&1 & exec 3<&-; wait $machine',
    "sh",
)  # fmt: skip

Event = dict[str, Any]


class MachineError(Exception):
    """The machine did not start, ended before its time, or was silent for too long."""


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel with its modules, and a static busybox for the initramfs."""

    kernel: Path
    busybox: Path


def image() -> Image:
    """The kernel that linux-image-amd64 stands for now, downloaded unless it is in the cache.

    Without an answer of apt the newest that is in the cache.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # of several processes one looks and downloads
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _image()


def _image() -> Image:
    kernel = _package()
    if kernel is None:
        _run("apt-get", "-qq", "update")
        kernel = _package()
    made = [CACHE / kernel] if kernel else sorted(CACHE.glob("linux-image-*"))[-1:]
    if not made:
        raise MachineError("apt has no linux-image-amd64, and .cache/kernel has none either")
    if not (made[0] / "complete").exists():
        _download(made[0])
    (vmlinuz,) = (made[0] / "boot").glob("vmlinuz-*")
    return Image(vmlinuz, made[0] / "bin" / "busybox")


def _package() -> str | None:
    """Name, underscore, version."""
    depends = _run("apt-cache", "depends", "linux-image-amd64").split()
    names = [word for word in depends if word.startswith("linux-image-") and word[12].isdigit()]
    if not names:
        return None
    shown = _run("apt-cache", "show", "--no-all-versions", names[0]).splitlines()
    versions = [line.split()[1] for line in shown if line.startswith("Version: ")]
    return f"{names[0]}_{versions[0]}" if versions else None


def _download(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # The image with the flavour "cloud" has no 9p; linux-image-amd64 is never that.
    kernel = directory.name.partition("_")[0]
    try:
        _run("apt-get", "-qq", "download", kernel, "busybox-static", cwd=directory)
    except MachineError:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "download", kernel, "busybox-static", cwd=directory)
    for package in directory.glob("*.deb"):
        _run("dpkg", "-x", str(package), str(directory))
        package.unlink()
    for name in ("bin", "lib"):  # from Debian 13 on packages have all of it in /usr
        if not (directory / name).exists():
            (directory / name).symlink_to(f"usr/{name}")
    (directory / "complete").touch()


def _run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | (env or {}),
    )
    if done.returncode != 0:
        raise MachineError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def search_path() -> str:
    """Return the PATH for vng, which is in this Python's bin directory."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def compiled_code() -> dict[str, str]:
    """Return the environment of a Python that imports compiled code from the cache."""
    return {"PYTHONPYCACHEPREFIX": str(CACHE / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}


class VirtualMachine(Closeable):
    """A machine that runs guest.sh and, by it, pytest, until the context ends."""

    def __init__(self, tests: Sequence[str]) -> None:
        directory = CACHE / f"run-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        # Tests are compiled by their collection; this is what their runs of setup import.
        _run(sys.executable, "-c", f"import {', '.join(IMPORTS)}", env=compiled_code(), cwd=TOP)
        (directory / "tests").write_text("\n".join(tests))
        self._console = directory / "console.log"
        self._events: Queue[Event | None] = Queue()
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*_ENDS_WITH_US, *_command(directory)],
                env=os.environ | {"PATH": search_path(), "TMPDIR": str(directory)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                start_new_session=True,
                cwd=TOP,
            )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def events(self) -> Iterator[Event]:
        """Yield the tests' reports; MachineError if the machine ends or falls silent."""
        while True:
            try:
                event = self._events.get(timeout=_SILENCE_SECONDS)
            except Empty:
                silence = f"the machine has been silent for {_SILENCE_SECONDS:.0f} s"
                raise MachineError(self.with_console(silence)) from None
            if event is None:
                raise MachineError(self.with_console("the machine ended before its tests"))
            yield event
            if "exit" in event:
                return

    def with_console(self, message: str) -> str:
        """Return a message, followed by the last lines of the machine's console."""
        lines = self._console.read_text(errors="replace").splitlines()[-_CONSOLE_LINES:]
        return "\n".join([f"{message}; the last lines of its console:", *lines])

    def close(self) -> None:
        """End the machine, if it has not ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join(_EMPTY_PIPE_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # what other programs of the machine print
                if isinstance(event, dict):
                    self._events.put(event)
        self._events.put(None)


def _command(directory: Path) -> list[str]:
    made = image()
    guest = [
        "bash", str(TOP / "tests/kernel/guest.sh"), sys.executable, str(TOP), str(directory),
        str(PATIENCE),
    ]  # fmt: skip
    # A second look at the host's file system, which guest.sh mounts with a cache: all that is
    # started and imported comes through it.
    disk = (
        "-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
        " -device virtio-9p-pci,fsdev=host,mount_tag=host"
    )
    # A processor without what is dear to emulate, five levels of page tables among it. One of them:
    # with two a kernel that patches its own code can hang under emulation, and did in a boot.
    # Its clock goes by instructions, 4 ns each, while it is busy: what the host's load takes from
    # it passes unseen, and no time-out in there depends on it.
    processor = "-cpu Nehalem -icount shift=2,sleep=on -rtc clock=vm"
    return [
        "vng", "--run", str(made.kernel), "--busybox", str(made.busybox), "--force-9p",
        "--disable-kvm", "--verbose", "--memory", "2G", "--cpus", "1",
        "--append", _KERNEL_OPTIONS,
        f"--qemu-opts={processor} {disk}", "--exec", shlex.join(guest),
    ]  # fmt: skip


def seconds_since(begun: float) -> str:
    """A time that has passed, for people."""
    return f"{time.monotonic() - begun:.0f} s"
