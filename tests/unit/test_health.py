"""Warnings, and faults of an overlay in place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Plan
from ovs_mcast.core.findings import errors
from ovs_mcast.core.health import assess, faults, warnings
from ovs_mcast.core.items import Address, Port
from ovs_mcast.core.model import Overlay
from ovs_mcast.core.observed import ArpSettings, Link, Lookups, Observed, RoutePath
from ovs_mcast.core.plan import plan
from ovs_mcast.core.target import resolve
from ovs_mcast.errors import ConfigurationError

from .hosts import G1, G2, MINE, ONE, USERSPACE, linked, overlay_of, vxlan
from .memory import after, gone_down, having, looked_up, without
from .scenes import Scene, scenes
from .strategies import RIVAL, bare_machine, built


def warned_of(overlay: Overlay, host: Observed) -> list[str]:
    found = list(warnings(resolve(overlay, host)))
    assert errors(found) == []
    return list(map(str, found))


# Warnings


@pytest.mark.parametrize(
    ("mtu", "warned"), [(1500, True), (1549, True), (1550, False), (9000, False)]
)
def test_a_small_mtu_is_a_warning(mtu: int, warned: bool) -> None:
    """Below 1550 an IPv4 underlay leaves the overlay less than 1500; it works all the same."""
    machine = linked(Link("eth0", mtu, "", True))
    found = warned_of(ONE, machine)
    assert [str(mtu - 50) in warning for warning in found] == [True] * warned
    assert plan(ONE, machine)


@pytest.mark.parametrize(("mtu", "warned"), [(1569, True), (1570, False)])
def test_an_ipv6_underlay_needs_twenty_octets_more(mtu: int, warned: bool) -> None:
    """The outer IPv6 header is 40 octets."""
    host = replace(linked(Link("eth0", mtu, "", True)), addresses=(Address("eth0", "fd00::1", 64),))
    found = warned_of(overlay_of("ff05::1"), host)
    assert len(found) == warned


BIG = Link("eth0", 9000, "", True)


def test_what_is_worth_a_sentence() -> None:
    """Ethernet aliases, and guests on the tunnel bridge; nothing without them."""
    quiet = linked(BIG)
    assert warned_of(ONE, quiet) == []
    [aliases] = warned_of(overlay_of(G1, "239.128.0.1"), quiet)
    assert "01:00:5e:00:00:01" in aliases
    guest = having(built(ONE, quiet), Port("br-mcast", "tap0", "internal"))
    [unserved] = warned_of(ONE, guest)
    assert "tap0 on br-mcast" in unserved


# What is seen afterwards


def seen(overlay: Overlay = ONE) -> Observed:
    """Return the host with the overlay, as it is seen when all is well."""
    return built(overlay, bare_machine())


def well(overlay: Overlay = ONE) -> Lookups:
    """Return the look-ups of a healthy overlay."""
    return looked_up(seen(overlay), overlay.underlay.device)


def faults_of(overlay: Overlay, host: Observed, lookups: Lookups | None = None) -> list[str]:
    found = list(faults(resolve(overlay, host), lookups or well(overlay)))
    assert errors(found) == found
    return list(map(str, found))


VXLAN = f"vxlan-{ownership.suffix('default')}"


def with_port(name: str, **values: object) -> Observed:
    machine = seen()
    port = replace(machine.ports[name], **values)  # type: ignore[arg-type]
    return replace(machine, ports={**machine.ports, name: port})


@pytest.mark.parametrize("overlay", [ONE, USERSPACE, overlay_of(), overlay_of(G1, G2)])
def test_where_all_is_well_there_is_no_fault(overlay: Overlay) -> None:
    """A healthy overlay has no faults."""
    assert faults_of(overlay, seen(overlay)) == []


PATCH_END = f"patch-int-{ownership.suffix('default')}"
PATCH_PEER = f"patch-tun-{ownership.suffix('default')}"


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        pytest.param(with_port(VXLAN, error="File exists", ofport=-1), "File exists", id="error"),
        pytest.param(with_port(VXLAN, ofport=None), VXLAN, id="no-ofport"),
        pytest.param(with_port(VXLAN, ofport=-1), VXLAN, id="ofport-refused"),
        pytest.param(with_port(VXLAN, ofport=0), VXLAN, id="ofport-zero"),
        pytest.param(with_port(VXLAN, ofport=7), "7", id="ofport-not-as-requested"),
        pytest.param(with_port(PATCH_END, ofport=2), "2", id="patch"),
        pytest.param(with_port(PATCH_PEER, ofport=-1), "patch-tun", id="peer"),
        pytest.param(with_port(PATCH_PEER, ofport=None), "patch-tun", id="unseen"),
        pytest.param(gone_down(seen(), "eth0"), "eth0 is down", id="down"),
    ],
)
def test_each_fault_of_the_host_is_reported(machine: Observed, says: str) -> None:
    """Each thing that is not observed as it should be is one fault, which names it."""
    [fault] = faults_of(ONE, machine)
    assert says in fault


@pytest.mark.parametrize(
    ("lookups", "says"),
    [
        pytest.param(replace(well(), joined=frozenset()), f"not a member of {G1}", id="joined"),
        pytest.param(
            replace(well(), joined=frozenset({G2, "224.0.0.1"})),
            f"member of {G1}",
            id="joined-other",
        ),
        pytest.param(replace(well(), tunnels={}), G1, id="no-way"),
        pytest.param(replace(well(), tunnels={G1: RoutePath(None)}), G1, id="no-route"),
        pytest.param(replace(well(), tunnels={G1: RoutePath("lo", G1)}), "lo", id="hijacked"),
        pytest.param(replace(well(), tunnels={G1: RoutePath("eth1")}), "eth1", id="elsewhere"),
        pytest.param(
            replace(well(), tunnels={G1: RoutePath("eth0", gateway="10.0.0.9")}), G1, id="gateway"
        ),
        pytest.param(
            replace(well(), peers={"10.2.0.1": RoutePath(None), "10.0.0.2": RoutePath("eth0")}),
            "no route from 10.0.0.1 to peer 10.2.0.1",
            id="peer",
        ),
    ],
)
def test_each_fault_that_is_looked_up_is_reported(lookups: Lookups, says: str) -> None:
    """Each wrong look-up is one fault, which names it."""
    [fault] = faults_of(ONE, seen(), lookups)
    assert says in fault


@pytest.mark.parametrize("way", [None, RoutePath(None), RoutePath("lo", G1), RoutePath("br-phy2")])
def test_a_fault_of_the_userspace_tunnels_way(way: RoutePath | None) -> None:
    """A tunnel of the userspace datapath is checked in Open vSwitch's own route table."""
    lookups = replace(well(USERSPACE), tunnels={} if way is None else {G1: way})
    [fault] = faults_of(USERSPACE, seen(USERSPACE), lookups)
    assert G1 in fault


PEERS = {f"10.2.0.{last}": RoutePath("eth0", gateway="10.0.0.9") for last in (10, 9, 1, 2, 3, 4)}


@pytest.mark.parametrize(("ttl", "named"), [(1, True), (2, False)])
def test_peers_behind_a_gateway_are_beyond_a_ttl_of_one(ttl: int, named: bool) -> None:
    """One fault for each gateway, which names the first peers in order."""
    overlay = ONE.replace(underlay={"device": "eth0", "ttl": ttl})
    lookups = replace(well(overlay), peers={**PEERS, "10.0.0.2": RoutePath("eth0")})
    found = faults_of(overlay, seen(overlay), lookups)
    assert bool(found) == named
    for fault in found:
        assert "6 peers (10.2.0.1, 10.2.0.2, 10.2.0.3, 10.2.0.4, 10.2.0.9, …)" in fault
        assert "gateway 10.0.0.9" in fault


@pytest.mark.parametrize(("device", "lost"), [("br-phy", False), ("eth0", True), (None, True)])
def test_unicast_of_the_userspace_datapath_leaves_by_a_bridge(
    device: str | None, lost: bool
) -> None:
    """A route by a device that Open vSwitch does not have is none for it."""
    lookups = replace(well(USERSPACE), peers={"10.2.0.7": RoutePath(device)})
    found = faults_of(USERSPACE, seen(USERSPACE), lookups)
    assert ["to peer 10.2.0.7" in fault for fault in found] == [True] * lost


# arp_ignore with which Linux answers, by rp_filter and whether the NIC has an address of its own.
ANSWERS = {
    (0, False): {0, 3, 4, 5, 6, 7},
    (0, True): {0, 3, 4, 5, 6, 7},
    (1, False): set(),
    (1, True): set(),
    (2, False): set(),
    (2, True): {0, 3, 4, 5, 6, 7},
}


def linked_too(host: Observed, link: Link) -> Observed:
    return replace(host, links={**host.links, link.name: link})


@pytest.mark.parametrize(("rp_filter", "addressed"), ANSWERS)
@pytest.mark.parametrize("arp_ignore", range(9))
def test_a_nic_that_answers_for_the_vtep(arp_ignore: int, rp_filter: int, addressed: bool) -> None:
    """It is a fault with the sysctl's name, unless it is a tap or has the bridge's MAC."""
    host = seen(USERSPACE)
    nic = replace(host.links["br-phy"], name="nic0", mac="02:00:00:00:00:99")
    host = linked_too(host, nic)
    addresses = [Address("nic0", "10.9.9.9", 24)] * addressed
    host = having(host, Port("br-phy", "nic0", "system"), *addresses)
    lookups = replace(well(USERSPACE), arp={"nic0": ArpSettings(arp_ignore, rp_filter)})
    found = faults_of(USERSPACE, host, lookups)
    if arp_ignore not in ANSWERS[rp_filter, addressed]:
        assert found == []
        return
    [fault] = found
    assert "nic0 answers ARP for 10.2.0.1 too" in fault
    assert fault.endswith("set net.ipv4.conf.nic0.arp_ignore=1")
    for other in (replace(nic, mac=host.links["br-phy"].mac), replace(nic, kind="tun")):
        assert faults_of(USERSPACE, linked_too(host, other), lookups) == []


@pytest.mark.parametrize(
    "options",
    [
        {"key": "flow"},
        {"key": "100"},
        {"in_key": "flow", "local_ip": "10.0.0.1"},
        {"key": "flow", "local_ip": "flow"},
        {"key": "flow", "local_ip": G1},
    ],
)
def test_a_port_that_takes_what_a_peer_sends(options: dict[str, str]) -> None:
    """A fault that names port, peer and cure."""
    mesh = having(seen(), vxlan("mesh", remote_ip="10.0.0.7", **options))
    [fault] = faults_of(ONE, mesh)
    assert "mesh on br-phy takes what 10.0.0.7 sends" in fault
    assert "udp_port" in fault


@pytest.mark.parametrize(
    "options",
    [
        {"dst_port": "4790", "key": "flow"},
        {"key": "7"},
        {},
        {"key": "flow", "local_ip": "10.7.7.7"},
        {"key": "flow", "local_ip": "nowhere"},
    ],
)
def test_a_mesh_port_that_takes_nothing_of_ours(options: dict[str, str]) -> None:
    """Another UDP port, VNI or address of this host does not meet ours."""
    mesh = having(seen(), vxlan("mesh", remote_ip="10.0.0.7", **options))
    assert faults_of(ONE, mesh) == []


def test_faults_of_others_are_theirs() -> None:
    """A broken port of another program or overlay is not our fault."""
    broken = replace(vxlan("theirs", remote_ip="10.0.0.9", key="7"), error="no such device")
    machine = seen()
    rival = replace(broken, name="rival", owner=RIVAL)
    ports = {**machine.ports, "theirs": broken, "rival": rival}
    assert faults_of(ONE, replace(machine, ports=ports)) == []


@pytest.mark.parametrize(
    ("protocol", "fault"), [(ownership.PROTOCOL, True), (None, True), (4, False)]
)
def test_only_our_own_addresses_are_waited_for(protocol: int | None, fault: bool) -> None:
    """Duplicate address detection of a group's address that is a stranger's is not our fault."""
    address = Address("eth0", "ff05::9", 128, True, MINE, protocol=protocol, tentative=True)
    machine = seen()
    found = faults_of(ONE, replace(machine, addresses=(*machine.addresses, address)))
    assert [str(address.address) in line for line in found] == [True] * fault


@given(scenes(), st.data())
def test_no_group_is_verified_that_was_not_seen_joined(scene: Scene, data: st.DataObject) -> None:
    """On any machine, each group that is not seen joined is a fault, and no other."""
    overlay, device = scene.overlay, scene.overlay.underlay.device
    try:
        machine = after(scene.machine, plan(overlay, scene.machine))
    except ConfigurationError:
        assume(False)
    lookups = looked_up(machine, device)
    before = faults_of(overlay, machine, lookups)
    groups = list(map(str, overlay.flood_groups))
    # A route of another to the group that goes first is a fault only where sends matter.
    other = {group for group in groups if lookups.sends[group].device != device}
    if machine.links[device].up:
        ways = [line for line in before if "takes what 10.0.0.7 sends" not in line]
        assert all("programs' datagrams" in line and line.split()[3] in other for line in ways)
    lost = set(data.draw(st.lists(st.sampled_from(groups), unique=True))) if groups else set()
    unseen = replace(lookups, joined=lookups.joined - lost)
    new = [fault for fault in faults_of(overlay, machine, unseen) if fault not in before]
    assert sorted(new) == sorted(f"{device} is not a member of {group}" for group in lost)
    segments = assess(resolve(overlay, machine), unseen, Plan(overlay.name)).segments
    none = {seen.group for seen in segments.values() if seen.joined_by == "none"}
    assert none == lost


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
    lookups = replace(well(), sends={} if way is None else {G1: way})
    assert lookups.send_path(G1, "eth0") == verdict
    found = assess(resolve(ONE, seen()), lookups, Plan(ONE.name))
    assert [segment.send_path for segment in found.segments.values()] == [verdict]


def test_a_lost_bridge_is_not_verified() -> None:
    """A bridge that is missing altogether is in the plan, not in the faults of ports."""
    machine = without(seen(), seen().bridges["br-mcast"])
    assert any("missing" in str(change) for change in plan(ONE, machine))


SYSTEM = Link("ovs-system", 1500, "", up=False)
SYS = Link("vxlan_sys_4789", 65000, "", True, "vxlan", 4789)


def test_a_udp_port_that_a_program_has_taken() -> None:
    """A fault that names the program, with an error of Open vSwitch and without one."""
    taken = replace(linked_too(seen(), SYSTEM), udp_holders=("process 7 (iperf)",))
    name = f"vxlan-{ownership.suffix('default')}"
    away = (
        "process 7 (iperf) has UDP port 4789: the overlay has no VXLAN port until that is free: "
        "end it, or give the overlay another udp_port on every host"
    )
    assert faults_of(ONE, taken) == [away]
    [removal] = plan(ONE, taken)
    assert (removal.action, removal.item) == ("remove", taken.ports[name])
    gone = without(taken, taken.ports[name])
    assert faults_of(ONE, gone) == [away]
    assert list(plan(ONE, gone)) == []
    [back] = plan(ONE, replace(gone, udp_holders=()))
    assert (back.action, back.item) == ("add", taken.ports[name])
    failed = replace(taken.ports[name], error="Address already in use", ofport=-1)
    said, _ = faults_of(ONE, replace(taken, ports={**taken.ports, name: failed}))
    assert said == (
        f"port {name} on br-mcast: Address already in use: process 7 (iperf) has UDP port 4789"
    )


def test_a_tunnel_that_the_kernel_has_not() -> None:
    """Without its device the port is lost, also when nobody has its UDP port any more."""
    [lost] = faults_of(ONE, linked_too(seen(), SYSTEM))
    assert f"del-port vxlan-{ownership.suffix('default')}" in lost
    assert faults_of(ONE, linked_too(linked_too(seen(), SYSTEM), SYS)) == []
    assert faults_of(USERSPACE, linked_too(seen(USERSPACE), SYSTEM)) == []
