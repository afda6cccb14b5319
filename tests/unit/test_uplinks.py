"""Which devices are below the underlay's, and which events of them are failovers."""

from __future__ import annotations

from dataclasses import replace

from ovs_mcast.core.items import Port
from ovs_mcast.core.observed import Link
from ovs_mcast.core.uplinks import Carriers, below


def links(*shown: Link) -> dict[str, Link]:
    return {link.name: link for link in shown}


def link(name: str, master: str = "", lower: str = "", kind: str = "") -> Link:
    return Link(name, 1500, "", True, kind=kind, master=master, lower=lower)


def ports(*shown: Port) -> dict[str, Port]:
    return {port.name: port for port in shown}


def test_a_vlan_on_a_bridge_on_a_bond() -> None:
    """All links of the bond are below, no other device, and no guest's tap."""
    there = links(
        link("br0.5", lower="br0"), link("br0"), link("bond0", master="br0"),
        link("eth0", master="bond0"), link("eth1", master="bond0"),
        link("tap0", master="br0", kind="tun"), link("eth2"), link("eth3", master="br1"),
    )  # fmt: skip
    assert below("br0.5", there, {}) == {"br0.5", "br0", "bond0", "eth0", "eth1"}


def test_a_bridge_of_open_vswitch() -> None:
    """The ports of the bridge are below it, those of a bond too, and of no other bridge."""
    rows = ports(
        Port("br-phy", "bond0", "", members=("eth0", "eth1"), bond_mode="active-backup"),
        Port("br-phy", "vtep0", "internal"), Port("br-int", "eth2", ""),
        Port("br-phy", "vx", "vxlan"),
    )  # fmt: skip
    wanted = {"bond0", "eth0", "eth1"}
    assert below("br-phy", links(link("br-phy")), rows) == {"br-phy", *wanted}
    assert below("vtep0", links(link("vtep0")), rows) == {"vtep0", *wanted}


def test_patch_ports_lead_to_the_bridge_with_the_nic() -> None:
    """The VTEP's bridge has a patch port to another, whose bond fails over."""
    rows = ports(
        Port("br-vtep", "to-ex", "patch", (("peer", "to-vtep"),)),
        Port("br-ex", "to-vtep", "patch", (("peer", "to-ex"),)),
        Port("br-ex", "eth0", "system"),
    )
    assert below("br-vtep", {}, rows) == {"br-vtep", "br-ex", "eth0"}


def test_a_carrier_or_an_active_link_that_changes() -> None:
    """A change counts once; a device that is new or gone is no change."""
    eth0, bond = link("eth0"), replace(link("bond0", kind="bond"), active=2)
    carriers = Carriers()
    before = carriers.seeded
    carriers.seed(links(eth0, bond))
    assert (before, carriers.seeded) == (False, True)
    down = replace(eth0, carrier=False)
    assert [carriers.changed(one, gone=False) for one in (eth0, down, down, eth0)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert carriers.changed(replace(bond, active=3), gone=False)
    assert not carriers.changed(link("eth1"), gone=False)
    assert not carriers.changed(down, gone=True)
    assert not carriers.changed(eth0, gone=False)
