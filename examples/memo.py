#!/usr/bin/env python3
"""The autojoin send problem, replayed with packets: where a datagram stops, and each cure.

Uses two hosts in network namespaces, joined by a cable. Leaves this machine's network alone, leaves
nothing behind, and needs no Open vSwitch:

    here: eth0, 10.0.0.1, fd00::1 ─────── there: eth0, 10.0.0.2, fd00::2, a member of the groups

    sudo examples/memo.py

Exit status: 0 the problem and every cure were seen; 3 one was not; 5 something is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))


def missing(what: str) -> NoReturn:
    """Print what is missing, and exit with status 5."""
    print(f"memo.py: {what}", file=sys.stderr)
    sys.exit(5)


def go_on_with_another_python() -> None:
    """Restart in $OVS_MCAST_PYTHON or the checkout's .venv; return if there is neither."""
    known = Path(os.environ.get("OVS_MCAST_PYTHON", TOP / ".venv" / "bin" / "python"))
    if known.exists() and known.absolute() != Path(sys.executable).absolute():
        os.execv(known, [str(known), *sys.argv])


try:
    from replay import (
        NUMBER,
        SETTLE,
        Case,
        Seen,
        bind_to_device,
        explicit_source,
        multicast_if,
        replay,
    )
    from rich.console import Console
    from rich.table import Table

    from ovs_mcast.errors import UnavailableError
    from ovs_mcast.lab.topology import in_parallel
except ImportError as error:
    go_on_with_another_python()
    missing(f"{error}: `pip install {TOP}`, and run this with that environment's python")

ROUTE = "ip route add 239.0.0.0/24 dev eth0"
ADDRESS = "ip addr add 239.0.0.1/32 dev eth0 autojoin"
DELETE = "ip route del local 239.0.0.1 dev eth0 table local"
PREPEND = "ip route prepend unicast 239.0.0.1/32 dev eth0 table local scope link src 10.0.0.1"
ADDRESS_6 = "ip addr add ff05::1/128 dev eth0 autojoin"
DELETE_6 = "ip -6 route del local ff05::1 dev eth0 table local"
LINK = "ip link set eth0 down; ip link set eth0 up"
CALL = 'addr("add", index=i, local="10.0.0.1", address="239.0.0.1", prefixlen=32, flags=0x400)'
PEER = f"""{sys.executable} -c '
from pyroute2 import IPRoute
with IPRoute() as ipr:
    i = ipr.link_lookup(ifname="eth0")[0]
    ipr.{CALL}'"""


AGAIN = "   … and after link down, up"
SECTIONS = {
    "The memo": [
        Case(f"{ROUTE}; {ADDRESS}; sendto(239.0.0.2)", "wire", [ROUTE, ADDRESS], 4, "239.0.0.2"),
        Case("the same; sendto(239.0.0.1)", "lo", [ROUTE, ADDRESS]),
    ],
    "No cure": [
        Case("IP_MULTICAST_IF", "lo", [ROUTE, ADDRESS], prepare=multicast_if),
        Case("SO_BINDTODEVICE", "lo", [ROUTE, ADDRESS], prepare=bind_to_device),
        Case(
            "ip route add 239.0.0.1 dev eth0 src 10.0.0.1 (in main)",
            "lo",
            [ADDRESS, "ip route add 239.0.0.1 dev eth0 src 10.0.0.1"],
        ),
    ],
    "Cures": [
        Case("bind(10.0.0.1) before sendto", "wire", [ADDRESS], prepare=explicit_source),
        Case(f"{DELETE} (membership: repaired)", "wire", [ROUTE, ADDRESS, DELETE]),
        Case(AGAIN, "lo", [ROUTE, ADDRESS, DELETE, LINK]),
        Case(PREPEND, "wire", [ADDRESS, PREPEND]),
        Case(AGAIN, "lo", [ADDRESS, PREPEND, LINK]),
        Case("no address: IP_ADD_MEMBERSHIP (membership: socket)", "wire", [ROUTE], join=True),
        Case(AGAIN + ", and the route put back", "wire", [ROUTE, LINK, ROUTE], join=True),
        Case(f"the peer form (membership: peer), which ip refuses: {CALL}", "wire", [PEER]),
        Case(AGAIN, "wire", [PEER, LINK]),
    ],
    "IPv6": [
        Case(f"{ADDRESS_6}, while it is tentative", "wire", [ADDRESS_6], 6),
        Case("   … and after duplicate address detection", "lo", [ADDRESS_6, SETTLE], 6),
        Case("bind(fd00::1) does not help", "lo", [ADDRESS_6, SETTLE], 6,
             prepare=explicit_source),
        Case(f"{DELETE_6} (membership: repaired)", "wire", [ADDRESS_6, SETTLE, DELETE_6], 6),
        Case("no address: IPV6_JOIN_GROUP (membership: socket)", "wire", (), 6, join=True),
    ],
}  # fmt: skip


EXPLANATION = """\
Where it stops: like any address, the autojoin address gets `local 239.0.0.1 dev eth0` in routing
table local, which is looked up before main. So an ordinary program's datagram leaves by lo, where
no socket has joined the group, and is dropped there. Naming a device does not change that.

ovs_mcast tests autojoin before using it: `membership: auto` tries it on one group and captures an
ordinary datagram on the device and on lo. If the datagram leaves by lo, ovs_mcast removes the
address and holds the groups by sockets. `python -m ovs_mcast.probe path --device eth0 --group
239.0.0.1` shows the same for any host, with the route that took the datagram, and the cure."""


def table(seen: Sequence[tuple[str, Case, Seen]]) -> Table:
    """Return the table of all cases, a section for each group of them."""
    rows = Table(
        title=f"{NUMBER} datagrams per case, and where they were seen", title_justify="left"
    )
    for column in ("case", "ip route", "packet"):
        rows.add_column(column, overflow="fold")
    for column in ("lo", "eth0", "heard there", "heard here"):
        rows.add_column(column, justify="right")
    section = ""
    for part, case, found in seen:
        if part != section:
            rows.add_section()
            rows.add_row(f"[bold]{part}[/bold]")
            section = part
        numbers = (found.lo, found.wire, found.there, found.here)
        cells = ["" if number is None else str(number or "–") for number in numbers]
        packet = found.packet
        if not found.as_expected(case):
            packet += f" [red](not as expected: {case.expected})[/red]"
        rows.add_row(case.title, found.route, packet, *cells)
    return rows


def main() -> int:
    """Replay every case and print the outcome."""
    if os.geteuid() != 0:
        missing("namespaces and raw sockets need root: sudo examples/memo.py")
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=150)
    cases = [(part, case) for part, cases in SECTIONS.items() for case in cases]
    try:
        found = in_parallel(lambda row: replay(row[1]), cases)
    except UnavailableError as error:
        missing(str(error))
    console.print(table([(*row, seen) for row, seen in zip(cases, found, strict=True)]))
    console.print(EXPLANATION, markup=False)
    right = [seen.as_expected(case) for (_, case), seen in zip(cases, found, strict=True)]
    if not all(right):
        console.print(f"{right.count(False)} of {len(right)} were not as expected on this kernel")
    return 0 if all(right) else 3


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
