"""A failover below the underlay's bridge: the agent reports the groups to the other link's switch.

h1 (agent): br-int ═ br-mcast ─ vxlan ─ br-phy ─ bond0 ═ eth0, eth1 ═ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from ovs_mcast.core.frames import mac_bytes
from ovs_mcast.lab import Capture, Host, Kind, Lab
from ovs_mcast.lab.nodes import add_addresses
from tests.functional.agents import configuration, running
from tests.functional.node import Node
from tests.functional.querier import ask_once
from tests.functional.test_underlay_bridge import bond, connect_second, exchange
from tests.functional.warm import Warm
from tests.functional.wire import eventually, mac_of, wait_for_members

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter"),
    pytest.mark.usefixtures("no_agent_is_left"),
]
pytest_plugins = ("tests.functional.node_fixtures",)

GROUPS = {4: "239.0.0.1", 6: "ff05::7:1"}
LINUX_BOND = (
    "modprobe -q bonding max_bonds=0 || true;"
    " ip link add bond0 mtu $(cat /sys/class/net/eth0/mtu) type bond mode active-backup miimon 20;"
    " for nic in eth0 eth1; do ip link set $nic down; ip link set $nic master bond0; done;"
    " ip link set bond0 up; ovs-vsctl add-br br-phy -- add-port br-phy bond0"
)


def put_below(host: Host, of: str) -> None:
    """Have br-phy hold a bond of eth0 and eth1, Open vSwitch's or Linux's, and the VTEP."""
    if host.kind == "netdev":
        bond(host, "")
        return
    address = host.addresses[0]
    made = LINUX_BOND if of == "linux" else (
        "ovs-vsctl add-br br-phy -- add-bond br-phy bond0 eth0 eth1"
    )  # fmt: skip
    host.run("sh", "-ec", f"{made}; ip address flush dev eth0")
    add_addresses(host, "br-phy", [address])


def own_report(host: Host, group: str) -> Callable[[bytes], bytes | None]:
    """Return a decoder that keeps the host's reports of IGMPv3 and MLDv2 with the group."""
    own, packed = mac_bytes(mac_of(host, "br-phy")), ip_address(group).packed

    def decode(frame: bytes) -> bytes | None:
        to_routers = frame[:4].hex() in {"01005e00", "33330000"} and frame[5] == 0x16
        return frame if to_routers and frame[6:12] == own and packed in frame else None

    return decode


def wait_until_quiet(host: Host, reports: Capture[bytes]) -> None:
    """Wait until the kernel has repeated its reports, which it does within a second.

    It does so after a join (RFC 3376, 8.11), and when an IPv6 device has its link-local address.
    """
    shown = ("ip", "-6", "-oneline", "address", "show", "dev", "br-phy", "tentative")
    assert eventually(lambda: not host.run(*shown).stdout)
    number = 0
    while len(seen := reports.seen(1.5)) > number:
        number = len(seen)


def active(host: Host, of: str) -> str:
    """Return the switch's port that the bond's active link leads to."""
    if of == "linux":
        link = host.run("cat", "/sys/class/net/bond0/bonding/active_slave").stdout.strip()
    else:
        mac = host.vsctl("get", "port", "bond0", "bond_active_slave").strip().strip('"')
        link = "eth0" if mac == mac_of(host, "eth0") else "eth1"
    return host.name if link == "eth0" else "second"


@pytest.mark.either_datapath
@pytest.mark.parametrize("family", [4, 6])
def test_the_groups_are_reported_again(warm: Warm, kind: Kind, family: int) -> None:
    """After a failover broadcast passes both ways once each, though no querier asks.

    h1 (agent): br-phy ─ bond0 (active-backup) ═ eth0, eth1 (one goes down) ═ switch ─ l1
    """
    for of in ("open-vswitch", "linux") if kind == "kernel" else ("open-vswitch",):
        with Lab(kind=kind, mtu=1600, family=family) as lab, ExitStack() as stack:
            ask_once(lab)
            host, peer = lab.add_host(), lab.add_linux_host()
            connect_second(lab, host)
            put_below(host, of)
            here = host.add_workload(vlan=100)
            there = peer.add_segment(vni=100, group=GROUPS[family])
            node, segment = Node(host, warm), {"vni": 100, "group": GROUPS[family]}
            text = configuration(node, segment, underlay={"device": "br-phy"})
            with lab.capture(host, "br-phy", own_report(host, GROUPS[family])) as reports:
                agent = stack.enter_context(running(node, text))
                wait_until_quiet(host, reports)
                before = active(host, of)
                wait_for_members(lab, GROUPS[family], {before, "l1"})
                lab.switch.run("ip", "link", "set", before, "down")
                [after] = {host.name, "second"} - {before}
                wait_for_members(lab, GROUPS[family], {after, "l1"})
                exchange(lab, here, there)
                agent.waits_for("link change of .*: 1 group reported again")
