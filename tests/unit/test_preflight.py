"""Preflight: refusals of a host before anything is touched, and what it accepts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from ovs_mcast.core import ownership
from ovs_mcast.core.items import Address, Bridge, Port, Route
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Limits, Link, Observed
from ovs_mcast.core.plan import expected_flows, plan
from ovs_mcast.core.preflight import findings
from ovs_mcast.core.udp_port import UNSEEN
from ovs_mcast.errors import ConfigurationError, UnavailableError

from .hosts import (
    G1,
    G2,
    MINE,
    ONE,
    THEIRS,
    USERSPACE,
    group_address,
    limited,
    linked,
    on,
    overlay_of,
    vxlan,
)
from .scenes import Scene, scenes
from .strategies import RIVAL, built


def enslaved(kind: str) -> Observed:
    """eth0 with its address, and with a master of this kind."""
    return linked(
        Link("m0", 1500, "02:00:00:00:00:0a", True, kind),
        Link("eth0", 1500, "02:00:00:00:00:01", True, master="m0"),
    )


def internal(datapath: str, ofport: int) -> Observed:
    """An internal port vtep0, with an address, on a bridge br-sys of this datapath."""
    rows = on(Bridge("br-sys", datapath))
    return replace(
        rows,
        ports={**rows.ports, "vtep0": Port("br-sys", "vtep0", "internal", ofport=ofport)},
        links={**rows.links, "vtep0": Link("vtep0", 1600, "02:00:00:00:00:0b", True)},
        addresses=(*rows.addresses, Address("vtep0", "10.1.0.1", 24)),
    )


REFUSED: list[tuple[str, Overlay, Observed, str, str]] = [
    ("IPv6 groups", overlay_of("ff05::1"), on(), "membership", "IPv6"),
    ("IPv6 pool", Overlay(underlay=Underlay(device="eth0"), groups="ff05::/64",
                          membership="autojoin"), on(), "membership", "IPv6"),
    ("no such device", overlay_of(G1, device="eth9"), on(), "underlay.device", "eth9"),
    ("not its address", overlay_of(G1, vtep="10.1.0.1"), on(), "underlay.vtep", "10.1.0.1"),
    ("port of a Linux bridge", ONE, enslaved("bridge"), "underlay.device", "name m0"),
    ("port of a bond", ONE, enslaved("bond"), "underlay.device", "eth0 is a port of m0"),
    ("port of a bridge of Open vSwitch", ONE,
     on(Bridge("br-x", "system"), Port("br-x", "eth0", "")), "underlay.device", "name br-x"),
    ("device not a bridge", overlay_of(G1, datapath="netdev"), on(), "underlay.device",
     "eth0 is not a bridge"),
    ("NIC and not its bridge", overlay_of(G1, device="nic-br-phy", datapath="netdev"), on(),
     "underlay.device", "br-phy"),
    ("internal port of the other datapath", overlay_of(G1, device="vtep0", datapath="netdev"),
     internal("system", 1),
     "underlay.device", "br-sys is on the system datapath"),
    ("internal port that failed", overlay_of(G1, device="vtep0", datapath="netdev"),
     internal("netdev", -1), "underlay.device", "vtep0 on br-sys has no OpenFlow port"),
    ("a bond that delivers copies", USERSPACE,
     on(Port("br-phy", "bond0", "", bond_mode="balance-slb")), "underlay.device",
     "bond0, a port of br-phy, is a bond in mode balance-slb"),
    ("bridge of the other datapath", overlay_of(G1, device="br-sys", datapath="netdev"),
     on(Bridge("br-sys", "system")), "underlay.device", "system"),
    ("br-int of the other datapath", ONE, on(Bridge("br-int", "netdev")), "datapath", "br-int"),
    ("tunnel bridge of others", ONE, on(Bridge("br-mcast", "system")), "tunnel_bridge",
     "not ours"),
    ("tunnel bridge of another overlay", ONE, on(Bridge("br-mcast", "system", "secure", RIVAL)),
     "tunnel_bridge", RIVAL),
    ("bridge is another's tunnel bridge", ONE, on(Bridge("br-int", "system", "secure", RIVAL)),
     "bridge", RIVAL),
    ("bridge has the name of a Linux device", ONE, linked(Link("br-int", 1500, "", True, "bridge")),
     "bridge", "br-int"),
    ("tunnel bridge has the name of a Linux device", ONE,
     linked(Link("br-mcast", 1500, "", True, "dummy")), "tunnel_bridge", "br-mcast"),
    ("bridge has the name of a port", ONE, on(Port("br-phy", "br-int", "internal")), "bridge",
     "br-int"),
    ("group of another overlay, held by others", USERSPACE,
     on(group_address(G1, "br-phy"), Route("br-phy", G1, "10.2.0.1", THEIRS, protocol=109)),
     "segments", G1),
    ("port with our name", ONE, on(vxlan(f"vxlan-{ownership.suffix('default')}", key="1")), "name",
     "is not ours"),
    ("flow-based port", ONE, on(vxlan(remote_ip="flow", key="flow")), "underlay.udp_port",
     "vx on br-phy"),
    ("flow-based port, port named", ONE, on(vxlan(remote_ip="flow", key="flow", dst_port="4789")),
     "underlay.udp_port", "vx on br-phy"),
    ("flow-based port, our key", ONE, on(vxlan(remote_ip="flow", key="100")), "underlay.udp_port",
     "vx on br-phy"),
    ("flow-based port, key left out", overlay_of(), on(vxlan(remote_ip="flow", in_key="flow")),
     "underlay.udp_port", "vx on br-phy"),
    ("flow-based port of another overlay", ONE,
     on(vxlan(remote_ip="flow", key="flow", owner=RIVAL)), "underlay.udp_port", "vx on br-phy"),
    ("flow-based port, port written in another way", ONE,
     on(vxlan(remote_ip="flow", key="flow", dst_port="04789")), "underlay.udp_port",
     "vx on br-phy"),
    ("flow-based port, port beyond 65535", ONE,
     on(vxlan(remote_ip="flow", key="flow", dst_port=str(4789 + 65536))), "underlay.udp_port",
     "vx on br-phy"),
    ("flow-based port, our key in hexadecimal", ONE, on(vxlan(remote_ip="flow", key="0x64")),
     "underlay.udp_port", "vx on br-phy"),
    ("flow-based port, our key in octal", ONE, on(vxlan(remote_ip="flow", key="0144")),
     "underlay.udp_port", "vx on br-phy"),
    ("a program", ONE, replace(on(), udp_holders=("process 7 (iperf)",)), "underlay.udp_port",
     "process 7 (iperf) holds UDP port 4789"),
    ("a kernel's socket", ONE, replace(on(), udp_holders=(UNSEEN,)), "underlay.udp_port",
     "no process that is seen here"),
    ("Linux vxlan device", ONE, linked(Link("vx0", 1450, "", True, "vxlan", 4789)),
     "underlay.udp_port", "vx0"),
    ("Linux vxlan device, userspace", USERSPACE, linked(Link("vx0", 1450, "", True, "vxlan", 4789)),
     "underlay.udp_port", "vx0"),
    ("group of another overlay", ONE, on(group_address(G1, metric=THEIRS)), "segments", G1),
    ("plain group address", ONE, on(group_address(G1, autojoin=False)), "segments", G1),
    ("plain group address, another prefix", ONE,
     on(group_address(G1, metric=MINE), Address("eth0", G1, 24)), "segments", G1),
    ("plain group address first", ONE,
     on(Address("eth0", G1, 24), group_address(G1, metric=MINE)), "segments", G1),
    ("plain group address, our metric, another's protocol", ONE,
     on(group_address(G1, autojoin=False, metric=MINE, protocol=4)), "segments", "is not ours"),
    ("plain group address, a metric of ours, another's protocol", ONE,
     on(group_address(G1, autojoin=False, metric=THEIRS, protocol=4)), "segments", "is not ours"),
    ("route with our metric", ONE, on(Route("eth0", G1, None, MINE, protocol=4)), "segments", G1),
    ("route with our metric, of a peer of others", ONE,
     on(Address("eth0", G1, 32, True, MINE, local="10.0.0.1", protocol=4),
        Route("eth0", G1, "10.0.0.1", MINE, protocol=2)), "segments", "is not ours"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("overlay", "machine", "field", "says"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED]
)
def test_a_machine_refuses_what_it_cannot_have(
    overlay: Overlay, machine: Observed, field: str, says: str
) -> None:
    """A refusal precedes any change, names the field, and names the obstacle."""
    with pytest.raises(ConfigurationError) as raised:
        plan(overlay, machine)
    assert raised.value.field == field
    assert says in raised.value.reason
    assert expected_flows(overlay, machine) == ()
    first = findings(overlay, machine)[0]
    assert str(raised.value) == str(first.refusal())


@pytest.mark.parametrize(
    ("overlay", "machine", "reason", "device", "says"),
    [
        (overlay_of(G1, device="eth9"), linked(Link("eth9", 1500, "", True)), "device", "eth9",
         "eth9 has no IPv4 address"),
        (ONE, replace(on(), datapath_there=False), "datapath", "", "modprobe openvswitch"),
    ],
)  # fmt: skip
def test_what_a_machine_lacks_for_now_is_tried_again(
    overlay: Overlay, machine: Observed, reason: str, device: str, says: str
) -> None:
    """Nothing is wrong with the configuration: no field is named."""
    with pytest.raises(UnavailableError, match=says) as raised:
        plan(overlay, machine)
    assert (raised.value.reason, raised.value.device) == (reason, device)
    assert expected_flows(overlay, machine) == ()
    assert str(raised.value) == str(findings(overlay, machine)[0].refusal())


ACCEPTED: list[tuple[str, Overlay, Observed]] = [
    ("nothing there", ONE, on()),
    ("userspace", USERSPACE, on()),
    ("userspace, an internal port", overlay_of(G1, device="vtep0", datapath="netdev"),
     internal("netdev", 1)),
    ("userspace, other bonds", USERSPACE,
     on(Port("br-phy", "bond0", "", bond_mode="active-backup"),
        Port("br-phy", "bond1", "", bond_mode="balance-tcp"),
        Bridge("br-x", "netdev"), Port("br-x", "bond2", "", bond_mode="balance-slb"))),
    ("the kernel's datapath, any bond", ONE,
     on(Port("br-phy", "bond0", "", bond_mode="balance-slb"))),
    ("autojoin named", overlay_of(G1, membership="autojoin"), on()),
    ("br-int of others", ONE, on(Bridge("br-int", "system"))),
    ("br-int of another overlay", ONE, on(Bridge("br-int", "system", "", RIVAL))),
    ("our bridges on the other datapath", ONE,
     on(Bridge("br-int", "netdev", "", "default"),
        Bridge("br-mcast", "netdev", "secure", "default"))),
    ("the kernel's carrier", ONE, linked(Link("vxlan_sys_4789", 65000, "", True, "vxlan", 4789))),
    ("Linux vxlan on another port", ONE, linked(Link("vx0", 1450, "", True, "vxlan", 8472))),
    ("mesh port", ONE, on(vxlan(remote_ip="10.0.0.7", key="flow"))),
    ("flow-based port elsewhere", ONE, on(vxlan(remote_ip="flow", key="flow", dst_port="4790"))),
    ("flow-based port of another key", ONE, on(vxlan(remote_ip="flow", key="999"))),
    ("other kind of tunnel", ONE, on(Port("br-phy", "g", "geneve", (("remote_ip", "flow"),)))),
    ("our own flow-based port", ONE,
     on(vxlan(remote_ip="flow", key="flow", owner="default"))),
    ("group joined by others", ONE, on(group_address(G1))),
    ("group joined by others, our metric", ONE, on(group_address(G1, metric=MINE, protocol=4))),
    ("group joined by others, a metric of ours", ONE,
     on(group_address(G1, metric=THEIRS, protocol=4))),
    ("group on another device", ONE, on(group_address(G1, "eth1", autojoin=False))),
    ("other route to the group", ONE, on(Route("eth0", G1, None, 100, protocol=4))),
    ("our route", ONE, on(Route("eth0", G1, "10.0.0.1", MINE, protocol=109))),
    ("our metric on another group", ONE, on(Route("eth0", G2, None, MINE, protocol=4))),
    ("second address named", overlay_of(G1, vtep="10.0.0.9"), on()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("overlay", "machine"), [pytest.param(*row[1:], id=row[0]) for row in ACCEPTED]
)
def test_what_is_in_nobodys_way_is_accepted(overlay: Overlay, machine: Observed) -> None:
    """What others have that can stay as it is does not stop the overlay."""
    assert plan(overlay, machine)
    assert findings(overlay, machine) == []


def test_an_overlay_whose_marks_are_taken_is_refused() -> None:
    """Two names can have one number; the second is refused."""
    first, second = _same_number()
    machine = on(Bridge("br-x", "system", "", first))
    with pytest.raises(ConfigurationError, match=f"marks are those of overlay {first}") as raised:
        plan(Overlay(name=second, underlay=Underlay(device="eth0")), machine)
    assert raised.value.field == "name"


def _same_number() -> tuple[str, str]:
    seen: dict[int, str] = {}
    for index in range(1 << 20):
        name = f"n{index}"
        other = seen.setdefault(ownership.number(name), name)
        if other != name:
            return other, name
    raise AssertionError("nineteen bits are more than they were")


# What autojoin may hold


@pytest.mark.parametrize(
    ("limits", "taken", "groups", "accepted"),
    [
        ((20, 131072), 0, 20, True),
        ((20, 131072), 0, 21, False),
        ((20, 131072), 1, 20, False),
        ((20, 131072), 20, 0, True),
        ((20, 131072), 25, 0, True),
        ((20, 131072), 20, 1, False),
        ((100, 48 * 30), 10, 20, True),
        ((100, 48 * 30 - 1), 10, 20, False),
        ((None, 48 * 30 - 1), 10, 20, False),
        ((None, None), 200, 200, True),
    ],
)
def test_more_groups_than_the_kernel_holds_are_refused(
    limits: tuple[int | None, int | None], taken: int, groups: int, accepted: bool
) -> None:
    """New groups and all autojoin addresses of the namespace count together."""
    held = (group_address(f"239.5.0.{nth}", "eth1") for nth in range(taken))
    machine = limited(*limits, *held)
    overlay = overlay_of(*(f"239.6.0.{nth}" for nth in range(groups)))
    if accepted:
        assert plan(overlay, machine)
        return
    with pytest.raises(ConfigurationError) as raised:
        plan(overlay, machine)
    by_igmp = limits[0] is not None and taken + groups > limits[0]
    need = taken + groups if by_igmp else 48 * (taken + groups)
    sysctl = "net.ipv4.igmp_max_memberships" if by_igmp else "net.core.optmem_max"
    assert sysctl in raised.value.reason
    assert str(need) in raised.value.reason
    assert raised.value.field == "segments"


def test_what_does_not_join_takes_no_slot() -> None:
    """Plain addresses and IPv6 autojoin have no part in the limit; sharing a group has one."""
    plain = [Address("eth1", f"10.1.1.{nth}", 32) for nth in range(9)]
    six = [Address("eth1", f"ff05::{nth}", 128, True) for nth in range(9)]
    assert plan(overlay_of(G1, G1, G1, G2), limited(2, None, *plain, *six))


def test_running_again_at_the_limit_is_not_refused() -> None:
    """An overlay that fills the limit stays as it is, also when the limit was lowered since."""
    overlay = overlay_of(*(f"239.6.0.{nth}" for nth in range(20)))
    machine = built(overlay, limited(20, 131072))
    assert not plan(overlay, machine)
    assert not plan(overlay, replace(machine, limits=Limits(5, 48)))


def test_groups_that_go_hold_their_slots_until_the_last() -> None:
    """Make before break: twenty groups cannot be replaced by others at a limit of twenty."""
    before = overlay_of(*(f"239.6.0.{nth}" for nth in range(20)))
    wanted = overlay_of(*(f"239.7.0.{nth}" for nth in range(20)))
    machine = built(before, limited(20, 131072))
    with pytest.raises(
        ConfigurationError, match=r"20 more .* are 40 .*20 of them are released only afterwards"
    ):
        plan(wanted, machine)
    assert plan(wanted, replace(machine, limits=Limits(40, 131072)))


def test_an_address_that_has_lost_its_autojoin_takes_a_slot_again() -> None:
    """Repairing our own address at a full limit is refused as well, not tried and failed."""
    wrong = group_address(G1, autojoin=False, metric=MINE)
    taken = [group_address(f"239.5.0.{nth}", "eth1") for nth in range(20)]
    with pytest.raises(ConfigurationError, match="igmp_max_memberships=21"):
        plan(ONE, limited(20, None, wrong, *taken))
    assert plan(ONE, limited(21, None, wrong, *taken))


def test_a_limit_names_the_pool_where_there_is_one() -> None:
    """With a pool it is its size that can be changed."""
    overlay = Overlay(
        underlay=Underlay(device="eth0"),
        membership="autojoin",
        groups="239.1.0.0/20",
        segments=[Segment(vni=vni) for vni in range(1, 4)],
    )
    with pytest.raises(ConfigurationError) as raised:
        plan(overlay, limited(2, None))
    assert raised.value.field == "groups"


@given(scenes())
def test_a_refusal_touches_nothing(scene: Scene) -> None:
    """Whatever the machine, planning gives a plan, or one ConfigurationError that has a field."""
    try:
        assert plan(scene.overlay, scene.machine).overlay == scene.overlay.name
    except ConfigurationError as refusal:
        assert refusal.field.split(".")[0] in {*Overlay.model_fields}  # noqa: PT017


@pytest.mark.parametrize("machine", [
    on(Bridge("br-y", "netdev"), Port("br-y", "eth0", "")),
    on(Bridge("br-x", "system"), Port("br-x", "eth0", "internal")),
])  # fmt: skip
def test_a_device_that_keeps_its_frames_is_accepted(machine: Observed) -> None:
    """A bridge of the userspace datapath and an internal port take no frames away."""
    assert findings(ONE, machine) == []


def test_a_device_of_a_vrf_is_refused() -> None:
    """A route of ours would be in another table: the VRF is named, and what to do."""
    [found] = findings(ONE, enslaved("vrf"))
    assert (found.code, found.field) == ("underlay-unfit", "underlay.device")
    assert "eth0 is in VRF m0" in found.evidence


@pytest.mark.parametrize("kind", ["loopback", "dummy", "ipvlan l3", "ipvlan l3s", "ipvlan l2", ""])
def test_a_device_that_carries_no_multicast_is_refused(kind: str) -> None:
    """Devices without a wire, and without Ethernet, are refused by name; others are not."""
    machine = on()
    links = {"eth0": replace(machine.links["eth0"], kind=kind)}
    found = findings(ONE, replace(machine, links=links))
    refused = ["eth0" in one.evidence and "carries no multicast" in one.evidence for one in found]
    assert refused == ([] if kind in {"", "ipvlan l2"} else [True])
