"""Judge what was captured of an ordinary datagram: verdict, cause and cure. Pure.

Packets alone decide the verdict; the lookup and the routes explain it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from os import strerror
from typing import Literal

from netaddr import IPAddress

from ..core.items import Address
from ..core.observed import FibRoute, RoutePath

Verdict = Literal["wire", "loopback", "none"]
LOOPBACK = "lo"

# What sendto() fails with where a route forbids (fib_props of the kernel's net/ipv4).
_FORBIDDING = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence about one datagram to a group.

    ``seen`` are the devices by which the datagram left; ``watched`` are all captured devices.
    ``sends`` and ``tunnels`` are the lookups as an ordinary program and as the tunnel would send,
    ``taken`` is the route that the first one matched. ``holders`` are the addresses, on any device,
    that equal the group. ``error`` is the errno of sendto, 0 if it succeeded.
    ``tentative`` are addresses of the device still under duplicate address detection.
    """

    group: IPAddress
    device: str
    watched: tuple[str, ...]
    seen: frozenset[str]
    sends: RoutePath = RoutePath(None)
    tunnels: RoutePath = RoutePath(None)
    taken: FibRoute | None = None
    holders: tuple[Address, ...] = ()
    error: int = 0
    up: bool = True
    tentative: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, object]:
        """Return the datagrams captured per device, of one sent; the error; the route."""
        return {
            "packets": {device: int(device in self.seen) for device in self.watched},
            "error": strerror(self.error) if self.error else None,
            "route_taken": str(self.taken) if self.taken else None,
            "tentative": sorted(self.tentative),
        }


@dataclass(frozen=True, slots=True)
class SendPath:
    """Where an ordinary program's datagram to the group goes, why, and what to do about it.

    ``cause`` is one sentence, ``cure`` another, or empty where nothing needs one.
    """

    verdict: Verdict
    cause: str
    cure: str
    evidence: Evidence = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the datagram reaches the wire, and nothing is about to change that."""
        return self.verdict == "wire" and not self.evidence.tentative

    def to_json(self) -> dict[str, object]:
        """Return the document of `probe path --json`."""
        seen = self.evidence
        return {
            "group": str(seen.group),
            "device": seen.device,
            "verdict": self.verdict,
            "route": _route(seen.sends),
            "tunnel_route": _route(seen.tunnels),
            "cause": self.cause,
            "cure": self.cure,
            "evidence": seen.to_json(),
        }


def judge(seen: Evidence) -> SendPath:
    """Return the verdict, with its cause and the cure."""
    if seen.device in seen.seen:
        return SendPath("wire", *_on_the_wire(seen), seen)
    if LOOPBACK in seen.seen:
        return SendPath("loopback", *_on_loopback(seen), seen)
    return SendPath("none", *_nowhere(seen), seen)


def _on_the_wire(seen: Evidence) -> tuple[str, str]:
    cause = f"{_the_route(seen)} takes it out of {seen.device}"
    if not seen.tentative:
        return cause, ""
    addresses = ", ".join(sorted(seen.tentative))
    return (
        f"{cause}, while {addresses} on {seen.device} is tentative: that can change",
        f"look again when duplicate address detection is over; without carrier on {seen.device} "
        "it never is",
    )


def _on_loopback(seen: Evidence) -> tuple[str, str]:
    route = seen.taken
    if route is None or not route.local:
        return f"{_the_route(seen)} sends it to lo, where nobody listens", _cure_by_route(seen)
    holder = next((item for item in seen.holders if item.device == route.device), None)
    made = ""
    if holder is not None:
        kind = "autojoin address" if holder.autojoin else "address"
        made = f", made by the {kind} {holder.address}/{holder.prefixlen} on {holder.device},"
    cause = f"{route}{made} is looked up before table main and sends it to lo, where nobody listens"
    delete = f"{_ip(seen)} route del local {seen.group} dev {route.device} table {route.table}"
    return (
        cause,
        f"join by a socket (membership: socket) in place of the address; or `{delete}` and "
        f"`{_route_command(seen)}`, again whenever the link was down",
    )


def _nowhere(seen: Evidence) -> tuple[str, str]:
    if not seen.up:
        return f"{seen.device} is down", f"`ip link set {seen.device} up`"
    if seen.error:
        return _refused(seen)
    elsewhere = sorted(seen.seen)
    if elsewhere:
        cause = f"{_the_route(seen)} takes it out of another device, {', '.join(elsewhere)}"
        return cause, _cure_by_route(seen)
    device = seen.sends.device or seen.device
    return (
        f"{_the_route(seen)} takes it out of {device}, and it was not seen there: "
        "a packet filter on output drops it, or a queue holds it",
        f"look at `nft list ruleset` and `tc -s qdisc show dev {device}`",
    )


def _refused(seen: Evidence) -> tuple[str, str]:
    family = _ip(seen)
    if seen.error == errno.ENETUNREACH:
        return f"no route to the group: no table has one for {seen.group}", _cure_by_route(seen)
    if seen.error in _FORBIDDING:
        kind = _FORBIDDING[seen.error]
        return (
            f"a {kind} route takes it ({strerror(seen.error)})",
            f"find it with `{family} route show table all type {kind}` and delete it, "
            f"or `{_route_command(seen)}`",
        )
    if seen.error == errno.EPERM:
        return (
            "a packet filter of this host refuses it (Operation not permitted)",
            "look at `nft list ruleset`, chains of type filter, hook output",
        )
    if seen.error == errno.EADDRNOTAVAIL:
        device = seen.sends.device or seen.device
        return (
            f"{_the_route(seen)} takes it to {device}, which has no address to send from",
            f"`{family} address add ADDRESS/PREFIX dev {device}`, or `{_route_command(seen)}`",
        )
    return f"the kernel refuses it: {strerror(seen.error)}", "see what the system's log says"


def _the_route(seen: Evidence) -> str:
    if seen.taken is not None:
        return str(seen.taken)
    return f"the look-up (dev {seen.sends.device})" if seen.sends.device else "no route known"


def _cure_by_route(seen: Evidence) -> str:
    return f"`{_route_command(seen)}`"


def _route_command(seen: Evidence) -> str:
    """Return the command for a host route that precedes the route that took the packet.

    IPv6 has ff00::/8 of every device in table local, so that no route in main is ever asked for.
    """
    if seen.group.version == 6:
        return f"ip -6 route replace multicast {seen.group} dev {seen.device} table local metric 1"
    source = f" src {seen.tunnels.source}" if seen.tunnels.source else ""
    table = ""
    if seen.taken is not None and seen.taken.table not in {"main", "local", "default"}:
        table = f" table {seen.taken.table}"
    return f"ip route replace {seen.group} dev {seen.device}{source}{table}"


def _ip(seen: Evidence) -> str:
    return "ip -6" if seen.group.version == 6 else "ip"


def _route(path: RoutePath) -> dict[str, str | None]:
    return {"device": path.device, "source": path.source}
