"""The cost of a process by /proc: memory, threads, files, children, processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """A process at a moment; ``memory`` in KiB, resident."""

    memory: int
    threads: int
    files: int
    children: int


def cost(pid: int) -> Cost:
    """Return the present cost of the process."""
    directory = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (directory / "status").read_text().splitlines())
    return Cost(
        memory=int(status["VmRSS"].split()[0]),
        threads=int(status["Threads"]),
        files=len(list((directory / "fd").iterdir())),
        children=len(list(_children(directory))),
    )


def rests(pid: int, seconds: float = 0.5) -> bool:
    """Whether it did nothing for so long: no processor time was counted."""
    ticks = processor_seconds(pid)
    time.sleep(seconds)  # the window in which nothing may be counted
    return processor_seconds(pid) == ticks


def processor_seconds(pid: int) -> float:
    """User and system time of all its threads, and of children that have ended (proc(5): stat)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / _TICKS


def processor_microseconds(pid: int) -> float:
    """Time that its threads ran, finer than the ticks of stat; those that ended are not in it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1000


def _children(directory: Path) -> Iterator[str]:
    for task in (directory / "task").iterdir():
        with suppress(FileNotFoundError):
            yield from (task / "children").read_text().split()
