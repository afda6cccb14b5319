"""The VTEP changes: a peer sends unicast to the former address until it hears from the new one.

h1 (10.0.0.1, then 10.0.0.99 too) ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

import pytest

from ovs_mcast.core.frames import decode_vxlan
from ovs_mcast.lab import Lab
from tests.functional.wire import GROUP_1, frame, hears, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

SEGMENT, NEW = f"--segment=100,group={GROUP_1}", "10.0.0.99"


@pytest.mark.either_datapath
def test_unicast_to_the_former_vtep_is_delivered(lab: Lab) -> None:
    """It arrives while the device has the address, and goes to the new VTEP once that has spoken.

    h1 (w: silent; setup --vtep 10.0.0.99) ─ look here: port h1 of the switch ─ l1 (sends to w)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    former = host.vtep
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    with hears(lab, here) as heard_here, hears(lab, there) as heard_there:
        known = frame(here.mac)
        here.send(known)
        assert known in heard_there.wait(1)  # l1 has learned w at the former VTEP
        host.run("ip", "address", "add", f"{NEW}/24", "dev", host.underlay)
        assert host.setup(SEGMENT, f"--vtep={NEW}").status == 0
        with lab.capture(lab.switch, "h1", decode_vxlan) as wire:
            sent = frame(there.mac, here.mac)
            there.send(sent)
            assert sent in heard_here.wait(2)
            assert [one.destination for one in wire.wait(1)] == [former]

            spoken = frame(here.mac)
            here.send(spoken)
            assert spoken in heard_there.wait(3)
            sent = frame(there.mac, here.mac)
            there.send(sent)
            assert sent in heard_here.wait(4)
            assert wire.wait(3)[-1].destination == NEW
