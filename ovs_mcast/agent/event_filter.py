"""Filter events: which ones affect the overlay, and which may end a failure. Pure.

Devices, routes, rows and learned flows of others change all the time and are ignored. The full
resync every minute corrects misjudgements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..core import ownership
from ..core.events import EntryEvent, FlowEvent, Joined, KernelEvent, RowEvent, Rule, Watched
from ..core.items import Address, Route
from ..core.model import Overlay
from ..core.observed import Link
from ..core.pipeline_tables import CLASSIFY, DELIVER, FLOOD, GROUP, PEER, TAGS, UNICAST
from ..core.uplinks import Carriers
from .observer import Kind


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event that affects the overlay.

    ``wakes``: it is not caused by our own changes, and may end a failure. ``came_up``: the underlay
    can send again, because its link or one of its addresses came into use. ``moved`` is a device
    or port whose carrier or active link changed; the kind "failover" needs no reconcile.
    """

    kind: Kind | Literal["failover"]
    wakes: bool = False
    came_up: bool = False
    moved: str = ""


class EventFilter:
    """Filters for one overlay; remembers the last state of its device and addresses."""

    def __init__(self, overlay: Overlay) -> None:
        self._name = overlay.name
        self._device = overlay.underlay.device
        self._tunnel_bridge = overlay.tunnel_bridge
        self._guarded = overlay.bridge if overlay.guard else ""
        self._bridges = {overlay.bridge, overlay.tunnel_bridge, self._device}
        self._ports = set(ownership.port_names(overlay.name))
        self._groups = {str(group) for group in overlay.flood_groups}
        self._link: Link | None = None
        self._index = 0
        self._addresses: dict[tuple[str, ...], Address] = {}
        self._carriers = Carriers()
        self.watched: dict[str, tuple[Watched, ...]] = {}
        self.watch_underlay(self._device if overlay.datapath == "netdev" else "")

    def watch_underlay(self, bridge: str) -> None:
        """Watch the flows of the bridge that has the underlay device; empty for no such bridge."""
        self.watched = {
            self._tunnel_bridge: (
                *(Watched(table) for table in (CLASSIFY, TAGS, PEER, GROUP, DELIVER, FLOOD)),
                Watched(UNICAST, added=False),  # learn() adds flows there all the time
            )
        }
        if self._guarded:
            self.watched[self._guarded] = (Watched(CLASSIFY, added=False),)  # others' come and go
        if bridge:
            self.watched[bridge] = (Watched(CLASSIFY),)

    @property
    def seeded(self) -> bool:
        """Whether `seed` is not needed: before the first events, and after some were lost."""
        return self._carriers.seeded

    def seed(self, links: Mapping[str, Link]) -> None:
        """Take the devices that are there; later events show which carrier changed."""
        self._carriers.seed(links)

    def row(self, event: RowEvent) -> Trigger | None:
        """Filter a row of Open vSwitch's database."""
        if not event.table:
            return Trigger("ovsdb", wakes=True)
        if event.table == "Port" and "bond_active_slave" in event.columns:
            return Trigger("failover", moved=event.name)
        if event.columns == {"ports"} or event.table == "Open_vSwitch":
            return None  # a port that is added to a bridge has rows of its own
        ours = event.owner == self._name or event.name in self._ports | self._bridges
        rival = event.table == "Interface" and event.type == "vxlan"
        bond = "bond_mode" in event.columns
        return Trigger("ovsdb") if ours or rival or bond else None

    def flow(self, event: FlowEvent) -> Trigger | None:
        """Filter a flow: ours anywhere, any on the tunnel bridge; learned flows are ignored."""
        ours = ownership.is_cookie(event.cookie, self._name)
        if event.lost or (ours and not ownership.is_learned(event.cookie)):
            return Trigger("flow")
        return Trigger("flow") if event.bridge == self._tunnel_bridge and not ours else None

    def kernel(self, event: KernelEvent) -> Trigger | None:
        """Filter a link, address, route, rule or membership of the network namespace."""
        item = event.item
        if item is None:
            self._link = None
            self._addresses.clear()
            self._carriers.clear()
            return Trigger("overflow", wakes=True, moved=self._device)
        match item:
            case Link():
                trigger = self._on_link(item, event.gone, event.index)
                if self._carriers.changed(item, gone=event.gone):
                    return replace(trigger or Trigger("failover"), moved=item.name)
                return trigger
            case Address():
                return self._on_address(item, event.gone)
            case Route():
                ours = ownership.is_ours(item, self._name) or item.destination in self._groups
                return Trigger("route") if ours else None
            case Joined():
                left = event.gone and item.device == self._device and item.group in self._groups
                return Trigger("membership") if left else None
            case Rule():
                return Trigger("rule")

    def _on_link(self, link: Link, gone: bool, index: int) -> Trigger | None:
        if link.name != self._device:
            if index and index == self._index:  # the underlay was renamed
                self._link, self._index = None, 0
                return Trigger("link", wakes=True)
            rival = link.udp_port is not None and not link.name.startswith("vxlan_sys_")
            return Trigger("link", wakes=gone) if rival else None
        self._index = 0 if gone else index
        before, self._link = self._link, None if gone else link
        if before == self._link:
            return None  # statistics: nothing to repair
        came_up = not gone and link.up and (before is None or not before.up)
        return Trigger("link", wakes=True, came_up=came_up)

    def _on_address(self, address: Address, gone: bool) -> Trigger | None:
        if address.device != self._device:
            return None
        before = self._addresses.pop(address.key, None)
        if not gone:
            self._addresses[address.key] = address
            if before == address and before.tentative == address.tentative:
                return None  # a lifetime that a router advertisement renews
        came_up = before is not None and before.tentative and not gone and not address.tentative
        return Trigger("address", came_up=came_up)

    def entry(self, event: EntryEvent, rundir: Path) -> Trigger | None:
        """Filter an entry of Open vSwitch's run directory, or of its parent."""
        if event.directory != rundir:
            at = (event.directory, event.name) == (rundir.parent, rundir.name)
            return Trigger("vswitchd", wakes=True) if at else None
        name = event.name
        # The daemon makes it after its pid file, which every ovs-appctl opens for writing.
        daemon = name.startswith(("ovs-vswitchd.", "ovsdb-server.")) and name.endswith(".ctl")
        if not name or name == "db.sock" or daemon:
            return Trigger("vswitchd", wakes=True)
        if name == f"ovs-mcast-{self._name}.keeper":
            return Trigger("membership")
        if name.removesuffix(".mgmt") in self.watched and name.endswith(".mgmt"):
            return Trigger("vswitchd")
        return None
