"""The kernel's datapath and a group, by hand: receiving and sending, in one table.

Nothing of ovs_mcast runs here: this is what it is built on.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import pytest

from ovs_mcast.lab import Host
from tests.functional.membership_lab import Net, wait_for_port
from tests.functional.programs import Program, opened_in
from tests.kernel.byhand import ByHand, Row, printed

pytestmark = [pytest.mark.either_datapath, pytest.mark.needs("root", "ovs-vswitchd")]
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

GROUP = "239.0.9.1"
_AUTOJOIN = 0x400  # IFA_F_MCAUTOJOIN
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8

TABLE = [
    Row("none", False, False, False, "nowhere"),
    Row("none", False, True, False, "wire"),
    Row("none", True, False, False, "wire"),
    Row("none", True, True, False, "wire"),
    Row("autojoin", False, False, True, "lo"),
    Row("autojoin", False, True, True, "wire"),
    Row("autojoin", True, False, True, "lo"),
    Row("autojoin", True, True, True, "wire"),
    Row("repaired", False, False, True, "nowhere"),
    Row("repaired", False, True, True, "wire"),
    Row("repaired", True, False, True, "wire"),
    Row("repaired", True, True, True, "wire"),
    Row("peer", False, False, True, "nowhere"),
    Row("peer", False, True, True, "wire"),
    Row("peer", True, False, True, "wire"),
    Row("peer", True, True, True, "wire"),
    Row("socket", False, False, True, "nowhere"),
    Row("socket", False, True, True, "wire"),
    Row("socket", True, False, True, "wire"),
    Row("socket", True, True, True, "wire"),
]


def test_what_the_kernel_datapath_receives_and_sends(
    net: Net, record_property: Callable[[str, object], None]
) -> None:
    """Each membership, with a route to the group and without, outer source unset and explicit.

    workload ─ h1: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload
    """
    by_hand = ByHand.of(GROUP, net.lab, net.node().host, net.l1)
    wait_for_port(net.lab, GROUP, net.l1.name)
    rows = by_hand.seen(TABLE, joined)
    record_property("table", printed(rows, "membership"))
    print(printed(rows, "membership"))
    assert rows == TABLE


@contextmanager
def joined(host: Host, row: Row) -> Iterator[None]:
    """Make the host a member by one method, with a route to the group or without."""
    membership = row.membership
    with ExitStack() as stack:
        if membership in {"autojoin", "repaired"}:
            host.run("ip", "address", "add", f"{GROUP}/32", "dev", "eth0", "autojoin")
        if membership == "repaired":
            host.run(*f"ip route del local {GROUP} dev eth0 table local".split())
        if membership == "peer":
            peer(host, "add")
            # The kernel makes the route by itself.
            host.run("ip", "route", "del", GROUP, "dev", "eth0")
        if membership == "socket":
            stack.enter_context(Program(host).join(GROUP, "eth0"))
        if row.route:
            host.run("ip", "route", "add", f"{GROUP}/32", "dev", "eth0")
        try:
            yield
        finally:
            if row.route:
                host.run("ip", "route", "del", f"{GROUP}/32", "dev", "eth0")
            if membership in {"autojoin", "repaired"}:
                host.run("ip", "address", "del", f"{GROUP}/32", "dev", "eth0")
            if membership == "peer":
                peer(host, "del")


def peer(host: Host, command: Literal["add", "del"]) -> None:
    """Add or remove the group as the peer of the host's own address, which ip(8) cannot."""
    index = int(host.path("/sys/class/net/eth0/ifindex").read_text())
    attributes = b"".join(
        struct.pack("=HH4s", 8, kind, value)
        for kind, value in (
            (_IFA_LOCAL, socket.inet_aton(host.vtep)),
            (_IFA_ADDRESS, socket.inet_aton(GROUP)),
            (_IFA_FLAGS, struct.pack("=I", _AUTOJOIN)),
        )
    )
    wanted = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index) + attributes
    kind, flags = (20, 0x605) if command == "add" else (21, 0x5)  # request, ack; create, exclusive
    # The socket is of the namespace in which it was opened, whoever writes to it.
    netlink = opened_in(
        host, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    )
    with netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(wanted), kind, flags, 1, 0) + wanted)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    assert error == 0, os.strerror(-error)
