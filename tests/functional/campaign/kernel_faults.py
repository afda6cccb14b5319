"""Damage to the kernel's state: addresses, routes, neighbours, links and NICs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.functional.campaign.fault import (
    Fault,
    has_address,
    has_no_route,
    has_route,
    has_route_from_vtep,
    ipv4,
    ipv6,
    is_repaired,
    kernel_sends,
    pause,
    put_addresses,
    scripted,
    userspace,
)
from tests.functional.campaign.site import Site

_MAC = "02:99:00:00:{number:02x}:{serial:02x}"


def kernel_faults() -> Iterator[Fault]:
    yield scripted(
        "address of a group deleted",
        "{ip} address del {group}/{bits} dev {device}",
        on=lambda site: has_address(site) and site.shape.membership != "peer",
    )
    yield scripted(
        "address of a group deleted",
        "ip address del {vtep} peer {group}/32 dev {device}",
        on=lambda site: site.shape.membership == "peer",
    )
    yield scripted(
        "address of a group without autojoin",
        "ip address del {group}/32 dev {device};"
        " ip address add {group}/32 dev {device} metric {metric} scope host || true",
        on=lambda site: ipv4(site) and site.shape.membership in {"autojoin", "repaired"},
    )
    yield scripted(
        "route of a group deleted",
        "ip route del {group}/32 dev {device}",
        on=lambda site: ipv4(site) and has_route(site),
    )
    yield scripted(
        "route of a group deleted",
        "ip -6 route del multicast {group}/128 dev {device} table local metric {metric}",
        on=lambda site: ipv6(site) and has_route(site),
    )
    yield scripted(
        "local route put back",
        "ip route add local {group} dev {device} table local",
        on=lambda site: ipv4(site) and is_repaired(site),
    )
    # Open vSwitch learns a neighbour again only from an ARP answer that it has no datapath flow
    # for, and meanwhile keeps a flow that drops: whoever forgets neighbours purges those too.
    yield scripted(
        "neighbours forgotten",
        "ip neighbour flush all; ovs-appctl tnl/neigh/flush; ovs-appctl revalidator/purge",
        visible=False,
    )
    yield scripted(
        "MTU changed and changed back",
        "mtu=$(cat /sys/class/net/{device}/mtu); ip link set {device} mtu 1400; {pause};"
        " ip link set {device} mtu $mtu",
        on=kernel_sends,  # Open vSwitch sets that of its own ports
        visible=False,
    )
    # A peer's route is the kernel's own, and comes back with the address that it is a peer of.
    yield Fault("underlay down and up", _underlay_down_and_up, on=has_route)
    yield Fault("underlay down and up", _underlay_down_and_up, on=has_no_route, visible=False)
    yield Fault("NIC down and up", _nic_down_and_up, on=userspace, visible=False)
    yield Fault("carrier lost and back", _carrier, visible=False)
    yield Fault("VTEP deleted and added", _vtep_deleted, on=has_route_from_vtep)
    yield Fault(
        "VTEP deleted and added",
        _vtep_deleted,
        on=lambda site: not has_route_from_vtep(site),
        visible=False,
    )
    for name, strike in (
        ("NIC removed and added", _nic_removed),
        ("NIC replaced by another", _nic_replaced),
    ):
        yield Fault(name, strike, on=kernel_sends)
        yield Fault(name, strike, on=userspace, visible=False)


def _down_and_up(site: Site, rng: Random, device: str) -> None:
    site.sh(f"ip link set {device} down")
    pause(rng)
    site.sh(f"ip link set {device} up")


def _underlay_down_and_up(site: Site, rng: Random) -> None:
    """Set the link down and up: Linux removes IPv6 addresses unless told to keep them.

    It then keeps the membership of an autojoin address that it took, and refuses the address for
    good (EADDRINUSE): whoever has such addresses must tell it to keep them.
    """
    if ipv6(site):
        keep = 1 if is_repaired(site) else rng.choice((0, 1))
        site.sh(f"echo {keep} >/proc/sys/net/ipv6/conf/{site.device}/keep_addr_on_down")
    _down_and_up(site, rng, site.device)
    put_addresses(site)


def _nic_down_and_up(site: Site, rng: Random) -> None:
    _down_and_up(site, rng, "eth0")


def _carrier(site: Site, rng: Random) -> None:
    """The other end of the cable, at the switch."""
    for state in ("down", "up"):
        site.lab.switch.run("ip", "link", "set", site.host.name, state)
        pause(rng)


def _vtep_deleted(site: Site, rng: Random) -> None:
    address = site.host.addresses[0]
    site.sh(f"ip address del {address} dev {site.device}")
    pause(rng)
    put_addresses(site)


def _nic_removed(site: Site, rng: Random) -> None:
    mac = site.host.path("/sys/class/net/eth0/address").read_text().strip()
    _replace_nic(site, rng, mac)


def _nic_replaced(site: Site, rng: Random) -> None:
    _replace_nic(site, rng, _MAC.format(number=site.number, serial=rng.randrange(256)))


def _replace_nic(site: Site, rng: Random, mac: str) -> None:
    """Delete the veth, make it anew, configure it by the operator's own tools, and plug it in.

    The userspace datapath reads on from the device that was, until its port is made anew too. A
    snooping switch asks who is a member when a cable is plugged in, and nothing else makes a host
    say it again whose br-phy stayed as it was: so the cable comes last.
    """
    site.sh("ip link del eth0")
    if userspace(site):
        site.sh(f"ovs-vsctl --timeout=20 del-port {site.device} eth0")
    pause(rng)
    site.lab.switch.plug([site.host])
    site.lab.switch.run("ip", "link", "set", site.host.name, "down")
    site.sh(
        f"ip link set eth0 address {mac}; ethtool -K eth0 tx off >/dev/null; ip link set eth0 up"
    )
    if userspace(site):
        site.sh(
            "echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_ignore;"
            f" ovs-vsctl --timeout=20 add-port {site.device} eth0"
        )
    site.lab.switch.run("ip", "link", "set", site.host.name, "up")
    put_addresses(site)
    for one in site.lab.linux_hosts:  # as the NIC's own announcement would have done
        one.run("ip", "neighbour", "flush", "all")
