"""A host of the lab, runs of setup on it, and its whole state as comparable lines."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovs_mcast.lab import Host
from tests.functional.warm import Result, Run, Warm

State = dict[str, list[str]]

_SCRIPT = r"""
section() { printf '\n@@ %s\n' "$1"; }
section daemons; for name in ovsdb-server ovs-vswitchd; do pidof $name >&2 && echo $name; done
section links; ip -json -details link show
section addresses; ip -json -details address show
section routes; ip -json -details route show table all; ip -6 -json -details route show table all
section rules; ip -json rule show; ip -6 -json rule show
section igmp; cat /proc/net/igmp
section igmp6; cat /proc/net/igmp6
section sysctl; grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf \
    /proc/sys/net/ipv4/igmp_max_memberships /proc/sys/net/core/optmem_max
section ovsdb; ovsdb-client --timeout=20 --format=json dump unix:$OVS_RUNDIR/db.sock
if [ -S "$OVS_RUNDIR"/ovs-vswitchd.$(cat "$OVS_RUNDIR"/ovs-vswitchd.pid).ctl ]; then
    for bridge in $(ovs-vsctl --no-wait --timeout=20 list-br); do
        section "flows $bridge"
        ovs-ofctl --protocols=OpenFlow14 --no-stats dump-flows "$bridge"
        ovs-ofctl --protocols=OpenFlow14 dump-groups "$bridge" | tail -n +2
    done
fi
true
"""
_FLOW = re.compile(r" *(cookie=\S+) duration=([\d.]+)s, .*n_packets=(\d+), n_bytes=\d+, (.*)")
# Values that change by themselves. The neighbour caches are not part of the state.
_VOLATILE_COLUMNS = {"next_cfg", "cur_cfg", "statistics", "link_resets"}
# Of a Controller: ovs-vswitchd writes how its attempts to connect go, every few seconds.
_VOLATILE_OF_CONTROLLERS = {"is_connected", "role", "status"}
_VOLATILE_KEYS = {"valid_life_time", "preferred_life_time"}


@dataclass(frozen=True, slots=True)
class Node:
    """A host, and the fork server that runs setup on it."""

    host: Host
    warm: Warm

    @property
    def source(self) -> str:
        """The end of our routes to groups: Open vSwitch ignores a route that names its source."""
        return "" if self.host.kind == "netdev" else f" src {self.host.vtep}"

    def setup(self, *arguments: str, **options: Any) -> Result:
        """Run setup and return its result, of any exit status."""
        return self.warm.setup(self.host, *arguments, **options)

    def start(self, *arguments: str, **options: Any) -> Run:
        """Start setup."""
        return self.warm.start(self.host, *arguments, **options)

    def built(self, *arguments: str, **options: Any) -> Result:
        """Run setup; fail unless it succeeds."""
        result = self.setup(*arguments, **options)
        assert (result.status, result.report["verified"]) == (0, True), result.stderr
        return result

    def torn_down(self, name: str = "default") -> Result:
        """Tear an overlay down; fail unless that succeeds."""
        return self.built("--teardown", "--name", name)

    def state(self) -> State:
        """Return the state of the host."""
        return state(self.host)

    def sh(self, script: str) -> str:
        """Run a shell script with `sh -e` and return its stdout."""
        return self.host.run("sh", "-ec", script).stdout

    def next_cfg(self) -> int:
        """Return the number of transactions that asked ovs-vswitchd to follow."""
        return int(self.host.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg"))

    def flow_stats(self, bridge: str) -> dict[str, tuple[float, int]]:
        """Return the age in seconds and the packets of each flow."""
        return {
            f"{found[1]} {found[4]}": (float(found[2]), int(found[3]))
            for line in self.host.ofctl("dump-flows", bridge).splitlines()
            if (found := _FLOW.match(line))
        }


def state(host: Host) -> State:
    """Return links, addresses, routes, rules, memberships, sysctls, OVSDB rows and flows of a host.

    Each section is a sorted list of lines with all attributes.
    """
    shown = host.run("sh", "-c", _SCRIPT).stdout
    sections: State = {}
    for part in shown.split("\n@@ ")[1:]:
        name, _, text = part.partition("\n")
        sections[name] = sorted(_lines(name, text))
    return sections


def difference(before: State, after: State) -> list[str]:
    """Return removed lines with a minus, and added lines with a plus."""
    found = []
    for section in sorted(before.keys() | after.keys()):
        old, new = before.get(section, []), after.get(section, [])
        found += [f"- {section}: {line}" for line in old if line not in new]
        found += [f"+ {section}: {line}" for line in new if line not in old]
        if section not in before or section not in after:
            found.append(f"{'+' if section in after else '-'} {section}")
    return found


def lost(before: State, after: State) -> list[str]:
    """Return the removed lines alone."""
    return [line for line in difference(before, after) if line.startswith("-")]


def _lines(section: str, text: str) -> Iterator[str]:
    if section == "ovsdb":
        yield from _rows(text)
    elif section == "igmp":
        yield from _igmp(text)
    elif section == "igmp6":
        # Index, device, group, users; what follows is a timer.
        yield from (" ".join(line.split()[1:4]) for line in text.splitlines())
    elif section == "addresses":
        for item in json.loads(text):
            for address in item.get("addr_info", []):
                yield f"{item['ifname']} {json.dumps(_steady(address), sort_keys=True)}"
    elif text.lstrip().startswith("["):
        for document in text.splitlines():
            yield from (json.dumps(_steady(item), sort_keys=True) for item in json.loads(document))
    else:
        yield from (" ".join(line.split()) for line in text.splitlines() if line.strip())


def _igmp(text: str) -> Iterator[str]:
    """Yield device, group and users, without timers and the version of the querier."""
    device = ""
    for line in text.splitlines()[1:]:
        if not line[:1].isspace():
            device = line.split("\t")[1].split(":")[0].strip()
        else:
            yield f"{device} {' '.join(line.split()[:2])}"


def _rows(text: str) -> Iterator[str]:
    """Yield a line for each column of each row, and for each element of a set or map."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        table, end = decoder.raw_decode(text)
        text = text[end:]
        for row in table["data"]:
            named = dict(zip(table["headings"], row, strict=True))
            where = f"{table['caption']} {named['_uuid'][1]} {named.get('name', '')}"
            volatile = _VOLATILE_COLUMNS
            if table["caption"] == "Controller table":
                volatile = volatile | _VOLATILE_OF_CONTROLLERS
            for column, value in named.items():
                if column not in volatile:
                    many = isinstance(value, list) and value[0] in {"set", "map"}
                    for element in value[1] if many else [value]:
                        yield f"{where} {column}={json.dumps(element)}"


def _steady(item: Any) -> Any:
    if isinstance(item, dict):
        return {k: _steady(v) for k, v in item.items() if k not in _VOLATILE_KEYS}
    return item


def wrapper(directory: Path, program: str, script: str) -> str:
    """Return a PATH on which the program first runs a shell script, then itself."""
    real = shutil.which(program)
    path = directory / program
    path.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    path.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"
