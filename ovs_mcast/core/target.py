"""An overlay resolved on one host: its VTEP address, its membership method, foreign addresses."""

from __future__ import annotations

from collections.abc import Iterator

from netaddr import IPAddress

from ..errors import ConfigurationError
from . import ownership
from .items import Address
from .model import Overlay
from .observed import Observed

UNDECIDED = "socket"  # what `auto` plans for before it has looked


def method_of(overlay: Overlay, observed: Observed) -> str:
    """The method that is wanted; for `auto` what was decided for this device and family."""
    if overlay.membership != "auto":
        return overlay.membership
    decision = observed.decision
    if decision is None or not decided(overlay, observed):
        return UNDECIDED
    return decision.method


def decided(overlay: Overlay, observed: Observed) -> bool:
    """Whether the decision of `auto` that was seen is one for this underlay."""
    decision = observed.decision
    return decision is not None and (decision.device, decision.family) == (
        overlay.underlay.device,
        overlay.family,
    )


def others_addresses(overlay: Overlay, observed: Observed) -> set[str]:
    """Groups that the device has as addresses which are not ours; they are used as they are."""
    return {
        item.address
        for item in observed.addresses
        if item.device == overlay.underlay.device and not ownership.is_ours(item, overlay.name)
    }


def vtep_of(overlay: Overlay, observed: Observed) -> IPAddress:
    """The outer source: the one that is named, or the device's first unicast of the family.

    Of IPv6 addresses, one that is deprecated or temporary (RFC 8981) comes after those that stay.
    """
    device, named = overlay.underlay.device, overlay.underlay.vtep
    usable = {
        address: item
        for item in observed.addresses
        if item.device == device
        and (address := IPAddress(item.address)).version == overlay.family
        and not address.is_multicast()
        and not (address.version == 6 and address.is_link_local())
    }
    if named is None:
        found = [address for address, item in usable.items() if not item.duplicate]
        if not found:
            none = "" if overlay.family == 4 else " (a link-local one does not say on which link)"
            raise ConfigurationError(
                f"{device} has no IPv{overlay.family} address to send from{none}",
                field="underlay.vtep",
            )
        return min(found, key=lambda address: usable[address].passing)
    if named not in usable:
        raise ConfigurationError(f"{device} does not have {named}", field="underlay.vtep")
    if usable[named].duplicate:
        raise ConfigurationError(
            f"another host has {named} too: duplicate address detection on {device} found it",
            field="underlay.vtep",
        )
    return named


def tentative_vtep(overlay: Overlay, observed: Observed) -> IPAddress | None:
    """The VTEP, if it is not yet sure that nobody else has it; None too if there is none."""
    device = overlay.underlay.device
    link = observed.links.get(device)
    if overlay.family == 4 or link is None or not link.up:
        return None
    try:
        vtep = vtep_of(overlay, observed)
    except ConfigurationError:
        return None
    held = (item.device == device and item.tentative for item in _with(vtep, observed))
    return vtep if any(held) else None


def _with(address: IPAddress, observed: Observed) -> Iterator[Address]:
    return (item for item in observed.addresses if IPAddress(item.address) == address)
