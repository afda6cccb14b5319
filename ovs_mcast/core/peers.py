"""Whether unicast reaches the VTEPs that an overlay has learned, judged by the routes. Pure.

A VTEP is learned from what it sent to the group: its broadcasts are heard, whatever the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netaddr import IPAddress

from .findings import Finding, error, listed
from .groups import parse_address
from .observed import Lookups, RoutePath
from .target import Target

# Of no network (RFC 5737, RFC 3849): they take the default route.
FAR = {4: IPAddress("198.51.100.1"), 6: IPAddress("2001:db8::1")}


def faults(target: Target, lookups: Lookups) -> Iterator[Finding]:
    """Yield the learned VTEPs without a route, and those behind a gateway that the TTL ends at."""
    lost = [peer for peer, path in lookups.peers.items() if not _leaves(path, target)]
    if lost:
        source = str(target.vtep)
        cure = "add a route"
        if target.userspace:
            cure = (
                f"Open vSwitch takes a route through a bridge of its own alone, and {source} must "
                "have the prefix length of its subnet"
            )
        yield error(
            "peer-unreachable", source,
            f"no route from {source} to {_peers(lost)}: no unicast leaves", cure,
        )  # fmt: skip
    if target.overlay.underlay.ttl > 1:
        return
    behind: dict[str, list[str]] = {}
    for peer, path in lookups.peers.items():
        if path.gateway is not None:
            behind.setdefault(path.gateway, []).append(peer)
    for gateway, ended in behind.items():
        yield error(
            "peer-beyond-ttl", gateway,
            f"{_peers(ended)} behind gateway {gateway}, where packets of TTL 1 end",
            "raise underlay.ttl on every host",
        )  # fmt: skip


def gateways(device: str, paths: Iterable[RoutePath]) -> list[IPAddress]:
    """Return the gateways of paths that leave by the device, each once."""
    found = {path.gateway for path in paths if path.device == device and path.gateway}
    return sorted(map(parse_address, found))


def _leaves(path: RoutePath, target: Target) -> bool:
    """Return whether a tunnel's packet leaves: with the userspace datapath, by a bridge."""
    if path.device is None or not target.userspace:
        return path.device is not None
    return path.device in target.observed.bridges or path.device in target.observed.ports


def _peers(peers: Iterable[str]) -> str:
    """Return the peers as text: `peer 10.0.0.2`, or `7 peers (10.0.0.2, …)`."""
    ordered = sorted(peers, key=parse_address)
    if len(ordered) == 1:
        return f"peer {ordered[0]}"
    return f"{len(ordered)} peers ({listed(ordered)})"
