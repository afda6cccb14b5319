"""The kernel's datapath and an IPv6 group, by hand: receiving and sending, in one table.

Nothing of ovs_mcast runs here: this is what it is built on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ovs_mcast.lab import Host, Kind, Lab
from tests.functional.programs import Program
from tests.functional.wire import eventually
from tests.kernel.byhand import ByHand, Row, printed

pytestmark = [pytest.mark.either_datapath, pytest.mark.needs("root", "ovs-vswitchd")]

GROUP = "ff05::9:1"

# Every device has ff00::/8 in table local, so that there always is a route.
TABLE = [
    Row("none", True, False, False, "wire"),
    Row("none", True, True, False, "wire"),
    Row("autojoin", True, False, True, "lo"),
    Row("autojoin", True, True, True, "lo"),
    Row("repaired", True, False, True, "wire"),
    Row("repaired", True, True, True, "wire"),
    Row("socket", True, False, True, "wire"),
    Row("socket", True, True, True, "wire"),
]


def test_what_the_kernel_datapath_receives_and_sends(
    kind: Kind, record_property: Callable[[str, object], None]
) -> None:
    """Each membership that IPv6 has, outer source unset and explicit.

    workload ─ h1: br-int ─ vxlan ─ eth0 ─ switch ─ l1 (Linux vxlan) ─ workload
    """
    with Lab(kind=kind, family=6) as lab:
        rows = ByHand.of(GROUP, lab, lab.add_host(), lab.add_linux_host()).seen(TABLE, joined)
    record_property("table", printed(rows, "IPv6 membership"))
    print(printed(rows, "IPv6 membership"))
    assert rows == TABLE


@contextmanager
def joined(host: Host, row: Row) -> Iterator[None]:
    """Make the host a member by one method."""
    membership, address = row.membership, f"{GROUP}/128 dev eth0"
    with ExitStack() as stack:
        if membership in {"autojoin", "repaired"}:
            host.run("ip", "address", "add", *address.split(), "autojoin", "nodad", "noprefixroute")
            shown = ("ip", "-6", "route", "show", "table", "local")
            assert eventually(lambda: f"local {GROUP} dev eth0" in host.run(*shown).stdout)
        if membership == "repaired":
            host.run(*f"ip -6 route del local {GROUP} dev eth0 table local".split())
        if membership == "socket":
            stack.enter_context(Program(host, family=6).join(GROUP, "eth0"))
        try:
            yield
        finally:
            if membership in {"autojoin", "repaired"}:
                host.run("ip", "address", "del", *address.split())
