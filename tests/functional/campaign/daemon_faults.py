"""Daemons killed or stopped: those of Open vSwitch, and our keeper."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ovs_mcast.lab.namespace import RUNDIR
from tests.functional.campaign.fault import Fault, pause, put_addresses, scripted
from tests.functional.campaign.site import Site


def daemon_faults() -> Iterator[Fault]:
    yield Fault("ovs-vswitchd killed", _vswitchd_killed)
    yield Fault("ovsdb-server killed", _ovsdb_killed, visible=False)
    yield Fault("both daemons killed", _both_killed)
    yield Fault("run directory made anew", _directory_made_anew)
    yield Fault("ovs-vswitchd stands still", _vswitchd_stopped, visible=False)
    yield scripted(
        "keeper killed",
        "for one in /proc/[0-9]*; do grep -qs ovs-mcast-keep $one/comm || continue;"
        " kill -9 ${{one#/proc/}}; while [ -e $one/fd/0 ]; do :; done; done",
        on=lambda site: bool(site.look(["keepers"])["keepers"]),
    )


def _vswitchd_killed(site: Site, rng: Random) -> None:
    site.host.stop_vswitchd()
    pause(rng)
    site.host.start_vswitchd()
    put_addresses(site)


def _ovsdb_killed(site: Site, rng: Random) -> None:
    site.host.stop_ovsdb()
    pause(rng)
    site.host.start_ovsdb()


def _both_killed(site: Site, rng: Random) -> None:
    stops = [site.host.stop_vswitchd, site.host.stop_ovsdb]
    rng.shuffle(stops)
    for stop in stops:
        stop()
    pause(rng)
    site.host.start_ovsdb()
    site.host.start_vswitchd()
    put_addresses(site)


def _directory_made_anew(site: Site, rng: Random) -> None:
    """As systemd does at a restart: RuntimeDirectory= without RuntimeDirectoryPreserve=."""
    site.host.stop_vswitchd()
    site.host.stop_ovsdb()
    site.sh(f"mv {RUNDIR}/conf.db /run; rm -r {RUNDIR}")
    pause(rng)
    site.sh(f"mkdir {RUNDIR}; mv /run/conf.db {RUNDIR}")
    site.host.start_ovsdb()
    site.host.start_vswitchd()
    put_addresses(site)


def _vswitchd_stopped(site: Site, rng: Random) -> None:
    process = site.host.path(f"{RUNDIR}/ovs-vswitchd.pid").read_text().strip()
    site.sh(f"kill -STOP {process}")
    pause(rng)
    site.sh(f"kill -CONT {process}")
