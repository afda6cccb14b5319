"""An overlay resolved on one host: its outer source, its method, what is foreign."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from ovs_mcast.core.items import Address
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import Observed
from ovs_mcast.core.preflight import check
from ovs_mcast.core.target import tentative_vtep, vtep_of
from ovs_mcast.errors import ConfigurationError, UnavailableError

from .hosts import G1, ONE, on, overlay_of, with_v6


def tentative(overlay: Overlay, host: Observed) -> IPAddress | None:
    link = host.links.get(overlay.underlay.device)
    return tentative_vtep(overlay, host.addresses, link)


def test_the_outer_source_is_the_first_address_of_the_family() -> None:
    """Groups, link-local and IPv6 addresses before it are passed over, those of others too."""
    machine = on()
    more = (
        Address("eth0", "fe80::1", 64),
        Address("eth0", "fd00::1", 64),
        Address("eth1", "10.9.9.9", 24),
        Address("eth0", "239.0.0.9", 32, True),
    )
    machine = replace(machine, addresses=(*more, *machine.addresses))
    assert vtep_of(ONE, machine.addresses) == IPAddress("10.0.0.1")
    assert vtep_of(overlay_of(G1, vtep="10.0.0.9"), machine.addresses) == IPAddress("10.0.0.9")
    six = overlay_of("ff05::1")
    assert vtep_of(six, machine.addresses) == IPAddress("fd00::1")
    assert check(ONE, machine).vtep == IPAddress("10.0.0.1")


@pytest.mark.parametrize("vtep", ["239.0.0.9", "fe80::1"])
def test_an_address_that_cannot_be_an_outer_source_is_none(vtep: str) -> None:
    """A device with a group's or a link-local address alone has nothing to send from."""
    machine = replace(on(), addresses=(Address("eth0", vtep, 32),))
    with pytest.raises(UnavailableError, match="no IPv"):
        vtep_of(overlay_of("ff05::1" if ":" in vtep else G1), machine.addresses)


V6_ONE = "ff05::1"


def test_an_ipv6_source_that_stays_comes_before_one_that_passes() -> None:
    """Deprecated and temporary addresses are taken last, duplicates never, tentative ones too."""
    passing = Address("eth0", "fd00::1", 64, passing=True)
    duplicate = Address("eth0", "fd00::2", 64, duplicate=True)
    tentative = Address("eth0", "fd00::3", 64, tentative=True)
    wanted = overlay_of(V6_ONE)
    assert vtep_of(wanted, with_v6(passing, duplicate, tentative).addresses) == IPAddress("fd00::3")
    assert vtep_of(wanted, with_v6(passing, duplicate).addresses) == IPAddress("fd00::1")
    with pytest.raises(UnavailableError, match="link-local"):
        vtep_of(wanted, with_v6(duplicate).addresses)
    named = overlay_of(V6_ONE, vtep="fd00::2")
    with pytest.raises(ConfigurationError, match="another host has fd00::2 too"):
        vtep_of(named, with_v6(passing, duplicate).addresses)
    assert vtep_of(overlay_of(V6_ONE, vtep="fd00::1"), with_v6(passing).addresses) == IPAddress(
        "fd00::1"
    )


def test_a_tentative_source_is_said_to_be_one() -> None:
    """While detection goes on, on a link that is up; other addresses and devices do not count."""
    unsure = Address("eth0", "fd00::3", 64, tentative=True)
    sure = Address("eth0", "fd00::4", 64)
    elsewhere = Address("eth1", "fd00::4", 64, tentative=True)
    wanted = overlay_of(V6_ONE, vtep="fd00::3")
    assert tentative(wanted, with_v6(unsure, sure)) == IPAddress("fd00::3")
    assert tentative(overlay_of(V6_ONE, vtep="fd00::4"), with_v6(sure, elsewhere)) is None
    assert tentative(overlay_of(G1), with_v6(unsure)) is None
    assert tentative(wanted, with_v6(sure)) is None
    down = with_v6(unsure)
    down = replace(down, links={**down.links, "eth0": replace(down.links["eth0"], up=False)})
    assert tentative(wanted, down) is None
