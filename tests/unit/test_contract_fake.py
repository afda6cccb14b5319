"""The contract of a Host, on the machine in memory alone."""

from __future__ import annotations

import pytest

from ovs_mcast.core.fields import Datapath
from ovs_mcast.testing import HAPPENINGS
from tests.contract.happenings import SCRIPTS
from tests.contract.subjects import Fake
from tests.contract.suite import *  # noqa: F403


@pytest.fixture
def both(datapath: Datapath) -> Fake:
    """The fake alone."""
    device = "br-phy" if datapath == "netdev" else "eth0"
    addresses = ["10.0.0.1/24", "fd00::1/64"]
    return Fake(datapath, device, addresses, "02:00:00:00:00:01")


def test_every_happening_has_a_real_counterpart() -> None:
    """Each happening of a FakeHost is a script on a real host, or done by the lab itself."""
    by_the_lab = {"vswitchd-restarts", "keeper-killed"}
    assert SCRIPTS.keys() | by_the_lab == set(HAPPENINGS)
    assert not SCRIPTS.keys() & by_the_lab
