#!/usr/bin/env python3
"""A small SDN agent: each file of a directory is a segment, kept on this machine while it is there.

    mkdir /etc/segments; echo '{"vni": 100, "group": "239.0.0.1"}' >/etc/segments/web.json
    sudo examples/sdn_agent.py --underlay eth0 /etc/segments

A file is YAML or JSON: vni, vlan, group, as in a configuration; a bad one is said and passed over.
What fails is tried again, and all is looked at every ten seconds. SIGTERM ends it; the overlay runs
on, its groups held by a keeper.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))
try:
    import yaml

    import ovs_mcast as om
except ImportError:  # another Python has what ovs_mcast needs: the one that is named, or .venv's
    python = Path(os.environ.get("OVS_MCAST_PYTHON", TOP / ".venv" / "bin" / "python"))
    if not python.exists() or python.absolute() == Path(sys.executable).absolute():
        raise
    os.execv(python, [str(python), *sys.argv])

LOG = logging.getLogger("sdn_agent")
# Seconds: between looks at the directory, at the whole machine, between tries while it fails.
LOOK, WHOLE, LONGEST = 0.5, 10.0, 30.0


class SdnAgent:
    """Keeps an overlay as the files of a directory say."""

    def __init__(self, directory: Path, underlay: str, datapath: str) -> None:
        self.directory = directory
        device = om.Underlay(device=underlay)
        self.overlay = om.Overlay(name="sdn", underlay=device, datapath=datapath)
        self.bad: dict[Path, str] = {}  # what was said of each, so that it is said once
        self.pause = LOOK

    def wanted(self) -> dict[int, om.Segment]:
        """VNI to segment, of the files that can be read and do not contradict earlier ones."""
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
                    LOG.warning("%s is passed over: %s", path.name, bad[path])
        self.bad = bad
        return found

    def keep(self, host: om.Host, ended: threading.Event) -> None:
        """Bring about all of it, then each file that comes or goes, until something fails."""
        while not ended.is_set():
            now = self.wanted()
            overlay = om.Overlay(**(dict(self.overlay) | {"segments": list(now.values())}))
            LOG.info("%d segments, %d changes", len(now), len(host.reconcile(overlay).changes))
            self.pause = LOOK
            for _ in range(int(WHOLE / LOOK)):
                if ended.wait(LOOK):
                    return
                wanted = self.wanted()
                for vni in [vni for vni, one in now.items() if wanted.get(vni) != one]:
                    host.remove(vni)
                    LOG.info("segment %d is gone", now.pop(vni).vni)
                for vni in wanted.keys() - now.keys():
                    LOG.info("segment %d in %s", vni, host.add(wanted[vni])[vni].group)
                    now[vni] = wanted[vni]

    def run(self, ended: threading.Event) -> None:
        """Until ``ended`` is set; whatever fails is said once and tried again, ever more slowly."""
        said = ""
        while not ended.is_set():
            try:
                with om.connect() as host:
                    self.keep(host, ended)
            except om.OvsMcastError as error:
                if str(error) != said:
                    LOG.error("%s: trying again", error)
                said = str(error)
                ended.wait(self.pause)
                self.pause = min(2 * self.pause, LONGEST)


def main() -> None:
    """Read the arguments, and keep the overlay until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="one file for each segment")
    parser.add_argument("--underlay", required=True, help="device that carries the tunnels")
    parser.add_argument("--datapath", default="system", choices=["system", "netdev"])
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.CRITICAL)
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
