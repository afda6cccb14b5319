"""A campaign of faults at random: whatever happens to a host, the overlay is as it was, and works.

h1 … h4 (userspace datapath, a method each) ─┐ workload ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0
h5 … h8 (dummy, a method each) ──────────────┤ state alone
l1 (Linux vxlan, a device per segment) ──────┘ switch

The environment sets OVS_MCAST_FAULTS (500; kernel's datapath: 50), OVS_MCAST_SEED, which is else
drawn and always reported, OVS_MCAST_AT_ONCE (4), the hosts that are damaged at a time, and
OVS_MCAST_FAULT, a part of the names of the only faults that are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

import pytest

from ovs_mcast.lab import Kind, Lab
from tests.functional.campaign import course, results
from tests.functional.campaign.repairers import Agent, Repairer, Setup
from tests.functional.campaign.site import FAR, Shape, Site
from tests.functional.warm import Warm
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.campaign.summary")

SEED = int(os.environ.get("OVS_MCAST_SEED", SystemRandom().randrange(10**6)))
Record = Callable[[str, object], None]
ONLY = os.environ.get("OVS_MCAST_FAULT", "")
AT_ONCE = int(os.environ.get("OVS_MCAST_AT_ONCE", "4"))
SHAPES = {
    "netdev": (
        Shape("netdev", "autojoin"),
        Shape("netdev", "repaired"),
        Shape("netdev", "socket"),
        Shape("netdev", "auto"),
        Shape("dummy", "peer"),
        Shape("dummy", "autojoin"),
        Shape("dummy", "repaired", 6),
        Shape("dummy", "socket", 6),
    ),
    "kernel": (
        Shape("kernel", "auto"),
        Shape("kernel", "repaired"),
        Shape("kernel", "peer"),
        Shape("kernel", "socket", 6),
    ),
}


@pytest.fixture
def faults(kind: Kind) -> int:
    """How many there are to be; fewer in the virtual machine, where all is slow."""
    return int(os.environ.get("OVS_MCAST_FAULTS", {"netdev": 500, "kernel": 50}[kind]))


@pytest.fixture
def sites(kind: Kind) -> Iterator[list[Site]]:
    """A host of each shape, with foreign things on it, and no overlay yet."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        far = lab.add_linux_host(addresses=FAR)
        yield [
            stack.enter_context(Site(lab, shape, number, far))
            for number, shape in enumerate(SHAPES[kind], 1)
        ]


@pytest.mark.either_datapath
@pytest.mark.timeout(1800)
def test_the_agent_repairs_every_fault(
    sites: list[Site], warm: Warm, kind: Kind, faults: int, tmp_path: Path, record_property: Record
) -> None:
    """After each of hundreds of faults the agent, by itself, makes the host as it was before it."""
    setups = [Setup(site, site.configuration(tmp_path), warm) for site in sites]
    forked = warm if kind == "kernel" else None
    agents = [Agent(site, site.configuration(tmp_path), forked) for site in sites]
    campaign = results.Campaign("the agent", SEED)
    with ExitStack() as stack:
        for agent in agents:
            agent.start()
            stack.callback(agent.close)
        for setup in setups:
            assert eventually(setup.is_built, seconds=course.DEADLINE), str(setup)
        _run(campaign, list(zip(sites, agents, strict=True)), faults, record_property)
    assert [str(setup) for setup in setups if not setup.is_built()] == []


@pytest.mark.timeout(900)
def test_setup_repairs_faults(
    sites: list[Site], warm: Warm, faults: int, tmp_path: Path, record_property: Record
) -> None:
    """After each fault, which is seen to do damage, one run of setup makes all as it was."""
    setups = [Setup(site, site.configuration(tmp_path), warm) for site in sites]
    for setup in setups:
        setup.start()
    campaign = results.Campaign("setup after each fault", SEED)
    _run(
        campaign,
        list(zip(sites, setups, strict=True)),
        faults // 5,
        record_property,
        effective=True,
    )


def _run(
    campaign: results.Campaign,
    on_trial: Sequence[tuple[Site, Repairer]],
    faults: int,
    record_property: Record,
    *,
    effective: bool = False,
) -> None:
    course.run(campaign, on_trial, faults, at_once=AT_ONCE, only=ONLY, effective=effective)
    record_property("table", str(campaign))
    assert not campaign.failures, f"seed {SEED}\n" + "\n".join(map(str, campaign.failures))
