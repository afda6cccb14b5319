"""What a machine refuses before it is touched, what it warns of, and what is seen afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core import ownership
from ovs_mcast.core.health import faults, send_path, warnings
from ovs_mcast.core.items import Address, Bridge, Item, Port, Route
from ovs_mcast.core.model import Overlay, Segment, Underlay
from ovs_mcast.core.observed import Limits, Link, Observed, RoutePath
from ovs_mcast.core.plan import expected_flows, plan
from ovs_mcast.core.preflight import refuse
from ovs_mcast.core.target import tentative_vtep, vtep_of
from ovs_mcast.errors import ConfigurationError

from .simulate import after, gone_down, having, looked_at, without
from .strategies import RIVAL, Scene, bare_machine, built, scenes

MINE = ownership.metric("default")
THEIRS = ownership.metric(RIVAL)
G1, G2 = "239.0.0.1", "239.0.0.2"


def overlay_of(
    *groups: str, device: str = "eth0", vtep: str | None = None, udp_port: int = 4789,
    membership: str = "autojoin", **values: Any,
) -> Overlay:  # fmt: skip
    return Overlay(
        underlay=Underlay(device=device, vtep=vtep, udp_port=udp_port),
        segments=[Segment(vni=vni, group=group) for vni, group in enumerate(groups, 100)],
        membership=membership,
        **values,
    )


ONE = overlay_of(G1)
USERSPACE = overlay_of(G1, device="br-phy", datapath="netdev")


def linked(*links: Link) -> Observed:
    machine = bare_machine()
    return replace(machine, links={**machine.links, **{link.name: link for link in links}})


def on(*items: Item) -> Observed:
    return having(bare_machine(), *items)


def vxlan(
    name: str = "vx", bridge: str = "br-phy", owner: str | None = None, **options: str
) -> Port:
    return Port(bridge, name, "vxlan", tuple(sorted(options.items())), owner=owner)


def group_address(group: str, device: str = "eth0", *, autojoin: bool = True,
                  metric: int | None = None, protocol: int | None = None) -> Address:  # fmt: skip
    return Address(device, group, 32, autojoin, metric, protocol=protocol)


REFUSED: list[tuple[str, Overlay, Observed, str, str]] = [
    ("IPv6 groups", overlay_of("ff05::1"), on(), "membership", "IPv6"),
    ("IPv6 pool", Overlay(underlay=Underlay(device="eth0"), groups="ff05::/64",
                          membership="autojoin"), on(), "membership", "IPv6"),
    ("no such device", overlay_of(G1, device="eth9"), on(), "underlay.device", "eth9"),
    ("no address", overlay_of(G1, device="eth9"), linked(Link("eth9", 1500, "", True)),
     "underlay.vtep", "eth9 has no IPv4 address"),
    ("not its address", overlay_of(G1, vtep="10.1.0.1"), on(), "underlay.vtep", "10.1.0.1"),
    ("device not a bridge", overlay_of(G1, datapath="netdev"), on(), "underlay.device",
     "eth0 is not a bridge"),
    ("NIC and not its bridge", overlay_of(G1, device="nic-br-phy", datapath="netdev"), on(),
     "underlay.device", "br-phy"),
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
    """A refusal comes before any change, names the field, and says what is in the way."""
    with pytest.raises(ConfigurationError) as raised:
        plan(overlay, machine)
    assert raised.value.field == field
    assert says in raised.value.reason
    assert expected_flows(overlay, machine) == ()


ACCEPTED: list[tuple[str, Overlay, Observed]] = [
    ("nothing there", ONE, on()),
    ("userspace", USERSPACE, on()),
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


def test_an_overlay_whose_marks_are_taken_is_refused() -> None:
    """Two names can have one number; the second cannot tell its own from the first's."""
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


# The outer source


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
    assert vtep_of(ONE, machine) == IPAddress("10.0.0.1")
    assert vtep_of(overlay_of(G1, vtep="10.0.0.9"), machine) == IPAddress("10.0.0.9")
    six = overlay_of("ff05::1")
    assert vtep_of(six, machine) == IPAddress("fd00::1")
    assert refuse(ONE, machine) == IPAddress("10.0.0.1")


@pytest.mark.parametrize("vtep", ["239.0.0.9", "fe80::1"])
def test_an_address_that_cannot_be_an_outer_source_is_none(vtep: str) -> None:
    """A device with a group's or a link-local address alone has nothing to send from."""
    machine = replace(on(), addresses=(Address("eth0", vtep, 32),))
    with pytest.raises(ConfigurationError, match="no IPv"):
        vtep_of(overlay_of("ff05::1" if ":" in vtep else G1), machine)


def with_v6(*addresses: Address) -> Observed:
    return replace(on(), addresses=(*addresses, *on().addresses))


V6_ONE = "ff05::1"


def test_an_ipv6_source_that_stays_comes_before_one_that_passes() -> None:
    """Deprecated and temporary addresses are taken last, duplicates never, tentative ones too."""
    passing = Address("eth0", "fd00::1", 64, passing=True)
    duplicate = Address("eth0", "fd00::2", 64, duplicate=True)
    tentative = Address("eth0", "fd00::3", 64, tentative=True)
    wanted = overlay_of(V6_ONE)
    assert vtep_of(wanted, with_v6(passing, duplicate, tentative)) == IPAddress("fd00::3")
    assert vtep_of(wanted, with_v6(passing, duplicate)) == IPAddress("fd00::1")
    with pytest.raises(ConfigurationError, match="link-local"):
        vtep_of(wanted, with_v6(duplicate))
    named = overlay_of(V6_ONE, vtep="fd00::2")
    with pytest.raises(ConfigurationError, match="another host has fd00::2 too"):
        vtep_of(named, with_v6(passing, duplicate))
    assert vtep_of(overlay_of(V6_ONE, vtep="fd00::1"), with_v6(passing)) == IPAddress("fd00::1")


def test_a_tentative_source_is_said_to_be_one() -> None:
    """While detection goes on, on a link that is up; other addresses and devices do not count."""
    tentative = Address("eth0", "fd00::3", 64, tentative=True)
    sure = Address("eth0", "fd00::4", 64)
    elsewhere = Address("eth1", "fd00::4", 64, tentative=True)
    wanted = overlay_of(V6_ONE, vtep="fd00::3")
    assert tentative_vtep(wanted, with_v6(tentative, sure)) == IPAddress("fd00::3")
    assert tentative_vtep(overlay_of(V6_ONE, vtep="fd00::4"), with_v6(sure, elsewhere)) is None
    assert tentative_vtep(overlay_of(G1), with_v6(tentative)) is None
    assert tentative_vtep(wanted, with_v6(sure)) is None
    down = with_v6(tentative)
    down = replace(down, links={**down.links, "eth0": replace(down.links["eth0"], up=False)})
    assert tentative_vtep(wanted, down) is None


# What autojoin may hold


def limited(igmp: int | None, optmem: int | None, *items: Item) -> Observed:
    return replace(on(*items), limits=Limits(igmp, optmem))


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
    """New groups and every autojoin address of the namespace, whoever's, count together."""
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
    with pytest.raises(ConfigurationError, match=r"20 more .* are 40 .*the 20 that go"):
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


# Warnings


@pytest.mark.parametrize(
    ("mtu", "warned"), [(1500, True), (1549, True), (1550, False), (9000, False)]
)
def test_a_small_mtu_is_a_warning(mtu: int, warned: bool) -> None:
    """Below 1550 an IPv4 underlay leaves the overlay less than 1500; it works all the same."""
    machine = linked(Link("eth0", mtu, "", True))
    found = warnings(ONE, machine)
    assert [str(mtu - 50) in warning for warning in found] == [True] * warned
    assert plan(ONE, machine)


@pytest.mark.parametrize(("mtu", "warned"), [(1569, True), (1570, False)])
def test_an_ipv6_underlay_needs_twenty_octets_more(mtu: int, warned: bool) -> None:
    """The outer IPv6 header is 40 octets."""
    found = warnings(overlay_of("ff05::1"), linked(Link("eth0", mtu, "", True)))
    assert len(found) == warned


BIG = Link("eth0", 9000, "", True)


def test_what_is_worth_a_sentence() -> None:
    """Ethernet aliases, mesh ports, and guests on the tunnel bridge; nothing without them."""
    quiet = linked(BIG)
    assert warnings(ONE, quiet) == []
    [aliases] = warnings(overlay_of(G1, "239.128.0.1"), quiet)
    assert "01:00:5e:00:00:01" in aliases
    mesh = having(quiet, vxlan("mesh", remote_ip="10.0.0.7", key="flow"))
    [taken] = warnings(ONE, mesh)
    assert "mesh on br-phy" in taken
    assert "10.0.0.7" in taken
    guest = having(built(ONE, quiet), Port("br-mcast", "tap0", "internal"))
    [unserved] = warnings(ONE, guest)
    assert "tap0 on br-mcast" in unserved


def test_a_mesh_port_elsewhere_is_not_worth_one() -> None:
    """Another UDP port or VNI does not meet ours."""
    for options in ({"dst_port": "4790", "key": "flow"}, {"key": "7"}, {}):
        port = vxlan("mesh", remote_ip="10.0.0.7", **options)
        assert warnings(ONE, having(linked(BIG), port)) == []


# What is seen afterwards


def seen(overlay: Overlay = ONE) -> Observed:
    """The machine with the overlay, as it is seen when all is well."""
    return looked_at(built(overlay, bare_machine()), overlay.underlay.device)


VXLAN = f"vxlan-{ownership.suffix('default')}"


def with_port(name: str, **values: object) -> Observed:
    machine = seen()
    port = replace(machine.ports[name], **values)  # type: ignore[arg-type]
    return replace(machine, ports={**machine.ports, name: port})


@pytest.mark.parametrize("overlay", [ONE, USERSPACE, overlay_of(), overlay_of(G1, G2)])
def test_where_all_is_well_there_is_no_fault(overlay: Overlay) -> None:
    """Ports, memberships and look-ups as they should be are no faults."""
    assert faults(overlay, seen(overlay)) == []


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        pytest.param(with_port(VXLAN, error="File exists", ofport=-1), "File exists", id="error"),
        pytest.param(with_port(VXLAN, ofport=None), VXLAN, id="no-ofport"),
        pytest.param(with_port(VXLAN, ofport=-1), VXLAN, id="ofport-refused"),
        pytest.param(with_port(VXLAN, ofport=0), VXLAN, id="ofport-zero"),
        pytest.param(with_port(VXLAN, ofport=7), "7", id="ofport-not-as-requested"),
        pytest.param(
            with_port(f"patch-int-{ownership.suffix('default')}", ofport=2), "2", id="patch"
        ),
        pytest.param(
            with_port(f"patch-tun-{ownership.suffix('default')}", ofport=-1), "patch-tun", id="peer"
        ),
        pytest.param(
            with_port(f"patch-tun-{ownership.suffix('default')}", ofport=None),
            "patch-tun",
            id="unseen",
        ),
        pytest.param(replace(seen(), joined=frozenset()), f"not a member of {G1}", id="joined"),
        pytest.param(
            replace(seen(), joined=frozenset({G2, "224.0.0.1"})),
            f"member of {G1}",
            id="joined-other",
        ),
        pytest.param(replace(seen(), tunnels={}), G1, id="no-way"),
        pytest.param(replace(seen(), tunnels={G1: RoutePath(None)}), G1, id="no-route"),
        pytest.param(replace(seen(), tunnels={G1: RoutePath("lo", G1)}), "lo", id="hijacked"),
        pytest.param(replace(seen(), tunnels={G1: RoutePath("eth1")}), "eth1", id="elsewhere"),
        pytest.param(gone_down(seen(), "eth0"), "eth0 is down", id="down"),
    ],
)
def test_each_fault_is_reported(machine: Observed, says: str) -> None:
    """Law 6: one thing that is not seen as it should be is one fault, and says which."""
    [fault] = faults(ONE, machine)
    assert says in fault


@pytest.mark.parametrize("way", [None, RoutePath(None), RoutePath("lo", G1), RoutePath("br-phy2")])
def test_a_fault_of_the_userspace_tunnels_way(way: RoutePath | None) -> None:
    """Law 6: Open vSwitch's own route table says where the userspace datapath sends."""
    machine = replace(seen(USERSPACE), tunnels={} if way is None else {G1: way})
    [fault] = faults(USERSPACE, machine)
    assert G1 in fault


def test_faults_of_others_are_theirs() -> None:
    """A port of somebody else that is broken, or of another overlay, is not our fault."""
    broken = replace(vxlan("theirs", remote_ip="10.0.0.9", key="7"), error="no such device")
    machine = seen()
    rival = replace(broken, name="rival", owner=RIVAL)
    ports = {**machine.ports, "theirs": broken, "rival": rival}
    assert faults(ONE, replace(machine, ports=ports)) == []


@pytest.mark.parametrize(
    ("protocol", "fault"), [(ownership.PROTOCOL, True), (None, True), (4, False)]
)
def test_only_our_own_addresses_are_waited_for(protocol: int | None, fault: bool) -> None:
    """Duplicate address detection of a group's address that is a stranger's is not our fault."""
    address = Address("eth0", "ff05::9", 128, True, MINE, protocol=protocol, tentative=True)
    machine = seen()
    found = faults(ONE, replace(machine, addresses=(*machine.addresses, address)))
    assert [str(address.address) in line for line in found] == [True] * fault


@given(scenes(), st.data())
def test_no_group_is_verified_that_was_not_seen_joined(scene: Scene, data: st.DataObject) -> None:
    """Law 6: on any machine, each group that is not seen joined is a fault, and no other."""
    overlay, device = scene.overlay, scene.overlay.underlay.device
    try:
        machine = looked_at(after(scene.machine, plan(overlay, scene.machine)), device)
    except ConfigurationError:
        assume(False)
    if machine.links[device].up:
        assert faults(overlay, machine) == []
    groups = list(map(str, overlay.flood_groups))
    lost = set(data.draw(st.lists(st.sampled_from(groups), unique=True))) if groups else set()
    unseen = replace(machine, joined=machine.joined - lost)
    new = [fault for fault in faults(overlay, unseen) if fault not in faults(overlay, machine)]
    assert sorted(new) == sorted(f"{device} is not a member of {group}" for group in lost)


@pytest.mark.parametrize(
    ("way", "verdict"),
    [
        (RoutePath("eth0", "10.0.0.1"), "wire"),
        (RoutePath("eth0"), "wire"),
        (RoutePath("lo", G1), "loopback"),
        (RoutePath("eth1"), "none"),
        (RoutePath(None), "none"),
        (None, "none"),
    ],
)
def test_where_an_ordinary_program_sends(way: RoutePath | None, verdict: str) -> None:
    """To the underlay's device is the wire, lo is loopback; elsewhere or nowhere is none."""
    machine = replace(seen(), sends={} if way is None else {G1: way})
    assert send_path(ONE, machine, IPAddress(G1)) == verdict


def test_a_lost_bridge_is_not_verified() -> None:
    """Law 6: what is missing altogether is no fault of a port, and the plan says it."""
    machine = without(seen(), seen().bridges["br-mcast"])
    assert any("missing" in str(change) for change in plan(ONE, machine))
