"""What comes to the underlay and no tunnel takes, counted on the userspace datapath.

l1 (Linux vxlan, set up wrongly) ─ switch ─ h1 (setup, status)
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from ovs_mcast.core.frames import BROADCAST, ethernet
from ovs_mcast.lab import Host, Lab, LinuxHost, Workload
from tests.functional.test_status import status
from tests.functional.wire import GROUP_1, eventually, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SEGMENT = f"--segment=100,group={GROUP_1}"


@dataclass(frozen=True)
class Pair:
    """A host with Open vSwitch and a Linux peer, and a workload on each."""

    host: Host
    peer: LinuxHost
    here: Workload
    there: Workload


def pair(lab: Lab, udp_port: int = 4789) -> Pair:
    """Return both, once the switch has them as members."""
    host, peer = lab.add_host(), lab.add_linux_host()
    here = host.add_workload(vlan=100)
    there = peer.add_segment(vni=100, group=GROUP_1, udp_port=udp_port)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    return Pair(host, peer, here, there)


def problems(host: Host) -> list[str]:
    """Return the problems that status shows; warnings alone leave it healthy."""
    shown = status(host, "--json")
    [one] = json.loads(shown.stdout)["overlays"]
    assert (shown.returncode, one["healthy"]) == (0, True)
    return list(map(str, one["problems"]))


def test_fragments_are_counted_and_said(lab: Lab) -> None:
    """A peer that fragments its packets is not heard, and status says so; small frames arrive.

    w (heard: small frames alone) ─ h1 ─ switch ─ l1 (underlay MTU 1300; frames of 1400 octets)
    """
    one = pair(lab)
    assert problems(one.host) == []
    one.peer.run("ip", "link", "set", "eth0", "mtu", "1300")
    with hears(lab, one.here) as heard:
        large = ethernet(BROADCAST, one.there.mac, 0x88B5, bytes(1400))
        for _ in range(5):
            one.there.send(large)
        small = frame(one.there.mac)
        one.there.send(small)
        assert heard.wait(1) == [small]
    assert eventually(lambda: any(" 5 UDP" in problem for problem in problems(one.host)))
    [said] = problems(one.host)
    assert said.startswith("fragments of 5 UDP packets came: Open vSwitch's userspace datapath")


def test_a_peer_on_linuxs_default_port_is_said(lab: Lab) -> None:
    """A peer without dstport sends to UDP port 8472, where nobody listens: status names the port.

    w (hears nothing) ─ h1 (UDP 4789) ─ switch ─ l1 (UDP 8472)
    """
    one = pair(lab, 8472)
    with hears(lab, one.here) as heard:
        for _ in range(5):
            one.there.send(frame(one.there.mac))
        assert eventually(lambda: any("5 packets" in problem for problem in problems(one.host)))
        assert heard.seen() == []
    [said] = problems(one.host)
    assert said == (
        "5 packets to groups came on UDP port 8472, which a Linux vxlan device has by default: a "
        "peer on it is not heard: make it with dstport 4789"
    )
    # This host's own device on that port hears the peer: no warning.
    own = "ip link add vx7 type vxlan id 7 group 239.7.7.7 dev br-phy dstport 8472"
    one.host.run("sh", "-ec", own)
    assert problems(one.host) == []
