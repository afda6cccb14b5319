"""The devices below the underlay device: after a failover, another switch port serves us. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .items import Port
from .observed import Link

_UPLINKS = {"", "system", "dpdk", "afxdp"}  # types of ports that lead to a network (Interface.type)
_GUEST = "tun"  # behind a tap is a guest


def below(device: str, links: Mapping[str, Link], ports: Mapping[str, Port]) -> frozenset[str]:
    """Return the names of the device and of all below it that may carry its packets.

    Those are the ports of a bridge, the links of a bond, the device that a VLAN is on, and the
    bridges that patch ports of Open vSwitch lead to. A bond of Open vSwitch has its own name there.
    """
    found: set[str] = set()
    left = [device]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _in_linux(name, links)
            left += _in_open_vswitch(name, ports)
    return frozenset(found)


def _in_linux(name: str, links: Mapping[str, Link]) -> Iterator[str]:
    link = links.get(name)
    if link is None:
        return
    if link.lower:
        yield link.lower
    yield from (one.name for one in links.values() if one.master == name and one.kind != _GUEST)


def _in_open_vswitch(name: str, ports: Mapping[str, Port]) -> Iterator[str]:
    """Yield the ports of the bridge that has the name as its own or as an internal port."""
    port = ports.get(name)
    if port is not None and port.type != "internal":
        yield from port.members
        return
    bridge = name if port is None else port.bridge
    for one in ports.values():
        if one.bridge != bridge:
            continue
        if one.type in _UPLINKS:
            yield one.name
        elif one.type == "patch" and (peer := ports.get(one.option("peer"))) is not None:
            yield peer.bridge


def leads_to_network(port: Port, links: Mapping[str, Link]) -> bool:
    """Return whether a port of Open vSwitch may lead to other hosts; behind a tap is a guest."""
    link = links.get(port.name)
    return port.type in _UPLINKS and (link is None or link.kind != _GUEST)


class Carriers:
    """The carrier and the active link of each device, as last seen."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bool, int]] = {}

    @property
    def seeded(self) -> bool:
        """Whether the devices are known."""
        return bool(self._seen)

    def seed(self, links: Mapping[str, Link]) -> None:
        """Take the devices that are there."""
        self._seen = {link.name: (link.carrier, link.active) for link in links.values()}

    def clear(self) -> None:
        """Forget all: events were lost."""
        self._seen.clear()

    def changed(self, link: Link, *, gone: bool) -> bool:
        """Take an event of a device; return True if its carrier or active link changed."""
        if gone:
            self._seen.pop(link.name, None)
            return False
        now = (link.carrier, link.active)
        before = self._seen.get(link.name, now)
        self._seen[link.name] = now
        return before != now
