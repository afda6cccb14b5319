"""What would let a broadcast circle between two overlays: refused, or said.

h1: br-int ═ br-mcast (overlay default) and br-b (overlay b) ─ switch ─ l1, l2 (Linux vxlan)
"""

from __future__ import annotations

import pytest

from ovs_mcast.lab import Host, Lab
from tests.functional.wire import GROUP_1, GROUP_2, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

FIRST = (f"--segment=100,group={GROUP_1}", "--membership=socket")
OTHER = ("--name=b", "--tunnel-bridge=br-b", "--udp-port=4790", "--membership=socket")


def warned(host: Host) -> list[str]:
    """The sentences of a run that changes nothing, up to the cure."""
    done = host.setup(*FIRST)
    assert (done.status, done.report["changed"]) == (0, False), done.stderr
    return [one.partition(":")[0] for one in done.report["problems"]]


def test_one_vlan_of_two_overlays_on_one_bridge_is_refused(lab: Lab) -> None:
    """Whichever comes later; nothing is touched.

    h1 (two overlays on br-int)
    """
    host = lab.add_host(kind="dummy")
    assert host.setup(*FIRST).status == 0
    refused = host.setup(*OTHER, f"--segment=301,vlan=100,group={GROUP_2}")
    assert (refused.status, refused.report["changed"]) == (2, False)
    [said] = refused.report["problems"]
    assert said.startswith("segments.0.vlan: VLAN 100 on br-int is VNI 100 of overlay default: ")
    assert host.setup(*OTHER, f"--segment=301,vlan=101,group={GROUP_2}").status == 0
    refused = host.setup(*FIRST, f"--segment=302,vlan=101,group={GROUP_2}")
    assert refused.status == 2
    assert warned(host) == []  # different VLANs, one bridge


def test_a_broadcast_that_leaves_again_is_said(lab: Lab) -> None:
    """By a patch port of an operator to another overlay's bridge, and by a mesh; packets agree.

    h1: br-int ═ br-mcast, br-x ═ br-b ─ switch ─ l1 (VNI 100), l2 (VNI 301, UDP port 4790)
    """
    host, near, far = lab.add_host(), lab.add_linux_host(), lab.add_linux_host()
    here = near.add_segment(vni=100, group=GROUP_1)
    there = far.add_segment(vni=301, group=GROUP_2, udp_port=4790)
    assert host.setup(*FIRST).status == 0
    other = (*OTHER, "--bridge=br-x", f"--segment=301,vlan=100,group={GROUP_2}")
    assert host.setup(*other).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    wait_for_members(lab, GROUP_2, {"h1", "l2"})
    for joined in (False, True):
        if joined:
            for bridge, port, peer in (("br-int", "p1", "p2"), ("br-x", "p2", "p1")):
                host.vsctl(
                    "add-port", bridge, port, "--",
                    "set", "interface", port, "type=patch", f"options:peer={peer}",
                )  # fmt: skip
        leaves = "broadcasts from the overlay in VLAN 100 leave this host again by br-b"
        assert warned(host) == [leaves] * joined
        with hears(lab, there) as heard:
            sent = frame(here.mac)
            here.send(sent)
            assert (sent in heard.wait(1, timeout=10 if joined else 1)) == joined
    host.vsctl("del-port", "br-int", "p1")
    mesh = "type=vxlan options:remote_ip=10.0.0.99 options:key=77 options:dst_port=4791"
    host.vsctl("add-port", "br-int", "mesh", "--", "set", "interface", "mesh", *mesh.split())
    assert warned(host) == ["broadcasts from the overlay in VLAN 100 leave this host again by mesh"]
