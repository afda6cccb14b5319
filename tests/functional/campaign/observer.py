"""A process on a host that reports the host's state on request: by ip, ovs-ofctl, OVSDB.

It runs as a file of its own with the standard library alone (`python -I -S observer.py`) and knows
nothing of the package on trial. A line of JSON asks, a line of JSON answers:

    {"look": ["addresses", …] or null}   section → sorted lines; null: all of them
    {"sh": "script"}                     [status, what it printed]
    {"join": ["239.9.9.7", "br-phy"]}    this process is a member from now on
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

Sections = dict[str, list[str]]

RUNDIR = os.environ.get("OVS_RUNDIR", "/run/openvswitch")
_VOLATILE = {"valid_life_time", "preferred_life_time"}
_EVIDENCE = "ovs-mcast-evidence"  # of a trial, which is another after another trial
_MARK, _LEARNED = 0x6D, 1 << 36  # the first octet of our cookies; the bit of what learn() made
_COLUMNS = {
    "Bridge": ["_uuid", "name", "datapath_type", "fail_mode", "external_ids", "ports", "protocols"],
    "Port": ["_uuid", "name", "tag", "trunks", "vlan_mode", "external_ids", "interfaces"],
    "Interface": ["_uuid", "name", "type", "options", "external_ids", "ofport_request", "error"],
}


class Watcher:
    """One host: its underlay device, whose Ethernet address may change by a fault."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._held: dict[tuple[str, int], socket.socket] = {}
        self._sections: dict[str, Callable[[], Iterator[str]]] = {
            "addresses": _addresses,
            "routes": _routes,
            "igmp": _igmp,
            "igmp6": _igmp6,
            "ovsdb": _ovsdb,
            "tunnel routes": self._tunnel_routes,
            "keepers": _keepers,
        }

    def look(self, wanted: list[str] | None) -> Sections:
        """Return the requested sections; an unavailable one is a line with the reason."""
        names = list(self._sections) if wanted is None else wanted
        if wanted is None:
            names += [f"flows {bridge}" for bridge in _bridges()]
        return {name: sorted(self._lines(name)) for name in names}

    def join(self, group: str, device: str) -> None:
        """Be a member of a group of a device as it is now."""
        index = socket.if_nametoindex(device)
        if (group, index) not in self._held:
            for gone in [key for key in self._held if key[0] == group]:
                self._held.pop(gone).close()
            one = self._held[group, index] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            request = struct.pack("=4s4xi", socket.inet_aton(group), index)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)

    def _lines(self, name: str) -> list[str]:
        try:
            if name.startswith("flows "):
                return list(self._flows(name.removeprefix("flows ")))
            return list(self._sections[name]())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return [f"not to be had: {error}"]

    def _flows(self, bridge: str) -> Iterator[str]:
        with open(f"/sys/class/net/{self._device}/address", encoding="ascii") as file:
            mac = file.read().strip()
        printed = _run("ovs-ofctl", "-OOpenFlow14", "--no-stats", "dump-flows", bridge)
        for line in printed.splitlines():
            cookie = re.search(r"cookie=(0x[0-9a-f]+|\d+)", line)
            number = int(cookie[1], 0) if cookie else 0
            if not (number >> 56 == _MARK and number & _LEARNED):
                yield " ".join(line.split()).replace(mac, f"<{self._device}>")

    def _tunnel_routes(self) -> Iterator[str]:
        # By its path: by its name, ovs-appctl opens the pid file for writing, which is an event.
        with open(f"{RUNDIR}/ovs-vswitchd.pid", encoding="ascii") as file:
            target = f"{RUNDIR}/ovs-vswitchd.{file.read().strip()}.ctl"
        for line in _run("ovs-appctl", "--timeout=10", "-t", target, "ovs/route/show").splitlines():
            if f"dev {self._device}" in line and "fe80" not in line:
                yield line.strip()


def _addresses() -> Iterator[str]:
    for link in json.loads(_run("ip", "-json", "-details", "address", "show")):
        name = link["ifname"]
        state = "up" if "UP" in link["flags"] else "down"
        carrier = "carrier" if "LOWER_UP" in link["flags"] else "no carrier"
        yield f"{name} {state} {carrier} mtu {link['mtu']}"
        for address in link.get("addr_info", []):
            if not address.get("local", "").startswith("fe80"):
                kept = {k: v for k, v in address.items() if k not in _VOLATILE}
                yield f"{name} {json.dumps(kept, sort_keys=True)}"


def _routes() -> Iterator[str]:
    for family in ("-4", "-6"):
        for line in _run("ip", family, "-details", "route", "show", "table", "all").splitlines():
            if "fe80" not in line:
                yield " ".join(re.sub(r" expires \S+", "", line).split())


def _igmp() -> Iterator[str]:
    device = ""
    with open("/proc/net/igmp", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            if not line[:1].isspace():
                device = line.split("\t")[1].split(":")[0].strip()
            else:
                group, users = line.split()[:2]
                address = socket.inet_ntoa(struct.pack("=I", int(group, 16)))
                yield f"{device} {address} users {users}"


def _igmp6() -> Iterator[str]:
    with open("/proc/net/igmp6", encoding="ascii") as file:
        for line in file:
            _, device, group, users = line.split()[:4]
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(group))
            if not address.startswith("ff02::1:ff"):  # of the device's own addresses
                yield f"{device} {address} users {users}"


def _keepers() -> Iterator[str]:
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{process}/comm", encoding="utf-8") as file:
            if (name := file.read().strip()) == "ovs-mcast-keep":
                yield name


def _ovsdb() -> Iterator[str]:
    """Return each row with the names in it, and its identity unless it bears our mark."""
    tables = _select()
    named = {row["_uuid"][1]: row["name"] for rows in tables.values() for row in rows}
    marked = (row for table in ("Bridge", "Port") for row in tables[table])
    # What these hold, interfaces and a bridge's own port, has their name and no mark.
    ours = {row["name"] for row in marked if "ovs-mcast" in dict(row["external_ids"][1])}
    for table, rows in tables.items():
        for row in rows:
            if row["name"] in ours | {"eth0"}:  # which an operator puts in anew
                row.pop("_uuid")
            for column, value in row.items():
                for element in _elements(column, value, named):
                    if _EVIDENCE in element:
                        continue
                    yield f"{table} {row.get('name')} {column}={element}"


def _elements(column: str, value: Any, named: dict[str, str]) -> list[str]:
    """Return the elements of a column as text; rows by name (RFC 7047, 5.1)."""
    if column == "_uuid":
        return [str(value[1])]
    many = isinstance(value, list) and value[0] in {"set", "map"}
    parts = value[1] if many else [value]
    return [
        named.get(part[1], "?")
        if isinstance(part, list) and part[0] == "uuid"
        else json.dumps(part)
        for part in parts
    ]


def _bridges() -> list[str]:
    try:
        return sorted(row["name"] for row in _select()["Bridge"])
    except (OSError, ValueError):
        return []


def _select() -> dict[str, list[dict[str, Any]]]:
    operations = [
        {"op": "select", "table": table, "where": [], "columns": columns}
        for table, columns in _COLUMNS.items()
    ]
    request = {"method": "transact", "params": ["Open_vSwitch", *operations], "id": 0}
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(10)
        server.connect(f"{RUNDIR}/db.sock")
        server.sendall(json.dumps(request).encode())
        text = ""
        while part := server.recv(1 << 20):
            text += part.decode()
            with suppress(json.JSONDecodeError):
                answer, _ = json.JSONDecoder().raw_decode(text)
                return {
                    table: result["rows"]
                    for table, result in zip(_COLUMNS, answer["result"], strict=True)
                }
    raise ValueError("ovsdb-server closed the connection")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise ValueError((done.stderr or done.stdout).strip())
    return done.stdout


def _shell(script: str) -> list[Any]:
    done = subprocess.run(
        ["sh", "-ec", script],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    return [done.returncode, done.stdout]


def main() -> None:
    """Answer until nobody asks any more."""
    watcher = Watcher(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Any = None
        if "look" in asked:
            answer = watcher.look(asked["look"])
        elif "sh" in asked:
            answer = _shell(asked["sh"])
        elif "join" in asked:
            watcher.join(*asked["join"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
