"""`probe send` and `probe respond`: whom a group reaches through a switch, and each fault by name.

The switch is a Linux bridge; what it does to packets is done by traffic control on its ports. The
sequence number's last octet is the 68th of the IPv4 packet.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netaddr import IPAddress

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import ETHERTYPE_IPV4, ethernet, udp
from ovs_mcast.lab import Lab
from ovs_mcast.lab.namespace import Namespace, link_batch
from ovs_mcast.probe.protocol import PORT, Kind, Message, Way
from tests.functional.probing import (
    GROUP,
    answering,
    answers_of,
    ask,
    command_json,
    hosts,
    member,
    probes,
    sh,
)
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
ODD = "match u8 1 1 at 67"
ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def filter_ingress(switch: Namespace, port: str, match: str, action: str) -> None:
    """Act on UDP that enters the switch by a port: `drop`, or `mirror to PORT`."""
    if action == "drop":
        # act_gact, which drops, is not in every kernel: redirect into a cable without an end.
        link_batch(["link add hole type veth peer name end", "link set hole up"], within=switch)
        action = "mirred egress redirect dev hole"
    else:
        action = f"mirred egress mirror dev {action.removeprefix('mirror to ')}"
    sh(
        switch,
        f"tc qdisc add dev {port} ingress",
        f"tc filter add dev {port} ingress protocol ip u32 match ip protocol 17 0xff"
        f" {match} action {action}",
    )


# What reaches whom


def test_a_silent_host_behind_a_gateway_is_named_with_the_ttl(lab: Lab) -> None:
    """The TTL is a cause: it is said beside the gateway, and not of hosts on the link.

    l1 (route to 10.9.0.0/24 via 10.0.0.2) asks ─ switch ─ l2 (nothing behind it)
    """
    asker, _ = hosts(lab, 2)
    sh(asker, f"ip route add 10.9.0.0/24 via {TWO} dev eth0")
    asked = ("--count=1", "--timeout=0.1", "--ttl=1", "--expect=10.9.0.1", f"--expect={TWO}")
    status, document = command_json(asker, "send", "--device=eth0", f"--group={GROUP}", *asked)
    assert (status, document["ttl"]) == (3, 1)
    said = (
        f"10.9.0.1 is behind gateway {TWO}, and questions to the group had TTL 1: the TTL must "
        "exceed the number of routers (--ttl)"
    )
    assert document["problems"] == [f"nobody answered to {GROUP} on eth0", said]


def test_members_answer_and_nobody_else_hears(lab: Lab) -> None:
    """With a querier, the switch snoops: the member answers all, and nothing reaches the other.

    l1 asks ─ switch (snooping, querier) ┬ l2 (member)
                                         └ l3 (listens, joined nothing)
    """
    one, two, three = hosts(lab, 3)
    with (
        member(lab, two),
        answering(three, GROUP, join=False),
        lab.capture(lab.switch, three.name, probes) as wire,
    ):
        status, said = command_json(
            one, "send", "--device", "eth0", "--group", GROUP, "--expect", TWO, "--count", "7"
        )
        assert status == 0
        assert (said["sent"], said["problems"], said["missing"]) == (7, [], [])
        assert list(said["responders"]) == [TWO]
        assert answers_of(said, TWO) == (7, 7, 0, 0)
        answer = said["responders"][TWO]
        assert (answer["lost"], answer["lost_after_first"], answer["ttl_distance"]) == (0, 0, 0)
        times = answer["rtt_ms"]
        assert 0 < times["min"] <= times["avg"] <= times["max"] < 1000
        assert answer["conclusion"] == f"{TWO}: all 7 questions to the group were answered once"
        assert wire.seen() == []
        # Asked for by name, the other answers by unicast, and says that it is no member.
        said = ask(one, GROUP, expect=[THREE])
    assert answers_of(said, THREE) == (0, 10, 0, 0)
    assert said["missing"] == [THREE]
    assert said["responders"][THREE]["conclusion"].startswith(f"{THREE} has not joined {GROUP}")


def test_without_a_querier_everybody_hears(lab: Lab) -> None:
    """A switch without a querier floods: the probe reports a responder that never joined.

    l1 asks ─ switch (snooping, no querier) ┬ l2 (member)
                                            └ l3 (listens, joined nothing)
    """
    one, two, three = hosts(lab, 3)
    sh(lab.switch, "ip link set br0 type bridge mcast_querier 0")
    with member(lab, two), answering(three, GROUP, join=False):
        said = ask(one, GROUP)
    assert answers_of(said, TWO) == answers_of(said, THREE) == (10, 10, 0, 0)
    assert "is no member: it is flooded" in said["responders"][THREE]["conclusion"]
    assert "no member" not in said["responders"][TWO]["conclusion"]


def test_without_a_querier_a_switch_that_does_not_flood_reaches_nobody(lab: Lab) -> None:
    """A pruning switch without a querier delivers nothing, not even to members.

    l1 asks ─ switch (snooping, no querier, floods no group) ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    sh(lab.switch, f"bridge link set dev {two.name} mcast_flood off")
    with member(lab, two):
        assert answers_of(ask(one, GROUP), TWO) == (10, 10, 0, 0)
        sh(lab.switch, "ip link set br0 type bridge mcast_querier 0")
        said = ask(one, GROUP, expect=[TWO])
    assert answers_of(said, TWO) == (0, 10, 0, 0)
    assert said["responders"][TWO]["conclusion"].startswith("multicast is not forwarded to")


def test_ipv6(lab: Lab) -> None:
    """Questions and answers over IPv6, with a key, to a member.

    l1 (fd00::1) asks ff05::7 ─ switch ─ l2 (fd00::2, member)
    """
    one = lab.add_linux_host(addresses=["fd00::1/64"])
    two = lab.add_linux_host(addresses=["fd00::2/64"])
    with answering(two, "ff05::7", key=b"k"):
        said = ask(one, "ff05::7", expect=["fd00::2"], key=b"k")
    assert answers_of(said, "fd00::2") == (10, 10, 0, 0)
    assert said["responders"]["fd00::2"]["joined"] is True


# Faults


def test_a_pruned_port(lab: Lab) -> None:
    """With only the group cut off, unicast answers, and the probe reports the difference.

    l1 asks ─ switch ┬ (pruned) l2 (member)
                     └ l3 (member)
    """
    one, two, three = hosts(lab, 3)
    with member(lab, two), member(lab, three):
        for _ in range(5):
            sh(lab.switch, f"bridge mdb del dev br0 port {two.name} grp {GROUP}")
            status, said = command_json(
                one, "send", "--device", "eth0", "--group", GROUP, "--expect", TWO,
                "--expect", THREE, "--interval", "0.01",
            )  # fmt: skip
            # A member says what it is once more, at random, and when it is queried.
            if two.name not in lab.switch.members(GROUP):
                break
    assert (status, said["missing"]) == (3, [TWO])
    assert answers_of(said, TWO) == (0, 5, 0, 0)
    assert answers_of(said, THREE) == (5, 5, 0, 0)
    assert said["responders"][TWO]["conclusion"] == (
        f"multicast is not forwarded to {TWO}: unicast answers, the group does not, "
        "and none of its questions arrived there"
    )


def test_lost_on_the_way_there(lab: Lab) -> None:
    """The probe distinguishes questions that the switch drops from lost answers.

    l1 asks ─ (drops odd questions to the group) switch ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    filter_ingress(lab.switch, one.name, f"match ip dst {GROUP} {ODD}", "drop")
    with member(lab, two):
        said = ask(one, GROUP)["responders"][TWO]
    assert (said["received"], said["lost"], said["lost_after_first"]) == (5, 5, 5)
    assert (said["lost_there"], said["lost_back"], said["unicast"]["lost"]) == (5, 0, 0)
    assert "5 of 10 questions to the group were lost: 5 on the way there" in said["conclusion"]


def test_lost_on_the_way_back(lab: Lab) -> None:
    """With answers dropped, the responder's own count shows that the questions arrived.

    l1 asks ─ switch (drops odd answers) ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    filter_ingress(lab.switch, two.name, f"match ip dst {ONE} {ODD}", "drop")
    with member(lab, two):
        said = ask(one, GROUP)["responders"][TWO]
    assert (said["received"], said["lost"], said["unicast"]["lost"]) == (5, 5, 5)
    assert (said["lost_there"], said["lost_back"]) == (0, 5)
    assert "0 on the way there, 5 on the way back" in said["conclusion"]


def test_the_first_lost(lab: Lab) -> None:
    """Questions lost before the first answer are counted separately.

    l1 asks ─ (drops questions 0 and 1) switch ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    first_two = f"match ip dst {GROUP} match u8 0 0xfe at 67"
    filter_ingress(lab.switch, one.name, first_two, "drop")
    with member(lab, two):
        said = ask(one, GROUP)["responders"][TWO]
    assert (said["received"], said["lost"], said["lost_after_first"]) == (8, 2, 0)
    assert "the first 2 of 10 were lost, none after" in said["conclusion"]


@pytest.mark.parametrize("what", ["questions", "answers"])
def test_duplicated(lab: Lab, what: str) -> None:
    """A mirror on the switch duplicates one direction, and the probe reports which.

    l1 asks ─ (mirrors to l2) switch (or mirrors to l1) ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    if what == "questions":
        filter_ingress(lab.switch, one.name, f"match ip dst {GROUP}", f"mirror to {two.name}")
    else:
        filter_ingress(lab.switch, two.name, f"match ip dst {ONE}", f"mirror to {one.name}")
    with member(lab, two):
        said = ask(one, GROUP)["responders"][TWO]
    assert (said["received"], said["lost"], said["duplicates"]) == (10, 0, 10)
    came = "10 questions to the group came there" if what == "questions" else "10 answers came back"
    assert f"{came} more than once" in said["conclusion"]


def test_the_network_down_or_no_responder(lab: Lab) -> None:
    """The probe distinguishes an unreachable host from one without a responder; both are status 3.

    l1 asks ─ switch ┬ (port down) l2
                     └ l3, without a responder
    """
    one, two, _ = hosts(lab, 3)
    sh(lab.switch, f"ip link set {two.name} down")
    said = ask(one, GROUP, expect=[TWO, THREE], count=1)
    assert answers_of(said, TWO) == answers_of(said, THREE) == (0, 0, 0, 0)
    assert "the network to it is down" in said["responders"][TWO]["conclusion"]
    assert said["responders"][THREE]["conclusion"] == (
        f"{THREE} is there, and no responder listens on it"
    )
    assert said["missing"] == [TWO, THREE]


def test_the_rate_limit_is_told(lab: Lab) -> None:
    """Answers that the responder itself holds back are not blamed on the network.

    l1 asks ten times at once ─ switch ─ l2 (member, 4 answers at most at once)
    """
    one, two = hosts(lab, 2)
    with member(lab, two, rate=4):
        said = ask(one, GROUP, interval=0.001)["responders"][TWO]
    assert said["received"] < 10
    assert said["withheld"] == said["lost"]
    assert (said["lost_there"], said["lost_back"]) == (0, 0)
    assert "held back by its rate limit" in said["conclusion"]


@contextmanager
def flood(host: Namespace, forged: Callable[[int], str]) -> Iterator[None]:
    """Questions from forged sources, some thousands a second, until the end of the context."""
    over = threading.Event()
    mac = Path(host.path("/sys/class/net/eth0/address")).read_text().strip()

    def send(wire: PacketSocket) -> None:
        for number in itertools.count():
            if over.wait(0.0003):
                return
            message = Message(Kind.QUESTION, Way.GROUP, number.to_bytes(16, "big"), 0,
                              IPAddress(GROUP), ttl=1)  # fmt: skip
            datagram = udp(forged(number), GROUP, 4000, PORT, message.encode(), ttl=1)
            wire.send(ethernet("01:00:5e:00:00:01", mac, ETHERTYPE_IPV4, datagram))

    with PacketSocket("eth0", namespace=host.pid) as wire:
        thread = threading.Thread(target=send, args=(wire,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("forged", ["one source", "ever new sources"])
def test_forged_questions_keep_no_answers_from_others(lab: Lab, forged: str) -> None:
    """Most questions are answered; where all have one bucket, none is.

    l1 asks ─ switch ─ l2 (member, 100 answers a second);  l3 forges thousands of questions a second
    """
    one, two, three = hosts(lab, 3)

    def source(number: int) -> str:
        return (
            "10.0.9.9"
            if forged == "one source"
            else f"10.{number >> 14 & 63}.{number >> 7 & 127}.7"
        )

    def answered() -> int:
        said = ask(one, GROUP, count=20, interval=0.1)["responders"]
        return int(said[TWO]["received"]) if TWO in said else 0

    with member(lab, two, rate=100), flood(three, source):
        # Not at once: at first the whole is used up. A busy machine may lose packets of the flood.
        assert eventually(lambda: answered() > 10, seconds=60)


def test_an_ordinary_socket_beside_frames_of_our_own(lab: Lab) -> None:
    """The sender's own routing is at fault: raw reaches all, an ordinary socket nobody.

    l1 (autojoin hijack) asks ─ switch ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    sh(one, f"ip route add {GROUP} dev eth0", f"ip addr add {GROUP}/32 dev eth0 autojoin")
    with member(lab, two):
        assert answers_of(ask(one, GROUP, expect=[TWO]), TWO) == (10, 10, 0, 0)
        said = ask(one, GROUP, expect=[TWO], sender="socket")
        assert answers_of(said, TWO) == (0, 10, 0, 0)
        assert any("this host's routing is at fault" in line for line in said["problems"])
        sh(one, f"ip route del local {GROUP} dev eth0 table local")
        assert answers_of(ask(one, GROUP, sender="socket"), TWO) == (10, 10, 0, 0)
        sh(one, f"ip route del {GROUP} dev eth0")
        said = ask(one, GROUP, expect=[TWO], sender="socket")
    assert "Network is unreachable" in said["problems"][0]
