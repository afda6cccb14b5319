"""The device that a probe works on, as the kernel has it now."""

from __future__ import annotations

from contextlib import closing

from ..adapters.netlink import Netlink
from ..errors import ConfigurationError
from .station import Station


def find_station(device: str) -> Station:
    """The device as it is now; ConfigurationError if it is not there, or cannot carry a group."""
    with closing(Netlink()) as netlink:
        links, addresses = netlink.links(), netlink.addresses()
    link = links.get(device)
    if link is None:
        raise ConfigurationError(f"there is no device {device}", field="device")
    if device == "lo" or len(link.mac) != len("00:00:00:00:00:00"):
        raise ConfigurationError(f"{device} is not an Ethernet device", field="device")
    mine = tuple(address for address in addresses if address.device == device)
    return Station(link, mine, addresses)
