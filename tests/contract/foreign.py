"""Things of other programs on a machine: on a FakeHost items, on a real host a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ovs_mcast.core import ownership
from ovs_mcast.core.items import Address, Bridge, Port, Route
from ovs_mcast.core.observed import Link
from ovs_mcast.testing import FakeHost

_METRIC = ownership.metric("default")
_FLOW_BASED = (("key", "flow"), ("local_ip", "flow"), ("remote_ip", "flow"))
_DEL = "ovs-vsctl del-br br-x"
_ADD = "ovs-vsctl add-br br-x -- set bridge br-x datapath_type=$datapath"


@dataclass(frozen=True)
class Foreign:
    """One thing in both forms; ``undo`` is None where nothing undoes it."""

    fake: Callable[[FakeHost], None]
    script: str
    undo: str | None = _DEL


def _datapath(host: FakeHost) -> str:
    return "netdev" if host.device == "br-phy" else "system"


def _port(host: FakeHost, name: str, kind: str, options: tuple[tuple[str, str], ...] = ()) -> None:
    host.put(Bridge("br-x", _datapath(host)), Port("br-x", name, kind, options))


def _two_flow_based(host: FakeHost) -> None:
    options = (*_FLOW_BASED, ("dst_port", "4799"))
    _port(host, "vx", "vxlan", options)
    host.put(Port("br-x", "vy", "vxlan", options))


def _leak(host: FakeHost) -> None:
    for number in range(1, 21):
        link = Link("gone", 1500, "02:00:00:00:00:02", True, "veth")
        host.put(link, Address("gone", f"239.9.0.{number}", 32, autojoin=True))
        host.take(link)


FOREIGN: Mapping[str, Foreign] = {
    "tunnel bridge": Foreign(
        lambda host: host.put(Bridge("br-mcast", _datapath(host))),
        "ovs-vsctl add-br br-mcast -- set bridge br-mcast datapath_type=$datapath",
        "ovs-vsctl del-br br-mcast",
    ),
    "bridge": Foreign(
        lambda host: host.put(Bridge("br-int", _datapath(host))),
        "ovs-vsctl add-br br-int -- set bridge br-int datapath_type=$datapath",
        "ovs-vsctl --if-exists del-br br-int",
    ),
    "device": Foreign(
        lambda host: host.put(Link("br-mcast", 1500, "02:00:00:00:00:02", False, "veth")),
        "ip link add br-mcast type veth peer name other",
        "ip link del br-mcast",
    ),
    "flow-based port": Foreign(
        lambda host: _port(host, "vx", "vxlan", _FLOW_BASED),
        f"{_ADD} -- add-port br-x vx -- set interface vx type=vxlan options:key=flow"
        " options:local_ip=flow options:remote_ip=flow",
    ),
    "two flow-based ports": Foreign(
        _two_flow_based,
        f"{_ADD}; for one in vx vy; do ovs-vsctl add-port br-x $one -- set interface $one"
        " type=vxlan options:key=flow options:local_ip=flow options:remote_ip=flow"
        " options:dst_port=4799 || true; done",
    ),
    "port to a group": Foreign(
        lambda host: _port(host, "vx", "vxlan", (("key", "7"), ("remote_ip", "239.0.0.9"))),
        # From some version on ovs-vsctl ends with 65 where a port has an error.
        f"{_ADD} -- add-port br-x vx -- set interface vx type=vxlan options:key=7"
        " options:remote_ip=239.0.0.9 || [ $? = 65 ]",
    ),
    "port to a peer": Foreign(
        lambda host: _port(host, "vx", "vxlan", (("key", "flow"), ("remote_ip", "10.0.0.99"))),
        f"{_ADD} -- add-port br-x vx -- set interface vx type=vxlan options:key=flow"
        " options:remote_ip=10.0.0.99",
    ),
    "port without a device": Foreign(
        lambda host: _port(host, "nic7", ""), f"{_ADD} -- add-port br-x nic7 || true"
    ),
    "patch without a peer": Foreign(
        lambda host: _port(host, "px", "patch", (("peer", "py"),)),
        f"{_ADD} -- add-port br-x px -- set interface px type=patch options:peer=py",
    ),
    "port of our name": Foreign(
        lambda host: _port(host, f"vxlan-{ownership.suffix('default')}", "internal"),
        f"{_ADD} -- add-port br-x $vxlan -- set interface $vxlan type=internal",
    ),
    "Linux vxlan device": Foreign(
        lambda host: host.put(Link("vx0", 1450, "02:00:00:00:00:02", True, "vxlan", 4789)),
        "ip link add vx0 type vxlan id 9 dev $device dstport 4789 remote 10.0.0.99;"
        " ip link set vx0 up",
        "ip link del vx0",
    ),
    "group address": Foreign(
        lambda host: host.put(Address(host.device, "239.0.0.1", 32)),
        "ip address add 239.0.0.1/32 dev $device",
        "ip address del 239.0.0.1/32 dev $device",
    ),
    "group address of a subnet": Foreign(
        lambda host: host.put(Address(host.device, "239.0.0.1", 24)),
        "ip address add 239.0.0.1/24 dev $device",
        "ip address del 239.0.0.1/24 dev $device",
    ),
    "autojoin address": Foreign(
        lambda host: host.put(Address(host.device, "239.0.0.1", 32, autojoin=True)),
        "ip address add 239.0.0.1/32 dev $device autojoin",
        "ip address del 239.0.0.1/32 dev $device",
    ),
    "nineteen autojoin addresses": Foreign(
        lambda host: host.put(
            *(Address(host.device, f"239.9.0.{n}", 32, autojoin=True) for n in range(1, 20))
        ),
        "for n in $(seq 19); do ip address add 239.9.0.$n/32 dev $device autojoin; done",
        "for n in $(seq 19); do ip address del 239.9.0.$n/32 dev $device; done",
    ),
    "leaked slots": Foreign(
        _leak,
        "for n in $(seq 20); do ip link add gone type veth peer name other; ip link set gone up;"
        " ip address add 239.9.0.$n/32 dev gone autojoin; ip link del gone; done",
        None,
    ),
    "route of our metric": Foreign(
        lambda host: host.put(
            Route(host.device, "239.0.0.1", None, _METRIC, protocol=7),
        ),
        "ip route add 239.0.0.1 dev $device metric $metric proto 7",
        "ip route del 239.0.0.1 dev $device metric $metric proto 7",
    ),
}
