"""One fault: the hosts on which it can happen, and what the operator's own tools repair of it.

`strike` does it, and all that must happen outside before repair is possible at all, such as
ovs-vswitchd started again: when it returns, the overlay can be had, and the time to repair begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.functional.campaign.site import COOKIE, METRIC, PATCH_INT, PATCH_TUN, VXLAN, Site

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


def userspace(site: Site) -> bool:
    return site.shape.userspace


def kernel_sends(site: Site) -> bool:
    return not userspace(site)


def has_address(site: Site) -> bool:
    """Whether groups are addresses of the device, and not only held by sockets."""
    return userspace(site) or site.shape.membership in {"autojoin", "repaired", "peer"}


def has_route(site: Site) -> bool:
    """Whether the routes are ours, and not the kernel's own for a peer."""
    return site.shape.membership != "peer"


def has_no_route(site: Site) -> bool:
    return not has_route(site)


def has_route_from_vtep(site: Site) -> bool:
    """Whether our routes name the VTEP as their source, and go with it."""
    return has_route(site) and kernel_sends(site)


def is_repaired(site: Site) -> bool:
    """Whether addresses of ours have lost their local routes."""
    by_sockets = userspace(site) and site.shape.membership in {"socket", "auto"}
    return by_sockets or site.shape.membership == "repaired"


def ipv4(site: Site) -> bool:
    return site.shape.family == 4


def ipv6(site: Site) -> bool:
    return site.shape.family == 6


def scripted(
    name: str, script: str, *, on: Callable[[Site], bool] = lambda _site: True,
    visible: bool = True, replant: bool = False,
) -> Fault:  # fmt: skip
    """Return a fault that is a shell script; the host and the seed fill the braces."""

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


def pause(rng: Random) -> None:
    """How long a thing is away: a part of the fault, and no wait for anything."""
    time.sleep(rng.uniform(0, 0.4))


def put_addresses(site: Site) -> None:
    """Add the addresses that the operator's network tools give a device when it appears."""
    if ipv6(site):
        site.sh(f"echo 0 >/proc/sys/net/ipv6/conf/{site.device}/disable_ipv6")
    nodad = " nodad" if ipv6(site) else ""
    site.sh(
        f"ip address replace {site.host.addresses[0]} dev {site.device}{nodad};"
        f" ip link set {site.device} up"
    )
    site.replant()
