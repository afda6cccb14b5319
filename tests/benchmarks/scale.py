"""How long setup takes by the number of segments, in a lab of one host: no verdict, a table.

    sudo .venv/bin/python tests/benchmarks/scale.py [SEGMENTS …]

Seconds are those of the whole command, the start of Python and its imports in them; `--help` is
what these alone take. A segment's group is one of a pool of 1,024. In brackets: processor time of
ovs-vswitchd.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ovs_mcast.lab import Host, Lab

SEGMENTS = (1, 100, 1000, 4093)  # one VLAN is left for one segment more
POOL = "239.1.0.0/22"
_STEPS = (
    "from nothing",
    "again",
    "one more",
    "one less",
    "add()",
    "remove()",
    "dry run",
    "teardown",
)


def main() -> None:
    """Measure for each number of segments, and print a table."""
    wanted = [int(argument) for argument in sys.argv[1:]] or list(SEGMENTS)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("segments", *_STEPS):
        table.add_column(name, justify="right")
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        host = lab.add_host()
        host.run("sh", "-c", "echo 4096 >/proc/sys/net/ipv4/igmp_max_memberships")
        began = time.monotonic()
        host.setup("--help")
        start = time.monotonic() - began
        for number in wanted:
            table.add_row(f"{number:,}", *measure(host, Path(directory), number))
    out = Console(width=120)
    out.print(table)
    out.print(f"--help: {start:.2f} s; {len(os.sched_getaffinity(0))} processors", highlight=False)


def measure(host: Host, directory: Path, number: int) -> list[str]:
    """The cells of one row."""
    full = configuration(host, directory, range(1, number + 1))
    less = configuration(host, directory, range(1, max(number, 2)))
    steps = {
        "from nothing": (0, full),
        "again": (0, full),
        "one less": (0, less),
        "one more": (0, full),
        "dry run": (4, ("--dry-run", "--teardown")),
        "teardown": (0, ("--teardown",)),
    }
    cells: dict[str, str] = {}
    for name, step in steps.items():
        if name == "dry run":
            cells |= embedded(host, full[1], number + 1)
        cells[name] = timed(host, *step)
    return [cells[name] for name in _STEPS]


_PROGRAM = """
import json, sys, time, ovs_mcast as om
with om.connect() as host:
    host.reconcile(om.Overlay.from_mapping(json.load(open(sys.argv[1]))))
    for change in (
        lambda: host.add(om.Segment(vni=int(sys.argv[2]) + 4096, vlan=4094, group="239.2.0.1")),
        lambda: host.remove(int(sys.argv[2]) + 4096),
    ):
        began = time.perf_counter()
        change()
        print(f"{time.perf_counter() - began:.3f}")
"""


def embedded(host: Host, configuration: str, vni: int) -> dict[str, str]:
    """Seconds of one segment more and less for a process that embeds the library."""
    said = host.run(sys.executable, "-c", _PROGRAM, configuration, str(vni)).stdout
    return dict(zip(("add()", "remove()"), said.split(), strict=True))


def configuration(host: Host, directory: Path, vnis: range) -> tuple[str, str]:
    """A configuration file of so many segments, as arguments."""
    wanted = {
        "datapath": host.datapath,
        "membership": "autojoin",
        "underlay": {"device": host.underlay},
        "groups": POOL,
        "segments": [{"vni": vni} for vni in vnis],
    }
    path = directory / f"{len(vnis)}.json"
    path.write_text(json.dumps(wanted))
    return ("--config", str(path))


def timed(host: Host, status: int, arguments: tuple[str, ...]) -> str:
    """Seconds of one run, and those that ovs-vswitchd worked meanwhile."""
    worked, began = work(host), time.monotonic()
    done = host.setup(*arguments)
    seconds = time.monotonic() - began
    if done.status != status:
        raise SystemExit(f"setup {' '.join(arguments)}: status {done.status}\n{done.stderr}")
    return f"{seconds:.2f} ({work(host) - worked:.2f})"


def work(host: Host) -> float:
    """Processor time of ovs-vswitchd so far, in seconds."""
    process = host.path("/run/openvswitch/ovs-vswitchd.pid").read_text().strip()
    fields = host.path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
