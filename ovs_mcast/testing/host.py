"""A Host on a machine in memory: the same logic, without any access to this computer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from netaddr import IPNetwork

from ..core.changes import Change
from ..core.fields import Datapath
from ..core.flow_text import segments_of
from ..core.items import Address, Bridge, Flow, GroupMembership, Item, Port, Route
from ..core.observed import ArpSettings, Limits, Link
from ..host.backend import Backend
from ..host.host import Host
from ..host.platform import Platform
from .events import RUNDIR, EventfulLinux, EventfulOpenVSwitch
from .faults import FAULTS, Fault, Lasting
from .happenings import HAPPENINGS, Happening, Underlay, happen
from .kernel_adapters import FakeKeeper, FakeKeepers, FakeMemberships, FakeNetlink
from .ovs_adapters import FakeOpenFlow, FakeOvsdb, FakeVswitchd
from .system import FakeSystem

_NIC_MAC = "02:00:00:00:00:01"


class FakeHost(Host):
    """A Host whose Linux and Open vSwitch are in memory, with faults by name.

    All of `Host` is the code that runs on real machines; the same contract tests pass on
    both. ``device`` is the underlay's, by default eth0; on the userspace datapath (``netdev``) it
    is the bridge that holds the NIC eth0, by default br-phy. ``addresses`` are its own, with their
    prefix lengths. The machine has no clock: `elapse` lets time pass.

    >>> import ovs_mcast as om
    >>> overlay = om.Overlay(underlay={"device": "eth0"}, membership="socket", segments=[
    ...     {"vni": 100, "group": "239.0.0.1"}])
    >>> host = FakeHost(device="eth0", addresses=["10.0.0.1/24"])
    >>> host.reconcile(overlay)[100].send_path
    'wire'
    >>> sorted(host.members), host.segments
    (['239.0.0.1'], {100: (100, '239.0.0.1')})
    >>> host.reconcile(overlay).changed
    False
    """

    faults: Mapping[Fault, str] = FAULTS
    happenings: Mapping[Happening, str] = HAPPENINGS

    def __init__(
        self,
        device: str | None = None,
        addresses: Iterable[str] = ("10.0.0.1/24",),
        datapath: Datapath = "system",
        *,
        mtu: int = 1500,
        mac: str = _NIC_MAC,
    ) -> None:
        self.device = device or ("br-phy" if datapath == "netdev" else "eth0")
        linux = EventfulLinux()
        self._system = FakeSystem(linux, EventfulOpenVSwitch(linux))
        own = tuple(self._own(address) for address in addresses)
        self._underlay = Underlay(self._system, self.device, own)
        linux.add_link(Link(self.device, mtu, mac, True))
        if datapath == "netdev":
            linux.add_link(Link("eth0", mtu, mac, True))
            self.put(Bridge(self.device, "netdev"), Port(self.device, "eth0", ""))
        self._underlay.readdress()
        super().__init__(fake_backend(self._system))

    def _own(self, text: str) -> Address:
        network = IPNetwork(text)
        return Address(self.device, str(network.ip), network.prefixlen)

    def another(self) -> Host:
        """Return one more Host on the same machine: another process, or this one started anew.

        >>> import ovs_mcast as om
        >>> host = FakeHost()
        >>> _ = host.reconcile(om.Overlay(underlay={"device": "eth0"}, membership="socket"))
        >>> _ = host.another().add(om.Segment(vni=100, group="239.0.0.1"))
        >>> [segment.vni for segment in host.overlay().segments]
        [100]
        """
        return Host(fake_backend(self._system))

    # Faults and events

    def fault(self, name: Fault, *, times: int | None = None) -> AbstractContextManager[object]:
        """Let operations fail from now on, so many times or until `repair`; `faults` has the names.

        As a `with` block the fault ends with the block. ValueError for an unknown name.

        >>> import ovs_mcast as om
        >>> overlay = om.Overlay(underlay={"device": "eth0"}, membership="socket")
        >>> host = FakeHost()
        >>> with host.fault("bundle-refused"):
        ...     host.reconcile(overlay)
        Traceback (most recent call last):
            ...
        ovs_mcast.errors.ApplyError: br-int: OFPT_ERROR (OF1.4): OFPBFC_MSG_FAILED (5 done, ...
        >>> host.reconcile(overlay).verified
        True
        """
        self._system.faults.set(name, times)
        return Lasting(self._system.faults, name)

    def repair(self, *names: Fault) -> None:
        """Lift these faults, or all of them, and a pending `interrupt_after`."""
        self._system.faults.lift(*names)

    def interrupt_after(self, changes: int) -> None:
        """Let a run make this many more changes, then end it as kill -9 would: raise Interrupted.

        Of one transaction or bundle all is made or nothing.

        >>> import ovs_mcast as om
        >>> overlay = om.Overlay(underlay={"device": "eth0"}, membership="socket")
        >>> host = FakeHost()
        >>> host.interrupt_after(0)
        >>> host.reconcile(overlay)
        Traceback (most recent call last):
            ...
        ovs_mcast.testing.faults.Interrupted: killed
        >>> host.reconcile(overlay).verified
        True
        """
        self._system.faults.interrupt_after(changes)

    def happens(self, name: Happening) -> None:
        """Let an external event happen; `happenings` has the names. ValueError for an unknown one.

        >>> import ovs_mcast as om
        >>> overlay = om.Overlay(underlay={"device": "eth0"}, membership="socket", segments=[
        ...     {"vni": 100, "group": "239.0.0.1"}])
        >>> host = FakeHost()
        >>> _ = host.reconcile(overlay)
        >>> host.happens("link-flap")
        >>> for change in host.reconcile(overlay).changes:
        ...     print(change)
        + route 239.0.0.1 dev eth0 src 10.0.0.1: missing
        """
        with self._system.lock:
            happen(name, self._underlay)
            self._system.feed.publish()

    def elapse(self, seconds: float) -> None:
        """Let time pass on the machine: duplicate address detection ends after 2 seconds."""
        with self._system.lock:
            self._system.linux.elapse(seconds)
            self._system.feed.publish()

    # Items of others

    def put(self, *items: Item | Link, detect: bool = False) -> None:
        """Put items in place as another program does: those of ovs_mcast.testing.

        A Link that is there takes the carrier and the active link of this one.
        OSError where the kernel refuses one. ``detect`` leaves IPv6 addresses under duplicate
        address detection, until time has passed.
        """
        with self._system.lock:
            for item in items:
                self._put(item, detect)
            self._system.feed.publish()

    def take(self, *items: Item | Link) -> None:
        """Take items away as another program does."""
        linux, switch = self._system.linux, self._system.switch
        with self._system.lock:
            for item in items:
                if isinstance(item, Link):
                    linux.remove_link(item.name)
                elif isinstance(item, Address):
                    linux.remove_address(item)
                elif isinstance(item, Route):
                    linux.remove_route(item)
                elif isinstance(item, Flow):
                    switch.forget([item])
                elif isinstance(item, GroupMembership):
                    linux.leave(item)
                else:
                    switch.commit([Change("remove", item, "taken away")])
            self._system.feed.publish()

    def _put(self, item: Item | Link, detect: bool) -> None:
        linux, switch = self._system.linux, self._system.switch
        if isinstance(item, Link) and linux.links.get(item.name) == item:
            linux.set_carrier(item)
        elif isinstance(item, Link):
            linux.add_link(item)
        elif isinstance(item, Address):
            linux.add_address(item, detect=detect)
        elif isinstance(item, Route):
            linux.add_route(item)
        elif isinstance(item, Flow):
            switch.flows[item.key] = item
        elif isinstance(item, GroupMembership):
            linux.join(item, item.device, item.groups)
        else:
            switch.commit([Change("add", item, "theirs")])

    def platform(self) -> Platform:
        """Return the machine for an agent's loop, with its events."""
        return fake_platform(self._system)

    @property
    def limits(self) -> Limits:
        """net.ipv4.igmp_max_memberships and net.core.optmem_max of the machine; can be set."""
        return self._system.linux.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._system.linux.limits = limits

    @property
    def arp_settings(self) -> dict[str, ArpSettings]:
        """Sysctls by device that decide whether it answers ARP; Linux's defaults where missing."""
        return self._system.linux.arp

    # For assertions

    @property
    def made(self) -> tuple[Change, ...]:
        """Every change that runs have made on this machine, in order."""
        return tuple(self._system.made)

    @property
    def members(self) -> frozenset[str]:
        """The groups of which the underlay device is a member."""
        return self._system.linux.joined(self.device)

    @property
    def segments(self) -> Mapping[int, tuple[int, str]]:
        """Return the segments that the flows carry: VNI to (VLAN, group)."""
        found = segments_of(self._system.switch.flows.values())
        return {vni: (vlan, str(group)) for vni, (vlan, group) in sorted(found.items())}


def fake_backend(system: FakeSystem) -> Backend:
    """Return the machine for a Host."""
    linux = system.linux
    return Backend(
        ovsdb=FakeOvsdb(system),
        openflow=FakeOpenFlow(system),
        netlink=FakeNetlink(system),
        vswitchd=lambda: FakeVswitchd(system),
        limits=lambda: linux.limits,
        arp_settings=linux.arp_settings,
        joined=linux.joined,
        is_member=lambda device, group: group in linux.joined(device),
        memberships=lambda device: FakeMemberships(system, device),
        send_path=system.send_path,
        keeper=lambda overlay: FakeKeeper(system, overlay),
        flow_events=system.feed.flows,
        sleep=system.sleep,
    )


def _counted_flows(
    system: FakeSystem, bridge: str, cookie: int, mask: int, _seconds: int
) -> list[str] | None:
    with system.lock:
        away = system.faults.strikes("vswitchd-away") or bridge not in system.switch.bridges
        return None if away else list(system.switch.dump(bridge, cookie, mask, counted=True))


def fake_platform(system: FakeSystem) -> Platform:
    """Return the machine for an agent's loop."""
    keepers = FakeKeepers(system)
    return Platform(
        rundir=RUNDIR,
        keepers=keepers,
        connect=lambda: replace(fake_backend(system), keeper=keepers.keeper),
        kernel_events=system.feed.kernel,
        directory_events=system.feed.directories,
        counted_flows=partial(_counted_flows, system),
        joined=system.linux.joined,
        report=lambda _device, _reports: None,
        igmp_version=lambda _device: 3,
    )
