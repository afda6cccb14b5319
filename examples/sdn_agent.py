#!/usr/bin/env python3
"""A small SDN agent: keeps one segment on this host for each file of a directory.

    mkdir /etc/segments; echo '{"vni": 100, "group": "239.0.0.1"}' >/etc/segments/web.json
    sudo python3 examples/sdn_agent.py --underlay eth0 /etc/segments    # a Python with ovs_mcast

A file is YAML or JSON with vni, vlan and group, as in a configuration; an invalid file is logged
and skipped. The agent applies each change of the directory at once and reconciles the whole overlay
every ten seconds; it retries what fails. SIGTERM ends the agent; the overlay runs on, its groups
held by a keeper.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

import yaml

import ovs_mcast as om

LOG = logging.getLogger("sdn_agent")
POLL = 0.5  # seconds between two readings of the directory, and before the first retry
RESYNC = 10.0  # seconds between two reconciles of the whole overlay
BACKOFF_MAX = 30.0  # seconds between two retries, at most


class SdnAgent:
    """Keeps the segments of an overlay equal to the files of a directory."""

    def __init__(self, directory: Path, underlay: str, datapath: str) -> None:
        self.directory = directory
        device = om.Underlay(device=underlay)
        self.overlay = om.Overlay(name="sdn", underlay=device, datapath=datapath)
        self.bad: dict[Path, str] = {}  # file to its last logged error, to log each one once
        self.said: set[str] = set()  # problems that are logged already
        self.pause = POLL

    def wanted(self) -> dict[int, om.Segment]:
        """Return segments by VNI, without files that are invalid or contradict an earlier one."""
        found: dict[int, om.Segment] = {}
        bad: dict[Path, str] = {}
        for path in sorted(self.directory.glob("[!.]*.*")):
            try:
                segment = om.Segment(**yaml.safe_load(path.read_text()))
                taken = {one.vlan for one in found.values()}
                if segment.group is None or segment.vni in found or segment.vlan in taken:
                    raise ValueError("no group, or a VNI or VLAN that an earlier file has")
                found[segment.vni] = segment
            except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
                bad[path] = " ".join(str(error).split())
                if self.bad.get(path) != bad[path]:
                    LOG.warning("skipping %s: %s", path.name, bad[path])
        self.bad = bad
        return found

    def keep(self, host: om.Host, ended: threading.Event) -> None:
        """Reconcile, then apply changes of the directory, until one fails or the agent ends."""
        while not ended.is_set():
            now = self.wanted()
            status = host.reconcile(self.overlay.replace(segments=list(now.values())))
            LOG.info("%d segments, %d changes", len(now), len(status.changes))
            for problem in set(status.problems) - self.said:
                LOG.warning("%s", problem)
            self.said = set(status.problems)
            self.pause = POLL
            for _ in range(int(RESYNC / POLL)):
                if ended.wait(POLL):
                    return
                self.change(host, now, self.wanted())

    def change(
        self, host: om.Host, now: dict[int, om.Segment], wanted: dict[int, om.Segment]
    ) -> None:
        """Apply what differs, one call for each segment; ``now`` follows."""
        for vni in now.keys() - wanted.keys():
            host.remove(vni, name=self.overlay.name)
            LOG.info("removed segment %d", now.pop(vni).vni)
        for vni, segment in wanted.items():
            if now.get(vni) != segment:
                now[vni] = segment
                try:
                    status = host.add(segment, name=self.overlay.name)
                    LOG.info("segment %d is in %s", vni, status[vni].group)
                except om.ConfigurationError as error:  # until its file changes, or the next resync
                    LOG.error("segment %d is refused: %s", vni, error)

    def run(self, ended: threading.Event) -> None:
        """Keep the overlay until ``ended`` is set; log a failure once and retry with backoff.

        What the host refuses as it is now is tried again as seldom as a whole resync.
        """
        logged = ""
        while not ended.is_set():
            try:
                with om.connect() as host:
                    self.keep(host, ended)
            except om.OvsMcastError as error:
                refused = isinstance(error, om.ConfigurationError)
                if str(error) != logged:
                    LOG.error("%s: %s", error, "change it" if refused else "retrying")
                logged = str(error)
                ended.wait(BACKOFF_MAX if refused else self.pause)
                self.pause = min(2 * self.pause, BACKOFF_MAX)


def main() -> None:
    """Keep the overlay that the arguments name, until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="one file for each segment")
    parser.add_argument("--underlay", required=True, help="device that carries the tunnels")
    parser.add_argument("--datapath", default="system", choices=["system", "netdev"])
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)  # ovs_mcast's warnings, too
    logging.getLogger("ovsdbapp").setLevel(logging.CRITICAL)  # its failures are errors of ours
    LOG.setLevel(logging.INFO)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        SdnAgent(given.directory, given.underlay, given.datapath).run(ended)
    except om.ConfigurationError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
