"""The agent costs after thousands of events no more than after a few, and nothing when idle.

workload ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch ─ l1      (the agent keeps h1)

OVS_MCAST_SOAK_ROUNDS (30) sets how long the soak is; a round is about 930 events.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ovs_mcast.lab import Lab
from tests.functional.campaign.cost import (
    Cost,
    cost,
    processor_microseconds,
    processor_seconds,
    rests,
)
from tests.functional.campaign.course import DEADLINE
from tests.functional.campaign.faults import CATALOGUE
from tests.functional.campaign.repairers import Agent, Setup
from tests.functional.campaign.site import FAR, Shape, Site, wait_until_as_before
from tests.functional.warm import Warm
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.campaign.summary")

Record = Callable[[str, object], None]
ROUNDS = int(os.environ.get("OVS_MCAST_SOAK_ROUNDS", "30"))
WARM_UP = 10
# Python gives memory back in arenas of 1 MiB; what leaks even 100 octets an event shows above this.
GROWTH_KIB = 2048
ADDRESSES, FLOWS, ROWS = 150, 150, 30


@pytest.fixture(params=[Shape("netdev", "socket")], ids=str)
def kept(
    request: pytest.FixtureRequest, warm: Warm, tmp_path: Path
) -> Iterator[tuple[Site, Agent]]:
    """A host with an agent that has built its overlay."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        far = lab.add_linux_host(addresses=FAR)
        site = stack.enter_context(Site(lab, request.param, 1, far))
        agent = Agent(site, site.configuration(tmp_path))
        agent.start()
        stack.callback(agent.close)
        assert eventually(
            Setup(site, site.configuration(tmp_path), warm).is_built, seconds=DEADLINE
        )
        yield site, agent


@pytest.mark.timeout(300)
def test_thousands_of_events_leave_no_trace(
    kept: tuple[Site, Agent], record_property: Record
) -> None:
    """Memory, threads, files, children, flows and keepers are the same after 37,000 events."""
    site, agent = kept
    rng = Random(1)
    before = site.look()
    events, begun = 0, time.monotonic()
    for number in range(WARM_UP + ROUNDS):
        if number == WARM_UP:
            early = _at_rest(agent)
        events += _round(site, agent, number, rng)
        repair = wait_until_as_before(site, before, DEADLINE, rng)
        assert repair.left == (), f"round {number}"
    late = _at_rest(agent)
    took = time.monotonic() - begun
    record_property("table", f"soak, {site.shape}: {events} events, {took:.0f} s: {early} → {late}")
    assert replace(late, memory=0) == replace(early, memory=0)
    assert late.memory <= early.memory + GROWTH_KIB


def _at_rest(agent: Agent) -> Cost:
    """The cost before and after a rest: the agent had no file open for a moment only."""
    seen: list[Cost] = []

    def resting() -> bool:
        seen[:] = [cost(agent.pid)]
        return rests(agent.pid) and cost(agent.pid) == seen[0]

    assert eventually(resting, seconds=DEADLINE)
    return seen[0]


def _round(site: Site, agent: Agent, number: int, rng: Random) -> int:
    """Strangers' addresses, routes, flows and rows come and go, ours are damaged; how many events.

    Every few rounds a daemon of Open vSwitch is killed, or the configuration written anew.
    """
    hosts = [f"10.97.{n >> 8}.{n & 0xFF}/32 dev {site.device}" for n in range(1, ADDRESSES)]
    lines = [f"{part} {action} {one}" for action in ("add", "del") for part in ("address", "route")
             for one in hosts]  # fmt: skip
    flows = [f"cookie=0x99,table={rng.choice((0, 10, 20))},priority=3,dl_type=0x{0x9000 + n:x},"
             "actions=drop" for n in range(FLOWS)]  # fmt: skip
    rows = " ".join(
        f"ovs-vsctl --timeout=20 --no-wait set bridge br-foreign external_ids:n={n};"
        for n in range(ROWS)
    )
    site.sh(
        "ip -force -batch - >/dev/null 2>&1 <<END || true\n" + "\n".join(lines) + "\nEND\n"
        "ovs-ofctl -OOpenFlow14 --bundle add-flows br-mcast - <<END\n"
        + "\n".join(flows)
        + "\nEND\n"
        "ovs-ofctl -OOpenFlow14 del-flows br-mcast cookie=0x99/-1\n"
        f"{rows} ovs-vsctl --no-wait remove bridge br-foreign external_ids n"
    )
    daemons = ("ovsdb-server killed", "ovs-vswitchd killed")
    name = daemons[number // 5 % 2] if number % 5 == 4 else ""
    candidates = [
        fault for fault in CATALOGUE
        if fault.on(site) and (fault.name == name if name else fault.name not in daemons)
    ]  # fmt: skip
    rng.choice(candidates).strike(site, rng)
    if number % 5 == 2:
        agent.reload()
    return len(lines) + 2 * FLOWS + ROWS


def test_idle_it_takes_no_processor_time(kept: tuple[Site, Agent], record_property: Record) -> None:
    """Between two reconciles the agent takes no time that the kernel counts."""
    site, agent = kept
    seconds = 15.0

    assert eventually(lambda: rests(agent.pid, 1.0), seconds=DEADLINE)
    ticks, fine = processor_seconds(agent.pid), processor_microseconds(agent.pid)
    time.sleep(seconds)  # the measured window, shorter than the minute between two resyncs
    ticks = processor_seconds(agent.pid) - ticks
    fine = processor_microseconds(agent.pid) - fine
    said = f"{ticks * 1000:.0f} ms counted, {fine:.0f} µs run in {seconds:.0f} s"
    record_property("table", f"idle, {site.shape}: {said}")
    assert ticks <= 0.02
