"""The device of a probe, as the kernel has it now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from ..adapters.rtnetlink.client import Netlink
from ..core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ethernet, udp
from ..core.groups import check_group, check_vtep, parse_address
from ..core.items import Address
from ..core.observed import Link
from ..errors import ConfigurationError


def find_station(device: str) -> Station:
    """Return the device as it is now; ConfigurationError if missing, or unable to carry a group."""
    with closing(Netlink()) as netlink:
        links, addresses = netlink.links(), netlink.addresses()
    link = links.get(device)
    if link is None:
        raise ConfigurationError(f"there is no device {device}", field="device")
    if device == "lo" or len(link.mac) != len("00:00:00:00:00:00"):
        raise ConfigurationError(f"{device} is not an Ethernet device", field="device")
    mine = tuple(address for address in addresses if address.device == device)
    return Station(link, mine, addresses)


def gateways(hosts: Sequence[str], source: IPAddress) -> dict[str, str]:
    """Return host → gateway of the hosts that this host reaches by one."""
    with closing(Netlink()) as netlink:
        paths = netlink.look_up([IPAddress(host) for host in hosts], source)
    return {host: path.gateway for host, path in paths.items() if path.gateway is not None}


DAY = 86_400.0  # seconds
Ports = tuple[int, int]  # source and destination port


@dataclass(frozen=True, slots=True)
class Station:
    """A device with the addresses that it has; ``holders`` are those of all devices."""

    link: Link
    addresses: tuple[Address, ...]
    holders: tuple[Address, ...] = ()

    @property
    def device(self) -> str:
        """The name of the device."""
        return self.link.name

    def unicast(self, family: int) -> list[IPAddress]:
        """Return addresses of a family (4 or 6) that others can answer, in the kernel's order."""
        return [address for address, _ in self._networks() if address.version == family]

    def source(self, family: int, named: IPAddress | None = None) -> IPAddress:
        """Return the first of those, or the named one; ConfigurationError if it is missing."""
        usable = self.unicast(family)
        if named is not None:
            if named not in usable:
                raise ConfigurationError(
                    f"{self.device} does not have the IPv{family} address {named}", field="source"
                )
            return named
        if not usable:
            raise ConfigurationError(
                f"{self.device} has no IPv{family} address to send from", field="device"
            )
        return usable[0]

    def broadcasts(self) -> frozenset[IPAddress]:
        """The broadcast addresses of its networks."""
        found = (network.broadcast for _, network in self._networks())
        return frozenset(address for address in found if address is not None)

    def frame(
        self, mac: str, source: str, destination: str, ports: Ports, payload: bytes, ttl: int
    ) -> bytes:
        """Return a whole Ethernet frame, from this device, with a UDP datagram."""
        datagram = udp(source, destination, *ports, payload, ttl=ttl)
        ethertype = ETHERTYPE_IPV6 if ":" in destination else ETHERTYPE_IPV4
        return ethernet(mac, self.link.mac, ethertype, datagram)

    def _networks(self) -> list[tuple[IPAddress, IPNetwork]]:
        found = []
        for item in self.addresses:
            address = IPAddress(item.address)
            try:
                check_vtep(address)
            except ValueError:
                continue
            found.append((address, IPNetwork(f"{address}/{item.prefixlen}")))
        return found


def find_group(value: object) -> IPAddress:
    """Return a group from text; ConfigurationError, with the reason, if no overlay can use it."""
    try:
        return check_group(parse_address(value))
    except ValueError as error:
        raise ConfigurationError(str(error), field="group") from None


def find_unicast(value: object, field: str, family: int) -> IPAddress:
    """Return a unicast address of the family from text; else ConfigurationError for the field."""
    try:
        address = check_vtep(parse_address(value))
    except ValueError as error:
        raise ConfigurationError(str(error), field=field) from None
    if address.version != family:
        raise ConfigurationError(f"{address}: the group is IPv{family}", field=field)
    return address


def find_groups(values: Sequence[object]) -> tuple[IPAddress, ...]:
    """Return at least one group, each once, in order."""
    groups = tuple(dict.fromkeys(find_group(value) for value in values))
    if not groups:
        raise ConfigurationError("name at least one", field="group")
    return groups


def check_number(value: float, field: str, least: float, most: float) -> None:
    """Raise ConfigurationError for the field unless the value is within; NaN never is."""
    if not least <= value <= most:
        raise ConfigurationError(f"{value:g} is not between {least:g} and {most:g}", field=field)
