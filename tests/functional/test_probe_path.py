"""`probe path`: where an ordinary datagram goes, as seen in packets, and cures that do cure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from netaddr import IPAddress

from ovs_mcast.adapters.proc import joined
from ovs_mcast.lab import Lab, LinuxHost
from ovs_mcast.lab.namespace import link_batch
from ovs_mcast.membership.device_groups import DeviceGroups
from ovs_mcast.probe import send_path
from tests.functional.probing import (
    CHECKOUT,
    call,
    command_json,
    find_path,
    probes,
    sh,
    write,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

GROUP4, GROUP6 = "239.0.0.1", "ff05::1"
SOURCES = {GROUP4: "10.0.0.1", GROUP6: "fd00::1"}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> LinuxHost:
    """l1 (10.0.0.1, fd00::1 on eth0) ─ switch."""
    return lab.add_linux_host(addresses=["10.0.0.1/24", "fd00::1/64"])


def follow(host: LinuxHost, cure: str) -> None:
    """Run every command that the cure names between backquotes."""
    commands = re.findall(r"`(.+?)`", cure)
    assert commands
    sh(host, *commands)


def test_what_reaches_the_wire(lab: Lab, host: LinuxHost) -> None:
    """With a route and no group address, the verdict is wire, and the switch sees one datagram.

    l1 (route 239.0.0.0/24 dev eth0) ─ switch
    """
    sh(host, "ip route add 239.0.0.0/24 dev eth0")
    with lab.capture(lab.switch, host.name, probes) as wire:
        status, found = command_json(host, "path", "--device", "eth0", "--group", GROUP4)
        (datagram,) = wire.wait()
    assert status == 0
    assert (datagram.destination, datagram.ttl) == (GROUP4, 1)
    assert datagram.payload.startswith(b"ovs_mcast probe")
    assert found == {
        "group": GROUP4,
        "device": "eth0",
        "verdict": "wire",
        "route": {"device": "eth0", "source": "10.0.0.1"},
        "tunnel_route": {"device": "eth0", "source": "10.0.0.1"},
        "cause": "239.0.0.0/24 dev eth0 in table main takes it out of eth0",
        "cure": "",
        "evidence": {
            "packets": {"eth0": 1, "lo": 0},
            "error": None,
            "route_taken": "239.0.0.0/24 dev eth0 in table main",
            "tentative": [],
        },
    }


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_the_autojoin_hijack(lab: Lab, host: LinuxHost, group: str) -> None:
    """The memo's problem: seen on lo and not on the wire, explained, cured, and back with the link.

    IPv6 is looked at after duplicate address detection, for until then sending works. (Its address
    is kept when the link goes down: by default it goes for good, and its membership stays.)

    l1 (route to the group dev eth0, then the group as autojoin address) ─ switch
    """
    if group == GROUP4:
        sh(host, "ip route add 239.0.0.0/24 dev eth0")
    sh(host, f"ip addr add {group} dev eth0 autojoin")
    if group == GROUP6:
        assert "dev eth0" in host.run("ip", "-6", "route", "get", group).stdout
        write(host, "ipv6/conf/eth0/keep_addr_on_down", 1)
    with lab.capture(lab.switch, host.name, probes) as wire:
        found = find_path(host, group)
        assert wire.seen() == []
    bits = 32 if group == GROUP4 else 128
    assert (found["verdict"], found["evidence"]["packets"]) == ("loopback", {"eth0": 0, "lo": 1})
    assert found["route"]["device"] == "lo"
    assert found["cause"] == (
        f"local {group} dev eth0 in table local, made by the autojoin address {group}/{bits} on "
        "eth0, is looked up before table main and sends it to lo, where nobody listens"
    )
    # An explicit source helps the tunnel with IPv4, and not with IPv6.
    tunnel = "eth0" if group == GROUP4 else "lo"
    assert found["tunnel_route"] == {"device": tunnel, "source": SOURCES[group]}

    follow(host, found["cure"])
    with lab.capture(lab.switch, host.name, probes) as wire:
        assert find_path(host, group)["verdict"] == "wire"
        assert [datagram.source for datagram in wire.wait()] == [SOURCES[group]]
    sh(host, "ip link set eth0 down", "ip link set eth0 up")
    assert find_path(host, group)["verdict"] == "loopback"


def test_a_plain_address_hijacks_too(host: LinuxHost) -> None:
    """The address makes the diverting route, with autojoin or without; the cause names which.

    l1 (route 239.0.0.0/24 dev eth0, 239.0.0.1/32 without autojoin) ─ switch
    """
    sh(host, "ip route add 239.0.0.0/24 dev eth0", f"ip addr add {GROUP4}/32 dev eth0")
    found = find_path(host, GROUP4)
    assert found["verdict"] == "loopback"
    assert f"made by the address {GROUP4}/32 on eth0" in found["cause"]


def test_a_socket_membership_hijacks_nothing(host: LinuxHost) -> None:
    """The cure that the cause names first: joined by a socket, and sending reaches the wire.

    l1 (route 239.0.0.0/24 dev eth0; 239.0.0.1 joined by a socket) ─ switch
    """
    sh(host, "ip route add 239.0.0.0/24 dev eth0")

    def join_and_look() -> tuple[bool, str]:
        with DeviceGroups("eth0") as held:
            held.join([IPAddress(GROUP4)])
            return GROUP4 in joined("eth0"), send_path("eth0", GROUP4).verdict

    assert call(host, join_and_look) == (True, "wire")


def test_no_route(host: LinuxHost) -> None:
    """Nothing is seen anywhere, a tunnel with its own source would send, and the route cures it.

    l1 (no route to 239.0.0.1) ─ switch
    """
    status, found = command_json(host, "path", "--device", "eth0", "--group", GROUP4)
    assert (status, found["verdict"]) == (3, "none")
    assert found["route"] == {"device": None, "source": None}
    assert found["tunnel_route"]["device"] == "eth0"
    assert found["cause"].startswith("no route to the group")
    follow(host, found["cure"])
    assert find_path(host, GROUP4)["verdict"] == "wire"


@pytest.mark.parametrize("verb", ["blackhole", "unreachable", "prohibit"])
def test_a_route_that_forbids(host: LinuxHost, verb: str) -> None:
    """The kernel refuses to send, and the cause names the kind of route.

    l1 (KIND route 239.0.0.0/8) ─ switch
    """
    sh(host, f"ip route add {verb} 239.0.0.0/8")
    found = find_path(host, GROUP4)
    assert found["verdict"] == "none"
    assert f"{verb} route" in found["cause"]
    follow(host, found["cure"])
    assert find_path(host, GROUP4)["verdict"] == "wire"


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
def test_another_device(lab: Lab, host: LinuxHost, group: str) -> None:
    """What leaves by eth1 is none, though the same switch brings it back by eth0.

    For IPv6 every device has ff00::/8 in table local, and whichever comes first takes it.

    l1 ┬ eth0 ─ switch
       └ eth1 ─ switch
    """
    second = f"link add second master br0 type veth peer name eth1 netns {host.pid}"
    link_batch([second, "link set second up"], within=lab.switch)
    sh(host, "ip addr add 10.9.0.1/24 dev eth1", "ip link set eth1 up")
    if group == GROUP6:
        write(host, "ipv6/conf/eth1/disable_ipv6", 0)
        # The kernel's choice among equals is its own: here, eth1's comes first.
        sh(host, "ip -6 route del multicast ff00::/8 dev eth0 table local")
        sh(host, "ip -6 route append multicast ff00::/8 dev eth0 table local metric 256")
    else:
        sh(host, "ip route add 239.0.0.0/8 dev eth1")
    found = find_path(host, group)
    assert found["verdict"] == "none"
    assert found["evidence"]["packets"] == {"eth0": 0, "lo": 0, "eth1": 1}
    assert "another device, eth1" in found["cause"]
    follow(host, found["cure"])
    assert find_path(host, group)["verdict"] == "wire"


def test_a_device_that_is_down(host: LinuxHost) -> None:
    """The cause is the device, not the routes that went with it, and the cure puts it up.

    l1 (eth0 down) ─ switch
    """
    sh(host, "ip link set eth0 down")
    found = find_path(host, GROUP6)
    assert (found["verdict"], found["cause"]) == ("none", "eth0 is down")
    follow(host, found["cure"])
    assert find_path(host, GROUP6)["verdict"] == "wire"


def test_a_tentative_address_is_told(host: LinuxHost) -> None:
    """Without an end to duplicate address detection, the verdict is not relied upon: status 3.

    l1 (eth0, whose detection takes 100 tries) ─ switch
    """
    write(host, "ipv6/conf/eth0/dad_transmits", 100)
    sh(host, f"ip addr add {GROUP6} dev eth0 autojoin")
    found = call(host, send_path, "eth0", GROUP6, detection=0.2)
    assert (found.verdict, found.ok) == ("wire", False)
    assert GROUP6 in found.evidence.tentative
    assert "is tentative: that can change" in found.cause


def test_without_the_privilege(host: LinuxHost) -> None:
    """Exit status 5, one sentence, nothing on stdout.

    l1 ─ switch
    """
    command = (sys.executable, "-m", "ovs_mcast.probe", "path", "--device", "eth0")
    done = host.run(
        "setpriv", "--bounding-set=-net_raw", *command, "--group", GROUP4,
        check=False, env={"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "")
    assert "Operation not permitted" in done.stderr
    assert "Traceback" not in done.stderr
