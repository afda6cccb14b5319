"""An overlay resolved on one host: the VTEP address, the membership method, foreign addresses.

Functions that depend on both the overlay and the host take a `Target`, and do not resolve the
overlay again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from netaddr import IPAddress

from . import ownership, underlay
from .errors import ConfigurationError, UnavailableError
from .items import Address, Bridge, JoinedBy
from .model import Overlay
from .observed import Decision, Link, Observed

UNDECIDED: Final = "socket"  # the method that `auto` plans for until it has tried the underlay


@dataclass(frozen=True, slots=True)
class Target:
    """An overlay resolved on one host: the desired state and the observed state.

    ``vtep`` is the outer source address; ``method`` is how the groups are joined, never auto;
    ``foreign`` are the addresses of the underlay device that are not this overlay's: a group among
    them is used as it is. ``groups`` are those of the overlay once each, as text, in order.
    """

    overlay: Overlay
    observed: Observed
    vtep: IPAddress
    method: JoinedBy
    foreign: frozenset[str]
    groups: tuple[str, ...]

    def of(self, overlay: Overlay) -> Target:
        """Return the target of an overlay that differs in its segments alone."""
        return replace(self, overlay=overlay, groups=_groups(overlay))

    @property
    def device(self) -> str:
        """The name of the underlay device."""
        return self.overlay.underlay.device

    @property
    def link(self) -> Link:
        """The underlay device as it was observed."""
        return self.observed.links[self.device]

    @property
    def userspace(self) -> bool:
        """Whether the overlay is on the userspace datapath."""
        return self.overlay.datapath == "netdev"

    @property
    def underlay_bridge(self) -> str:
        """The bridge that has the underlay device, with the userspace datapath."""
        return underlay.bridge_of(self.device, self.observed)

    @property
    def underlay_port(self) -> str:
        """The underlay device's OpenFlow port there, as a match names it: LOCAL or a number."""
        return underlay.port_of(self.device, self.observed)

    @property
    def vteps(self) -> tuple[IPAddress, ...]:
        """The addresses of the device that peers may send to: the VTEP, then all others in order.

        A peer keeps to the former VTEP until it hears from the present one.
        """
        usable = _usable(self.overlay, self.observed.addresses)
        return (self.vtep, *sorted(usable.keys() - {self.vtep}))

    @property
    def metric(self) -> int:
        """The metric that marks addresses and routes of this overlay."""
        return ownership.metric(self.overlay.name)


def resolve(overlay: Overlay, observed: Observed) -> Target:
    """Return the overlay resolved on this host.

    ConfigurationError or UnavailableError if it has no usable VTEP.
    """
    return Target(
        overlay=overlay,
        observed=observed,
        vtep=vtep_of(overlay, observed.addresses),
        method=method_of(overlay, observed.decision),
        foreign=foreign_addresses(overlay, observed.addresses),
        groups=_groups(overlay),
    )


def _groups(overlay: Overlay) -> tuple[str, ...]:
    return tuple(map(str, overlay.flood_groups))


def tunnel_bridge_of(name: str, observed: Observed) -> Bridge | None:
    """Return the tunnel bridge of an overlay: that of its VXLAN port, or of its end of the patch.

    Without both ports the secure one of its bridges; None if it has none. An operator may set the
    fail_mode of its other bridge too.
    """
    names = ownership.port_names(name)
    for port_name in (names.vxlan, names.patch_int):
        port = observed.ports.get(port_name)
        if port is not None and port.owner == name and port.bridge in observed.bridges:
            return observed.bridges[port.bridge]
    patch = observed.ports.get(names.patch_tun)
    return next(
        (
            bridge
            for bridge in observed.bridges.values()
            if bridge.owner == name and bridge.fail_mode == "secure"
            if patch is None or patch.bridge != bridge.name
        ),
        None,
    )


def method_of(overlay: Overlay, decision: Decision | None) -> JoinedBy:
    """Return the desired method; for `auto` the decision for this underlay, else `UNDECIDED`."""
    if overlay.membership != "auto":
        return overlay.membership
    return decision.method if decision and decides(decision, overlay) else UNDECIDED


def decides(decision: Decision | None, overlay: Overlay) -> bool:
    """Return whether a decision of `auto` is for this overlay's device and address family."""
    underlay = (overlay.underlay.device, overlay.family)
    return decision is not None and (decision.device, decision.family) == underlay


def foreign_addresses(overlay: Overlay, addresses: Iterable[Address]) -> frozenset[str]:
    """Return the underlay device's addresses that do not bear the overlay's mark."""
    return frozenset(
        item.address
        for item in addresses
        if item.device == overlay.underlay.device and not ownership.is_ours(item, overlay.name)
    )


def vtep_of(overlay: Overlay, addresses: Iterable[Address]) -> IPAddress:
    """Return the outer source: the named one, or the device's first unicast of the family.

    Prefer permanent IPv6 addresses to deprecated and temporary ones (RFC 8981).
    ConfigurationError if the device does not have the named one, UnavailableError if it has none.
    """
    device, named = overlay.underlay.device, overlay.underlay.vtep
    addresses = tuple(addresses)
    usable = _usable(overlay, addresses)
    if named is None:
        found = [address for address, item in usable.items() if not item.duplicate]
        if not found:
            link_local = " (link-local addresses are not usable)" if overlay.family == 6 else ""
            raise UnavailableError(
                f"{device} has no IPv{overlay.family} address to send from{link_local}",
                reason="device", device=device,
            )  # fmt: skip
        return min(found, key=lambda address: usable[address].passing)
    if named not in usable:
        other = next((one.device for one in addresses if one.address == str(named)), "")
        elsewhere = f": {other} has it, and a VTEP is an address of the underlay device"
        raise ConfigurationError(
            f"{device} does not have {named}{elsewhere if other not in {'', device} else ''}",
            field="underlay.vtep",
        )
    if usable[named].duplicate:
        raise ConfigurationError(
            f"another host has {named} too: duplicate address detection on {device} found it",
            field="underlay.vtep",
        )
    return named


def _usable(overlay: Overlay, addresses: Iterable[Address]) -> Mapping[IPAddress, Address]:
    """Return the underlay device's addresses that can be an outer source."""
    return {
        address: item
        for item in addresses
        if item.device == overlay.underlay.device
        and (address := IPAddress(item.address)).version == overlay.family
        and not address.is_multicast()
        and not (address.version == 6 and address.is_link_local())
    }


def tentative_vtep(
    overlay: Overlay, addresses: Iterable[Address], link: Link | None
) -> IPAddress | None:
    """Return the VTEP address while duplicate address detection goes on, else None.

    ``link`` is the underlay device, None if it is missing. Detection is of IPv6 alone, and rests
    while the device is down.
    """
    addresses = tuple(addresses)
    if overlay.family == 4 or link is None or not link.up:
        return None
    try:
        vtep = vtep_of(overlay, addresses)
    except (ConfigurationError, UnavailableError):
        return None
    return vtep if _usable(overlay, addresses)[vtep].tentative else None
