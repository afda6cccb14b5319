"""Build the Backend of this machine, and a Host on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from .. import probe
from ..adapters import nft, openflow, proc, processes, report_socket, vswitchd
from ..adapters.flow_monitor import FlowEvents
from ..adapters.inotify import Inotify
from ..adapters.network_namespace import NetworkNamespace
from ..adapters.ovsdb import connection
from ..adapters.rtnetlink import client
from ..adapters.rtnetlink.monitor import NetlinkEvents
from ..core.events import Watched
from ..core.items import Bridge
from ..errors import ConfigurationError, UnavailableError
from ..membership import device_groups, in_process, keeper
from .agent_guard import keeping_agent
from .backend import Backend, Holding
from .host import Host
from .platform import Platform


def connect(
    db: str | None = None,
    *,
    rundir: str | Path | None = None,
    holding: Holding = "keeper",
    timeout: float = connection.CONNECT,
    netns: str | Path | int | None = None,
) -> Host:
    """Return a Host for the Open vSwitch of this machine and one network namespace.

    ``db`` is the OVSDB remote, unix:FILE (unix:/run/openvswitch/db.sock) or tcp:ADDRESS:PORT; the
    sockets of ovs-vswitchd are in ``rundir``, by default the directory of a unix: ``db``, else
    $OVS_RUNDIR. UnavailableError if Open vSwitch does not run, or does not answer in ``timeout``
    seconds. ovs-vswitchd may take 30 s to follow a change, 60 s for one bundle of flows.

    ``netns`` is the network namespace of ovs-vswitchd: a name of `ip netns`, a path, a descriptor;
    by default that of the thread that calls a method. Each call enters it, and leaves it again.

    ``holding`` selects who holds the groups of the method `socket`: "keeper", a process that
    outlives `close`; or "here", this process, until `close` or `hand_over`.

    >>> with om.connect() as host:
    ...     host.overlays()
    []
    """
    if netns is None:
        return Host(open_backend(db, rundir, holding, timeout))
    namespace = NetworkNamespace(netns)
    try:
        with namespace.entered():
            opened = open_backend(db, rundir, holding, timeout)
    except BaseException:
        namespace.close()
        raise
    return Host(replace(opened, namespace=namespace.entered, close_namespace=namespace.close))


_REMOTE = re.compile(r"unix:.+|tcp:(\[[\da-fA-F:.]+\]|[\w.-]+):\d{1,5}")


def this_platform(db: str | None, store: in_process.Store | None = None) -> Platform:
    """Return the Platform of this machine; ``store`` keeps duplicates of its sockets."""
    rundir = rundir_of(db)
    keepers = in_process.InProcessKeepers(rundir, store)
    flows = openflow.OpenFlow(rundir)

    def connected() -> Backend:
        opened = open_backend(db, None, "keeper")
        return replace(opened, keeper=keepers.keeper, agent=lambda _overlay: None)

    def counted_flows(bridge: str, cookie: int, mask: int, patience: int) -> list[str] | None:
        try:
            return flows.dump_counted_by_name(bridge, cookie, mask, patience)
        except (openflow.OpenFlowError, UnavailableError):
            return None

    return Platform(
        rundir=rundir,
        keepers=keepers,
        connect=connected,
        kernel_events=NetlinkEvents,
        directory_events=Inotify,
        counted_flows=counted_flows,
        joined=proc.joined,
        report=report_socket.send,
        igmp_version=proc.igmp_version,
    )


def open_backend(
    db: str | None = None,
    rundir: str | Path | None = None,
    holding: Holding = "keeper",
    timeout: float = connection.CONNECT,
) -> Backend:
    """Open the Backend of this machine; the arguments are those of `connect`."""
    if holding not in get_args(Holding):
        raise ConfigurationError(f"{holding!r} is neither keeper nor here", field="holding")
    check_remote(db, "db")
    sockets = Path(rundir) if rundir else rundir_of(db)
    with vswitchd.Vswitchd(sockets):
        rows = connection.Ovsdb(db or f"unix:{sockets}/db.sock", timeout)
    threads = in_process.InProcessKeepers(sockets)

    def flow_events(bridge: Bridge, watched: Sequence[Watched]) -> FlowEvents:
        return FlowEvents(sockets, bridge.name, watched, openflow.version_of(bridge))

    return Backend(
        ovsdb=rows,
        openflow=openflow.OpenFlow(sockets),
        netlink=client.Netlink(),
        vswitchd=partial(vswitchd.Vswitchd, sockets),
        limits=proc.limits,
        arp_settings=proc.arp_settings,
        joined=proc.joined,
        is_member=proc.is_member,
        memberships=device_groups.DeviceGroups,
        send_path=probe.send_path,
        flow_events=flow_events,
        udp_holders=processes.udp_holders,
        reverse_path_drops=proc.reverse_path_drops,
        rule_set=nft.Nft().rule_set,
        agent=partial(keeping_agent, sockets),
        keeper=threads.keeper if holding == "here" else partial(keeper.Keeper, sockets),
        hand_over=threads.hand_over,
        release_groups=threads.close,
        connected=True,
    )


def check_remote(db: str | None, field: str) -> None:
    """Raise ConfigurationError for a connection method (ovsdb(7)) that is not supported."""
    if db is not None and not _REMOTE.fullmatch(db):
        raise ConfigurationError(f"{db!r} is neither unix:FILE nor tcp:ADDRESS:PORT", field=field)


def rundir_of(db: str | None) -> Path:
    """Return the directory of ovs-vswitchd's sockets: that of a unix: ``db``, else $OVS_RUNDIR."""
    if db is not None and db.startswith("unix:"):
        return Path(db.removeprefix("unix:")).parent
    return vswitchd.run_directory()
