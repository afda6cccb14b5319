"""Small programs that embed the library, each run on a host of the lab in a process of its own.

A program says what it has done with ``say`` and waits for a word with ``hear``; what it returns is
the last line that it says. ``run`` starts one.
"""

from __future__ import annotations

import asyncio
import ctypes
import doctest
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ovs_mcast as om
from ovs_mcast import aio
from tests.functional.counting import with_counts
from tests.functional.node import Node
from tests.functional.warm import Run
from tests.functional.wire import eventually

PATIENCE = 30.0


class Embedded:
    """A running program as the test sees it: its lines of output, and words to it."""

    def __init__(self, run: Run, fifo: Path) -> None:
        self._run, self._said = run, 0
        self.pid = run.pid
        self._words = os.open(fifo, os.O_RDWR)

    def says(self, patience: float = PATIENCE) -> Any:
        """Return the next value that the program prints within so many seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            lines = os.pread(self._run._stdout.fileno(), 1 << 20, 0).decode().split("\n")[:-1]
            if len(lines) > self._said:
                self._said += 1
                return json.loads(lines[self._said - 1])
            select.select([], [], [], 0.01)
        raise AssertionError(f"it says nothing; {self._run.said()}")

    def word(self, word: str) -> None:
        """Send a word."""
        os.write(self._words, f"{word}\n".encode())

    def tell(self, word: str) -> Any:
        """Send a word, and return the next value that the program prints."""
        self.word(word)
        return self.says()

    def dies(self, word: str) -> None:
        """Send a word that makes the program kill itself, and wait for its end."""
        os.write(self._words, f"{word}\n".encode())
        assert self._run.wait().status == -signal.SIGKILL

    def kill(self) -> None:
        """Kill -9, and wait for its end."""
        self._run.kill()
        self._run.wait()

    def end(self) -> None:
        """Wait for its end, which must be in order."""
        os.write(self._words, b"\n")
        result = self._run.wait()
        assert (result.status, result.stderr) == (0, ""), result.stderr


@contextmanager
def run(
    node: Node, program: str, overlay: Mapping[str, Any], directory: Path, **options: Any
) -> Iterator[Embedded]:
    """Start one of the programs below on a host; it has ended afterwards."""
    fifo = directory / f"words-{len(list(directory.iterdir()))}"
    os.mkfifo(fifo)
    started = node.start(
        json.dumps(dict(overlay)), str(fifo), program=f"{__name__}:{program}", **options
    )
    embedded = Embedded(started, fifo)
    try:
        yield embedded
    finally:
        os.close(embedded._words)
        if not embedded._run._stdout.closed:
            embedded.kill()


def say(value: object) -> None:
    """Print a value for the test, as one line of JSON."""
    os.write(1, json.dumps(value).encode() + b"\n")


def words(fifo: str) -> Generator[str, None, None]:
    """Yield the words of the test, until an empty line."""
    with open(fifo, encoding="ascii") as said:
        for line in said:
            if not line.strip():
                return
            yield line.strip()


def threads() -> list[str]:
    """The threads of this process, as the kernel counts them."""
    return sorted(path.name for path in Path("/proc/self/task").iterdir())


def descriptors() -> dict[str, str]:
    """What this process has open, but for what libuuid keeps for each thread that ever asked it."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found[path.name] = str(path.readlink())
    return {number: name for number, name in found.items() if "/libuuid/" not in name}


# The programs


def examples(_configuration: str, _fifo: str) -> None:
    """Run the examples that need a machine; print the failures and the number of examples."""
    tried, failed = 0, []
    runner = doctest.DocTestRunner(verbose=False)
    for place in (om.Host, om.connect, aio):
        for test in doctest.DocTestFinder(recurse=False).find(place, globs={"om": om}):
            told: list[str] = []
            result = runner.run(test, out=told.append)
            tried += result.attempted
            failed += told
    say({"tried": tried, "failed": failed})


class _Warned(logging.Handler):
    """Sets an event at a record: a run waits for another."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


def ticking(configuration: str, fifo: str) -> None:
    """Reconcile by asyncio while another connection holds the lock."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    with om.connect():
        pass
    before = descriptors()
    told = words(fifo)

    async def program() -> None:
        async with aio.connect(holding="here") as host:
            with (
                om.connect() as other,
                other.backend.ovsdb.exclusive(PATIENCE, lambda _seconds: None),
            ):
                waiting = asyncio.create_task(host.reconcile(overlay))
                for _ in range(100):  # an event loop that is blocked does not get here
                    await asyncio.sleep(0.001)
                begun = waiting.done()
                cancelled = asyncio.create_task(host.teardown(overlay.name))
                await asyncio.sleep(0)
                cancelled.cancel()
            status = await waiting
            say({"done before": begun, "verified": status.verified, "threads": len(threads())})
            next(told)
            added = await host.add(om.Segment(vni=77, group="239.0.7.77"))
            warned.event.clear()
            with (
                om.connect() as other,
                other.backend.ovsdb.exclusive(PATIENCE, lambda _seconds: None),
            ):
                late = asyncio.create_task(host.remove(77))
                while not warned.event.is_set():  # until it has begun, and waits
                    await asyncio.sleep(0.001)
                late.cancel()
            say({"added": list(added.segments), "cancelled": cancelled.cancelled()})

    warned = _Warned()
    logging.getLogger("ovs_mcast").addHandler(warned)
    logging.getLogger("ovs_mcast").setLevel(logging.INFO)
    asyncio.run(program())
    told.close()
    assert eventually(lambda: len(threads()) == 1), threads()
    assert descriptors() == before, (before, descriptors())
    say("ended")


def crowd(configuration: str, _fifo: str) -> None:
    """Add and remove segments from several threads at once, with reconciles in between."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    with om.connect(holding="here") as host, ThreadPoolExecutor(4) as pool:
        host.reconcile(overlay)

        def come_and_go(vni: int) -> None:
            for _ in range(3):
                host.add(om.Segment(vni=vni, group=f"239.0.9.{vni % 7}"))
                host.verify(host.overlay())
                host.remove(vni)
            host.add(om.Segment(vni=vni, group=f"239.0.9.{vni % 7}"))

        for done in [pool.submit(come_and_go, vni) for vni in range(200, 208)]:
            done.result()
        say([segment.vni for segment in host.overlay().segments])
        say([str(change) for change in host.reconcile(host.overlay()).changes])


def adder(_configuration: str, fifo: str) -> None:
    """On an overlay that is there, as a hook does: add so many segments from a VNI on; remove one.

    Each answer has the VNIs that are wanted then, the changes and how many seconds it took.
    """
    with om.connect() as host:
        for word in words(fifo):
            verb, first, *number = word.split()
            began, changes = time.monotonic(), 0
            for vni in range(int(first), int(first) + int(*number or "1")):
                if verb == "add":
                    segment = om.Segment(vni=vni, group=f"239.0.9.{vni % 7}")
                    changes += len(host.add(segment, name="default").changes)
                else:
                    changes += len(host.remove(vni, name="default").changes)
            there = [segment.vni for segment in host.overlay("default").segments]
            say([there, changes, time.monotonic() - began])


def refused(_configuration: str, fifo: str) -> None:
    """Add one segment, remove one, and add one that is there."""
    with om.connect() as host:
        there = host.overlay("default").segments[0]
        told = words(fifo)
        next(told)
        calls: tuple[Callable[[], om.Status], ...] = (
            lambda: host.add(om.Segment(vni=777, group="239.0.9.9")),
            lambda: host.remove(there.vni),
            lambda: host.add(there),
        )
        said = []
        for call in calls:
            try:
                said.append(f"{len(call().changes)} changes")
            except om.UnavailableError as error:
                said.append(str(error))
        say(said)


def patient(configuration: str, fifo: str) -> None:
    """Say how each call ends, and after how many seconds, while a daemon does not answer."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    with om.connect() as host:
        host.reconcile(overlay)
        calls: dict[str, Callable[[], object]] = {
            "plan": lambda: host.plan(overlay),
            "overlay": lambda: host.overlay("default"),
            "reconcile": lambda: host.reconcile(overlay),
            "add": lambda: host.add(om.Segment(vni=777, group="239.0.9.9")),
            "connect": lambda: om.connect(timeout=1.0).close(),
        }
        for word in words(fifo):
            began = time.monotonic()
            try:
                calls[word]()
                said = "done"
            except om.UnavailableError as error:
                said = f"{error.reason}: {error}"
            say([said, time.monotonic() - began])


def elsewhere(configuration: str, _fifo: str) -> None:
    """Work in the namespace that this process has left, by `netns`, and by a thread that enters."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    libc, new = ctypes.CDLL(None), 0x40000000
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.unshare(new) == 0
    own = os.readlink("/proc/self/ns/net")
    with om.connect(netns=here) as host:
        first = host.reconcile(overlay)
        added = host.add(om.Segment(vni=777, group="239.0.9.9"))
        assert os.readlink("/proc/self/ns/net") == own
    said: list[object] = [first.verified, added.verified]

    def entered() -> None:
        assert libc.setns(here, new) == 0
        with om.connect(holding="here") as host:
            said.append(host.reconcile(overlay).verified)
            host.hand_over()

    thread = threading.Thread(target=entered)
    thread.start()
    thread.join()
    try:
        om.connect(netns="no-such-namespace")
    except om.ConfigurationError as error:
        said.append(str(error))
    say(said)


def dropped(_configuration: str, _fifo: str) -> None:
    """Open Hosts and never close them: nothing is left once they are collected, but a warning."""
    with om.connect():
        pass
    before = descriptors()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(5):
            om.connect().overlays()
        gc.collect()
    assert eventually(lambda: len(threads()) == 1), threads()
    assert descriptors() == before, (before, descriptors())
    say([f"{one.category.__name__}: {one.message}" for one in told])


def count(configuration: str, fifo: str) -> None:
    """Reconcile, then add and remove segments by the test's words, and print the cost of each."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    spent: Counter[str] = Counter()

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            command = arguments[1]
            spent["bundle" if "--bundle" in command else "dump"] += 1
        elif event == "socket.connect" and isinstance(arguments[1], str):
            keeper = arguments[1].startswith("\0ovs-mcast-keeper-")
            spent["keeper" if keeper else Path(arguments[1]).suffix] += 1

    sys.addaudithook(heard)

    class Counted(socket.socket):
        """A socket that counts answers of the kernel."""

        def recv(self, *arguments: int) -> bytes:
            data = super().recv(*arguments)
            if self.family == socket.AF_NETLINK:
                spent["netlink datagrams"] += 1
                spent["netlink octets"] += len(data)
            return data

    vars(socket)["socket"] = Counted
    with om.connect() as host:
        host.backend = with_counts(host.backend, spent)
        host.reconcile(overlay)
        say("ready")
        for word in words(fifo):
            verb, _, argument = word.partition(" ")
            spent.clear()
            cpu, began = time.process_time(), time.perf_counter()
            try:
                if verb == "add":
                    status = host.add(om.Segment(**json.loads(argument)))
                elif verb == "remove":
                    status = host.remove(int(argument))
                else:
                    status = host.reconcile(host.overlay())
            except om.OvsMcastError as error:
                field = getattr(error, "field", "")
                say({"error": type(error).__name__, "field": field, "text": str(error)})
                continue
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            say(
                {
                    "status": status.to_json(),
                    "spent": {"netlink batches": 0, "transactions": 0, **spent},
                    "ms": round(took * 1000, 1),
                    "cpu_ms": round(cpu * 1000, 1),
                }
            )


def here(configuration: str, fifo: str) -> None:
    """Reconcile, holding the groups in this process; then follow the test's words."""
    overlay = om.Overlay.from_mapping(json.loads(configuration))
    with om.connect():
        pass  # what the libraries open once, and keep
    before = descriptors()
    with om.connect(holding="here") as host:
        status = host.reconcile(overlay)
        say({"changes": [str(change) for change in status.changes], "threads": len(threads())})
        for word in words(fifo):
            if word == "plan":
                say([str(change) for change in host.plan(overlay)])
            elif word == "reconcile":
                say([str(change) for change in host.reconcile(overlay).changes])
            elif word == "hand over":
                host.hand_over()
                say([thread.name for thread in threading.enumerate()])
            elif word == "held":
                seen = host.observe(overlay)
                say(None if seen.held is None else seen.held.groups)
    # Python joins a thread just before the kernel has ended it.
    assert eventually(lambda: len(threads()) == 1), threads()
    assert descriptors() == before, (before, descriptors())
