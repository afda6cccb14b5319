"""Record what an overlay of version 0.1.0 is on a host, and make the same again without its code.

``record DEVICE`` was run on hosts of the lab on which 0.1.0 (commit 80de253) had set up an
overlay; ``restore FILE DEVICE`` makes the rows, flows, addresses, routes and keeper of a recording
with Open vSwitch's and iproute2's own tools. This program imports nothing of ovs_mcast.

A flow names the Ethernet address of the underlay's device: in a recording that is ``{mac}``.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

RUNDIR = Path("/run/openvswitch")
KEEPER_FILE = RUNDIR / "ovs-mcast-default.keeper"
HOLDER = Path(__file__).with_name("holder.py")
# What of a row is configuration; the rest is Open vSwitch's own.
COLUMNS = {
    "Bridge": ("datapath_type", "fail_mode", "external_ids", "other_config", "protocols"),
    "Port": ("tag", "trunks", "vlan_mode", "external_ids", "other_config"),
    "Interface": ("type", "options", "ofport_request", "mtu_request", "external_ids"),
}
ADDRESS = ("IFA_LOCAL", "IFA_ADDRESS", "IFA_FLAGS", "IFA_RT_PRIORITY", "IFA_PROTO")
HEADER = ("family", "prefixlen", "scope")
GROUPS_PER_SOCKET = 20


def output(*command: str, stdin: str = "") -> str:
    """What a command prints; an error if it fails."""
    return subprocess.run(command, input=stdin, stdout=-1, text=True, check=True).stdout


def record(device: str) -> dict[str, Any]:
    """All of the overlay `default`: what bears its mark, and what is on its own bridge."""
    mac = Path(f"/sys/class/net/{device}/address").read_text().strip()
    bridges = output("ovs-vsctl", "list-br").split()
    return {
        "rows": [command for bridge in bridges for command in rows(bridge)],
        "flows": [
            [bridge, line.replace(mac, "{mac}")]
            for bridge in bridges
            for line in marked(flows(bridge))
        ],
        "addresses": list(addresses(device)),
        "routes": routes(),
        "keepers": keepers(),
        "groups": groups(device) if keepers() else [],
    }


def rows(bridge: str) -> Iterator[list[str]]:
    """The commands of ovs-vsctl that make what is marked of a bridge."""
    whole = "ovs-mcast" in output("ovs-vsctl", "get", "Bridge", bridge, "external_ids")
    if whole:
        yield ["--may-exist", "add-br", bridge]
        yield from columns("Bridge", bridge)
    for port in output("ovs-vsctl", "list-ports", bridge).split():
        if whole or "ovs-mcast" in output("ovs-vsctl", "get", "Port", port, "external_ids"):
            yield ["add-port", bridge, port]
            yield from columns("Port", port)
            yield from columns("Interface", port)


def columns(table: str, name: str) -> Iterator[list[str]]:
    """One command that sets all columns of a row that are not empty."""
    read = ((column, output("ovs-vsctl", "get", table, name, column)) for column in COLUMNS[table])
    given = {column: value.strip() for column, value in read}
    values = [f"{column}={value}" for column, value in given.items() if value not in EMPTY]
    if values:
        yield ["set", table, name, *values]


EMPTY = {"", "[]", "{}", '""'}


def flows(bridge: str) -> list[str]:
    """All flows, as ovs-ofctl reads them again."""
    options = ("--protocols=OpenFlow14", "--no-stats", "--no-names")
    return output("ovs-ofctl", *options, "dump-flows", bridge).splitlines()


def marked(lines: Iterable[str]) -> list[str]:
    """The flows with our cookie."""
    return [line.strip() for line in lines if "cookie=0x6d" in line]


def addresses(device: str) -> Iterator[dict[str, Any]]:
    """The addresses with our metric, as rtnetlink has them: ip(8) does not know every attribute."""
    with IPRoute() as netlink:
        for found in netlink.get_addr(index=socket.if_nametoindex(device)):
            values = {name: found.get(name) for name in (*HEADER, *ADDRESS)}
            if (values["IFA_RT_PRIORITY"] or 0) >> 24 == 0x6D:
                yield {name: value for name, value in values.items() if value is not None}


def routes() -> list[str]:
    """All routes to groups, those of the table local too."""
    shown = [
        output("ip", family, "-details", "route", "show", "table", "all").splitlines()
        for family in ("-4", "-6")
    ]
    return [" ".join(line.split()) for lines in shown for line in lines if GROUP.match(line)]


GROUP = re.compile(r" ?\w+ (239\.|ff05:)")


def keepers() -> list[str]:
    """The name at which the keeper listens, without the number of nanoseconds that ends it."""
    return re.findall(r"@(ovs-mcast-keeper-\w+-)", Path("/proc/net/unix").read_text())


def groups(device: str) -> list[str]:
    """The groups that the keeper holds, in both families."""
    read = output("ip", "maddress", "show", "dev", device)
    return sorted(re.findall(r"inet6? +(239\.\S+|ff05:\S+)", read))


def restore(recorded: dict[str, Any], device: str) -> None:
    """Make it all again."""
    mac = Path(f"/sys/class/net/{device}/address").read_text().strip()
    together = [part for command in recorded["rows"] for part in ("--", *command)]
    output("ovs-vsctl", "--timeout=20", *together)
    for bridge, line in recorded["flows"]:
        output("ovs-ofctl", "--protocols=OpenFlow14", "add-flow", bridge, line.format(mac=mac))
    for group in neighbours(recorded, device):
        output("ovs-appctl", "--timeout=20", "tnl/neigh/set", device, group, ethernet_of(group))
    with IPRoute() as netlink:
        for address in recorded["addresses"]:
            netlink.addr("add", index=socket.if_nametoindex(device), **attributes(address))
    there = routes()
    for line in [line for line in there if line not in recorded["routes"]]:
        output("ip", "route", "del", *line.split())
    for line in [line for line in recorded["routes"] if line not in there]:
        output("ip", "route", "add", *line.split())
    for name in recorded["keepers"]:
        start_keeper(name, device, recorded["groups"])


def neighbours(recorded: dict[str, Any], device: str) -> list[str]:
    """The groups whose tunnel neighbours 0.1.0 sets: all, if the underlay is a bridge."""
    if all(bridge != device for bridge, _ in recorded["flows"]):
        return []
    matches = [re.search(r"table=10,.*dst=(\S+)", line) for _, line in recorded["flows"]]
    return sorted({found[1] for found in matches if found})


def ethernet_of(group: str) -> str:
    """The Ethernet address of a group (RFC 1112, 6.4; RFC 2464, 7)."""
    if ":" in group:
        octets = b"\x33\x33" + socket.inet_pton(socket.AF_INET6, group)[-4:]
    else:
        packed = socket.inet_pton(socket.AF_INET, group)
        octets = bytes((0x01, 0x00, 0x5E, packed[1] & 0x7F, packed[2], packed[3]))
    return octets.hex(":")


def attributes(address: dict[str, Any]) -> dict[str, Any]:
    """An address as pyroute2 takes it."""
    return {name.removeprefix("IFA_").lower(): value for name, value in address.items()}


def start_keeper(name: str, device: str, held: list[str]) -> None:
    """What keeper.py of 0.1.0 does: sockets that have joined, one that listens, and holder.py."""
    name += f"{time.monotonic_ns():020}"
    sockets = list(joined(device, held))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    descriptors = [one.fileno() for one in (listener, *sockets)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(HOLDER), *map(str, descriptors)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
        env={},
        cwd="/",
    )
    given = "\n".join((json.dumps(device), str(socket.if_nametoindex(device)), *held))
    said, _ = process.communicate(given.encode())
    if said != b"ready\n":
        sys.exit(f"holder.py did not start: {said!r}")
    KEEPER_FILE.touch(mode=0o600)
    KEEPER_FILE.write_text(name)


def joined(device: str, held: list[str]) -> Iterator[socket.socket]:
    """Sockets that are members of the groups: 20 each, of one family."""
    index = socket.if_nametoindex(device)
    for family, mark in ((socket.AF_INET, "."), (socket.AF_INET6, ":")):
        mine = [group for group in held if mark in group]
        for first in range(0, len(mine), GROUPS_PER_SOCKET):
            one = socket.socket(family, socket.SOCK_DGRAM)
            for group in mine[first : first + GROUPS_PER_SOCKET]:
                packed = socket.inet_pton(family, group)
                if family == socket.AF_INET:  # struct ip_mreqn
                    request = struct.pack("=4s4xi", packed, index)
                    one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                else:  # struct ipv6_mreq
                    request = struct.pack("=16sI", packed, index)
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            yield one


def as_text(recorded: dict[str, Any]) -> str:
    """The recording as JSON, with a line for each row, flow, address and route."""
    parts = []
    for name, values in recorded.items():
        lines = ",\n".join(f"  {json.dumps(value)}" for value in values)
        parts.append(f" {json.dumps(name)}: [\n{lines}\n ]" if values else f' "{name}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    os.environ.setdefault("OVS_RUNDIR", str(RUNDIR))
    if sys.argv[1] == "record":
        sys.stdout.write(as_text(record(sys.argv[2])))
    else:
        restore(json.loads(Path(sys.argv[2]).read_text()), sys.argv[3])
