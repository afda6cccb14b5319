"""The machine of a FakeHost: all that machine.Machine asks for, on memory."""

from __future__ import annotations

from ..machine import Machine
from .ground import Ground
from .rows import FakeOpenFlow, FakeOvsdb, FakeVswitchd
from .sockets import FakeKeeper, FakeMemberships, FakeNetlink


def machine_on(ground: Ground) -> Machine:
    """As a Host asks for it."""
    linux = ground.linux
    return Machine(
        ovsdb=FakeOvsdb(ground),
        openflow=FakeOpenFlow(ground),
        netlink=FakeNetlink(ground),
        vswitchd=lambda: FakeVswitchd(ground),
        limits=lambda: linux.limits,
        joined=linux.joined,
        is_member=lambda device, group: group in linux.joined(device),
        memberships=lambda device: FakeMemberships(ground, device),
        send_path=ground.send_path,
        keeper=lambda overlay: FakeKeeper(ground, overlay),
        sleep=ground.sleep,
    )
