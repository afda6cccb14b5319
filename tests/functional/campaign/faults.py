"""The faults: what happens to hosts, each by the tools of an operator, or by kill -9.

`strike` does it, and all that must happen outside before repair is possible at all, such as
ovs-vswitchd started again: when it returns, the overlay can be had, and the time to repair begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random

from tests.functional.campaign.site import (
    COOKIE,
    METRIC,
    PATCH_INT,
    PATCH_TUN,
    VXLAN,
    ScriptError,
    Site,
)

_MAC = "02:99:00:00:{number:02x}:{serial:02x}"
_FLOW = "-O OpenFlow14"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. ``visible``: the host differs right after it, if nobody repairs it yet.

    ``on`` says on which hosts it can happen. ``kills``: whoever repairs it is itself killed while
    it does, by kill -9, and started again.
    """

    name: str
    strike: Callable[[Site, Random], None]
    on: Callable[[Site], bool] = lambda _site: True
    visible: bool = True
    kills: bool = False

    def __str__(self) -> str:
        return self.name


def _userspace(site: Site) -> bool:
    return site.shape.userspace


def _kernel_sends(site: Site) -> bool:
    return not _userspace(site)


def _has_address(site: Site) -> bool:
    """Whether groups are addresses of the device, and not only held by sockets."""
    return _userspace(site) or site.shape.membership in {"autojoin", "repaired", "peer"}


def _has_route(site: Site) -> bool:
    """Whether the routes are ours, and not the kernel's own for a peer."""
    return site.shape.membership != "peer"


def _has_no_route(site: Site) -> bool:
    return not _has_route(site)


def _is_repaired(site: Site) -> bool:
    """Whether addresses of ours have lost their local routes."""
    by_sockets = _userspace(site) and site.shape.membership in {"socket", "auto"}
    return by_sockets or site.shape.membership == "repaired"


def _ipv4(site: Site) -> bool:
    return site.shape.family == 4


def _ipv6(site: Site) -> bool:
    return site.shape.family == 6


def scripted(
    name: str, script: str, *, on: Callable[[Site], bool] = lambda _site: True,
    visible: bool = True, replant: bool = False,
) -> Fault:  # fmt: skip
    """A fault that is a shell script; in braces what it takes from the host and the seed."""

    def strike(site: Site, rng: Random) -> None:
        site.sh(_filled(script, site, rng))
        if replant:
            site.replant()

    return Fault(name, strike, on, visible)


def _filled(script: str, site: Site, rng: Random) -> str:
    vni, group = rng.choice(list(site.segments.items()))
    bits = 128 if site.shape.family == 6 else 32
    return script.format(
        device=site.device, vtep=site.host.vtep, vtep_prefix=site.host.addresses[0],
        vni=vni, group=group, bits=bits, ip="ip -6" if bits == 128 else "ip",
        peer=f"peer {group}/32", cookie=COOKIE, own=COOKIE.partition("/")[0], metric=METRIC,
        vxlan=VXLAN, patch_int=PATCH_INT, patch_tun=PATCH_TUN, flow=_FLOW,
        pause=f"sleep {rng.uniform(0, 0.3):.3f}",
        nodad="nodad" if bits == 128 else "",
        tun_dst="tun_ipv6_dst" if bits == 128 else "tun_dst",
    )  # fmt: skip


# Flows: all, of one table, one, changed, added, taken by another. `{cookie}` is all of ours.
def _flows() -> Iterator[Fault]:
    for table in (0, 10, 15, 20, 30):
        script = f"ovs-ofctl {{flow}} del-flows br-mcast table={table}"
        yield scripted(f"flows of table {table} deleted", script)
    for table, match in (
        (0, "in_port=2"), (0, "in_port=1"), (10, "tun_id={vni}"), (15, "tun_id={vni}"),
        (30, "dl_vlan={vni}"),
    ):  # fmt: skip
        script = f"ovs-ofctl {{flow}} del-flows br-mcast table={table},{match}"
        yield scripted("flow deleted", script)
    yield scripted("all flows deleted", "ovs-ofctl {flow} del-flows br-mcast")
    for table, match in ((10, "tun_id={vni}"), (15, "tun_id={vni}"), (30, "dl_vlan={vni}")):
        script = f"ovs-ofctl {{flow}} mod-flows br-mcast table={table},{match},actions=drop"
        yield scripted("flow changed", script)
    yield scripted("flow changed", "ovs-ofctl {flow} mod-flows br-mcast table=0,actions=output:1")
    yield scripted(
        "flow of ours too many",
        "ovs-ofctl {flow} add-flow br-mcast"
        " cookie={own},table=30,priority=9,dl_vlan={vni},actions=drop",
    )
    yield scripted(
        "flow replaced by another's",
        "ovs-ofctl {flow} add-flow br-mcast"
        " cookie=0x5,table=30,priority=1,dl_vlan={vni},actions=drop",
    )
    yield scripted(
        "flows of the underlay bridge deleted",
        "ovs-ofctl {flow} del-flows {device} cookie={cookie}",
        on=_userspace,
    )
    yield scripted(
        "all flows of the underlay bridge deleted",
        "ovs-ofctl {flow} del-flows {device};"
        " ovs-ofctl {flow} add-flow {device} priority=0,actions=NORMAL",
        on=_userspace,
        replant=True,
    )
    yield scripted(
        "flow of the underlay bridge changed",
        "ovs-ofctl {flow} mod-flows {device} cookie={cookie},udp,nw_dst={group},actions=drop",
        on=_userspace,
    )


def _rows() -> Iterator[Fault]:
    for port in ("{vxlan}", "{patch_int}", "{patch_tun}"):
        kind = "tunnel port" if port == "{vxlan}" else "patch port"
        yield scripted(f"{kind} deleted", f"ovs-vsctl --timeout=20 del-port {port}")
    set_ = "ovs-vsctl --timeout=20 set interface"
    for option in ("options:dst_port=4799", "options:tos=inherit", "options:remote_ip=10.0.0.9",
                   "options:key=5", "ofport_request=9"):  # fmt: skip
        yield scripted("tunnel port changed", f"{set_} {{vxlan}} {option}")
    yield scripted("tunnel port's type changed", f"{set_} {{vxlan}} type=gre")
    for port in ("{patch_int}", "{patch_tun}"):
        yield scripted("peer changed", f"{set_} {port} options:peer=nobody")
    yield scripted("patch port tagged", "ovs-vsctl --timeout=20 set port {patch_tun} tag=5")
    yield scripted("tunnel bridge deleted", "ovs-vsctl --timeout=20 del-br br-mcast")
    yield scripted(
        "tunnel bridge standalone",
        "ovs-vsctl --timeout=20 set bridge br-mcast fail_mode=standalone",
    )
    yield scripted(
        "integration bridge deleted",
        "ovs-vsctl --timeout=20 del-br br-int",
        on=lambda site: site.owns_bridge,
    )


def _kernel() -> Iterator[Fault]:
    yield scripted(
        "address of a group deleted",
        "{ip} address del {group}/{bits} dev {device}",
        on=lambda site: _has_address(site) and site.shape.membership != "peer",
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
        on=lambda site: _ipv4(site) and site.shape.membership in {"autojoin", "repaired"},
    )
    yield scripted(
        "route of a group deleted",
        "ip route del {group}/32 dev {device}",
        on=lambda site: _ipv4(site) and _has_route(site),
    )
    yield scripted(
        "route of a group deleted",
        "ip -6 route del multicast {group}/128 dev {device} table local metric {metric}",
        on=lambda site: _ipv6(site) and _has_route(site),
    )
    yield scripted(
        "local route put back",
        "ip route add local {group} dev {device} table local",
        on=lambda site: _ipv4(site) and _is_repaired(site),
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
        on=_kernel_sends,  # Open vSwitch sets that of its own ports
        visible=False,
    )
    # A peer's route is the kernel's own, and comes back with the address that it is a peer of.
    yield Fault("underlay down and up", _underlay_down_and_up, on=_has_route)
    yield Fault("underlay down and up", _underlay_down_and_up, on=_has_no_route, visible=False)
    yield Fault("NIC down and up", _nic_down_and_up, on=_userspace, visible=False)
    yield Fault("carrier lost and back", _carrier, visible=False)
    yield Fault("VTEP deleted and added", _vtep_deleted, on=_has_route)
    yield Fault("VTEP deleted and added", _vtep_deleted, on=_has_no_route, visible=False)
    for name, strike in (
        ("NIC removed and added", _nic_removed),
        ("NIC replaced by another", _nic_replaced),
    ):
        yield Fault(name, strike, on=_kernel_sends)
        yield Fault(name, strike, on=_userspace, visible=False)


def _pause(rng: Random) -> None:
    """How long a thing is away: a part of the fault, and no wait for anything."""
    time.sleep(rng.uniform(0, 0.4))


def _down_and_up(site: Site, rng: Random, device: str) -> None:
    site.sh(f"ip link set {device} down")
    _pause(rng)
    site.sh(f"ip link set {device} up")


def _underlay_down_and_up(site: Site, rng: Random) -> None:
    """Linux takes IPv6 addresses along, unless told to keep them.

    It then keeps the membership of an autojoin address that it took, and refuses the address for
    good (EADDRINUSE): whoever has such addresses must tell it to keep them.
    """
    if _ipv6(site):
        keep = 1 if _is_repaired(site) else rng.choice((0, 1))
        site.sh(f"echo {keep} >/proc/sys/net/ipv6/conf/{site.device}/keep_addr_on_down")
    _down_and_up(site, rng, site.device)
    _address(site)


def _nic_down_and_up(site: Site, rng: Random) -> None:
    _down_and_up(site, rng, "eth0")


def _carrier(site: Site, rng: Random) -> None:
    """The other end of the cable, at the switch."""
    for state in ("down", "up"):
        site.lab.switch.run("ip", "link", "set", site.host.name, state)
        _pause(rng)


def _vtep_deleted(site: Site, rng: Random) -> None:
    address = site.host.addresses[0]
    site.sh(f"ip address del {address} dev {site.device}")
    _pause(rng)
    _address(site)


def _nic_removed(site: Site, rng: Random) -> None:
    mac = site.host.path("/sys/class/net/eth0/address").read_text().strip()
    _replace_nic(site, rng, mac)


def _nic_replaced(site: Site, rng: Random) -> None:
    _replace_nic(site, rng, _MAC.format(number=site.number, serial=rng.randrange(256)))


def _replace_nic(site: Site, rng: Random, mac: str) -> None:
    """The veth is deleted and made anew, put into use by the operator's own tools, and plugged in.

    The userspace datapath reads on from the device that was, until its port is made anew too. A
    snooping switch asks who is a member when a cable is plugged in, and nothing else makes a host
    say it again whose br-phy stayed as it was: so the cable comes last.
    """
    site.sh("ip link del eth0")
    if _userspace(site):
        site.sh(f"ovs-vsctl --timeout=20 del-port {site.device} eth0")
    _pause(rng)
    site.lab.switch.plug([site.host])
    site.lab.switch.run("ip", "link", "set", site.host.name, "down")
    site.sh(
        f"ip link set eth0 address {mac}; ethtool -K eth0 tx off >/dev/null; ip link set eth0 up"
    )
    if _userspace(site):
        site.sh(f"ovs-vsctl --timeout=20 add-port {site.device} eth0")
    site.lab.switch.run("ip", "link", "set", site.host.name, "up")
    _address(site)
    for one in site.lab.linux_hosts:  # as the NIC's own announcement would have done
        one.run("ip", "neighbour", "flush", "all")


def _address(site: Site) -> None:
    """What the operator's network tools do when a device comes: its addresses, and their own."""
    if _ipv6(site):
        site.sh(f"echo 0 >/proc/sys/net/ipv6/conf/{site.device}/disable_ipv6")
    nodad = " nodad" if _ipv6(site) else ""
    site.sh(
        f"ip address replace {site.host.addresses[0]} dev {site.device}{nodad};"
        f" ip link set {site.device} up"
    )
    site.replant()


def _daemons() -> Iterator[Fault]:
    yield Fault("ovs-vswitchd killed", _vswitchd_killed)
    yield Fault("ovsdb-server killed", _ovsdb_killed, visible=False)
    yield Fault("both daemons killed", _both_killed)
    yield Fault("ovs-vswitchd stands still", _vswitchd_stopped, visible=False)
    yield scripted(
        "keeper killed",
        "for one in /proc/[0-9]*; do grep -qs ovs-mcast-keep $one/comm || continue;"
        " kill -9 ${{one#/proc/}}; while [ -e $one/fd/0 ]; do :; done; done",
        on=lambda site: bool(site.look(["keepers"])["keepers"]),
    )


def _vswitchd_killed(site: Site, rng: Random) -> None:
    site.host.stop_vswitchd()
    _pause(rng)
    site.host.start_vswitchd()
    _address(site)


def _ovsdb_killed(site: Site, rng: Random) -> None:
    site.host.stop_ovsdb()
    _pause(rng)
    site.host.start_ovsdb()


def _both_killed(site: Site, rng: Random) -> None:
    stops = [site.host.stop_vswitchd, site.host.stop_ovsdb]
    rng.shuffle(stops)
    for stop in stops:
        stop()
    _pause(rng)
    site.host.start_ovsdb()
    site.host.start_vswitchd()
    _address(site)


def _vswitchd_stopped(site: Site, rng: Random) -> None:
    process = site.host.path("/run/openvswitch/ovs-vswitchd.pid").read_text().strip()
    site.sh(f"kill -STOP {process}")
    _pause(rng)
    site.sh(f"kill -CONT {process}")


def two_at_once(first: Fault, second: Fault) -> Fault:
    """Two faults, one right after the other, which may find nothing left to damage."""

    def strike(site: Site, rng: Random) -> None:
        first.strike(site, rng)
        with suppress(ScriptError):
            second.strike(site, rng)

    def on(site: Site) -> bool:
        return first.on(site) and second.on(site)

    return Fault(f"two at once: {first}, {second}", strike, on, visible=False)


def killed_meanwhile(fault: Fault) -> Fault:
    """A fault during whose repair the one that repairs is killed."""
    return replace(fault, name=f"killed while repairing: {fault}", visible=False, kills=True)


CATALOGUE: tuple[Fault, ...] = (*_flows(), *_rows(), *_kernel(), *_daemons())
