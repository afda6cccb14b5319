"""The contract of a Host, on a real host and on the fake at once: neither drifts from the other.

h: br-int ═ br-mcast ─ vxlan      (br-phy ─) eth0 ─ switch
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_mcast.core.fields import Datapath
from ovs_mcast.lab import Kind, Lab
from tests.contract.steps import Outcome
from tests.contract.subjects import Both, Fake, Real
from tests.contract.suite import *  # noqa: F403

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")


class Pairs:
    """Machines of each datapath, used again as long as a test leaves the real one as it was."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._there: dict[str, tuple[Real, list[str], Outcome]] = {}

    def take(self, datapath: Datapath) -> Both:
        """A host that is as new, and a fake with its addresses."""
        if datapath in self._there:
            real, addresses, pristine = self._there[datapath]
            if real.undo() and real.step("plan_teardown", "default") == pristine:
                return self._pair(datapath, real, addresses)
            self._end(real)
        number = len(self._lab.hosts) + 1
        addresses = [f"10.0.0.{number}/24", f"fd00::{number:x}/64"]
        kind: Kind = "netdev" if datapath == "netdev" else "dummy"
        real = Real(self._lab.add_host(kind=kind, addresses=addresses))
        self._there[datapath] = real, addresses, real.step("plan_teardown", "default")
        return self._pair(datapath, real, addresses)

    def close(self) -> None:
        """End them."""
        for real, _addresses, _pristine in self._there.values():
            self._end(real)

    @staticmethod
    def _pair(datapath: Datapath, real: Real, addresses: list[str]) -> Both:
        device = real.host.underlay
        mac = real.host.path(f"/sys/class/net/{device}/address").read_text().strip()
        return Both(Fake(datapath, device, addresses, mac), real)

    @staticmethod
    def _end(real: Real) -> None:
        real.close()
        real.host.close()


@pytest.fixture(scope="module")
def pairs() -> Iterator[Pairs]:
    """The machines of all of them."""
    with Lab() as lab:
        pairs = Pairs(lab)
        yield pairs
        pairs.close()


@pytest.fixture
def both(pairs: Pairs, datapath: Datapath) -> Both:
    """A host of the lab, and the fake that is to be like it."""
    return pairs.take(datapath)
