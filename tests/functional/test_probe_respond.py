"""`probe respond`: keys, its life as a command, and what its sockets receive.

The switch is a Linux bridge.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from select import select
from subprocess import Popen

import pytest

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_IPV4, UdpDatagram, ethernet, udp
from ovs_mcast.errors import UnavailableError
from ovs_mcast.lab import Lab, LinuxHost
from ovs_mcast.lab.namespace import link_batch, wait_until
from ovs_mcast.probe import PORT
from ovs_mcast.probe.protocol import Kind, parse
from tests.functional.probing import (
    CHECKOUT,
    GROUP,
    answers_of,
    ask,
    command,
    hosts,
    member,
    probes,
    sh,
)

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize(
    ("ours", "theirs", "reason", "words"),
    [
        (b"right", b"wrong", "key_differs", "its key is another"),
        (None, b"right", "key_needed", "it asks for a key"),
        (b"right", None, "key_unknown", "it was started without a key"),
    ],
)
def test_a_wrong_key(
    lab: Lab, ours: bytes | None, theirs: bytes | None, reason: str, words: str
) -> None:
    """A responder with another key refuses, which is no answer, and is not taken for a fault.

    l1 (one key) asks ─ switch ─ l2 (member, another key)
    """
    one, two = hosts(lab, 2)
    with member(lab, two, key=theirs):
        said = ask(one, GROUP, expect=[TWO], key=ours)
    assert (answers_of(said, TWO), said["missing"]) == ((0, 0, 0, 0), [TWO])
    assert said["responders"][TWO]["refused"] == reason
    assert words in said["responders"][TWO]["conclusion"]


def test_a_silent_responder_says_nothing_of_the_key(lab: Lab) -> None:
    """With --silent a wrong key gets no refusal: nothing answers with this key.

    l1 (one key) asks ─ switch ─ l2 (member, another key, silent)
    """
    one, two = hosts(lab, 2)
    with (
        member(lab, two, key=b"theirs", silent=True),
        lab.capture(lab.switch, two.name, probes) as wire,
    ):
        said = ask(one, GROUP, expect=[TWO], key=b"ours")
        assert {datagram.source for datagram in wire.seen()} == {ONE}
    assert "no responder with this key runs there" in said["responders"][TWO]["conclusion"]


def test_a_recorded_question_is_not_answered_again(lab: Lab) -> None:
    """With a key, a question recorded on the wire and sent again gets no answer.

    l1 (key) asks ─ switch ─ l2 (member, key)
                      └ frames recorded here are sent again
    """
    one, two = hosts(lab, 2)
    with (
        member(lab, two, key=b"k"),
        lab.capture(lab.switch, two.name, lambda frame: frame) as recorder,
    ):
        ask(one, GROUP, key=b"k", count=1)
        question = next(frame for frame in recorder.wait(4) if is_question(probes(frame)))
        with (
            PacketSocket("eth0", namespace=one.pid) as packets,
            lab.capture(lab.switch, two.name, probes) as wire,
        ):
            packets.send(question)
            # One that may be answered comes after it, and its answer is the first.
            ask(one, GROUP, key=b"k", count=1)
            answers = [datagram for datagram in wire.wait(5) if datagram.source == TWO]
    runs = [message.run for message in map(parse, (one.payload for one in answers)) if message]
    recorded = parse((probes(question) or answers[0]).payload)
    assert runs
    assert recorded is not None
    assert recorded.run not in runs


def is_question(datagram: UdpDatagram | None) -> bool:
    message = parse(datagram.payload) if datagram is not None else None
    return message is not None and message.kind is Kind.QUESTION


# The responder as a command


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_responder_ends_in_order(lab: Lab, name: str) -> None:
    """Interrupted, the responder leaves the group, reports its counts, and exits with 0.

    l1 asks ─ switch ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    with responder(two, "--group", GROUP, "--key-file", "/run/key") as process:
        assert GROUP in two.run("ip", "maddr", "show", "dev", "eth0").stdout
        wait_until(lambda: two.name in lab.switch.members(GROUP), "never joined", timeout=5)
        done = command(
            one, "send", "--device", "eth0", "--group", GROUP, "--count", "3", "--expect", TWO,
            OVS_MCAST_PROBE_KEY="secret",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        inside = int(two.run("pidof", "-s", "-x", "ovs-mcast-test").stdout)
        two.run("kill", f"-{name}", str(inside))
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert (
            process.stderr.read() == "ended: 6 answered, 0 refused, 0 withheld by the rate limit\n"
        )
    assert GROUP not in two.run("ip", "maddr", "show", "dev", "eth0").stdout


def test_one_answer_and_a_time(lab: Lab) -> None:
    """--once ends after one answer, --duration after a time; a second one finds the port taken.

    l1 asks ─ switch ─ l2 (member)
    """
    one, two = hosts(lab, 2)
    with responder(two, "--group", GROUP, "--key-file", "/run/key", "--once") as process:
        done = command(two, "respond", "--device", "eth0", "--group", GROUP)
        assert (done.returncode, done.stdout) == (5, "")
        assert f"UDP port {PORT} on eth0: Address already in use" in done.stderr
        wait_until(lambda: two.name in lab.switch.members(GROUP), "never joined", timeout=5)
        said = ask(one, GROUP, key=b"secret", count=1, expect=[TWO])
        assert answers_of(said, TWO) == (1, 0, 0, 0)
        assert process.wait(10) == 0
    done = command(two, "respond", "--device", "eth0", "--group", GROUP, "--duration", "0.1")
    assert done.returncode == 0
    assert "ended: 0 answered" in done.stderr


@contextmanager
def responder(host: LinuxHost, *arguments: str) -> Iterator[Popen[str]]:
    """Run the command, from its ready line on."""
    host.run("sh", "-c", f"echo secret >/run/key; ln -sf {sys.executable} /run/ovs-mcast-test")
    process = host.popen(
        "/run/ovs-mcast-test", "-m", "ovs_mcast.probe", "respond", "--device", "eth0", *arguments,
        env={"PYTHONPATH": ":".join([str(CHECKOUT), *sys.path])},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert select([process.stderr], [], [], 20)[0], "not ready"
        line = process.stderr.readline()
        assert re.fullmatch(rf"ready: {GROUP} on eth0, from {TWO}, UDP port {PORT}\n", line), line
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


# What a socket hears


def test_a_socket_for_one_udp_port(lab: Lab) -> None:
    """The kernel's filter passes the port's datagrams, of both families, and no others.

    l1: near ─ far
    """
    one = lab.add_linux_host()
    link_batch(
        ["link add near type veth peer name far", "link set near up", "link set far up"], within=one
    )
    payload = b"to be heard"
    plain = udp(ONE, TWO, 9, PORT, payload)
    six = udp("fd00::1", "fd00::2", 9, PORT, payload)

    def frame(packet: bytes, ethertype: int = ETHERTYPE_IPV4) -> bytes:
        return ethernet(BROADCAST, "02:00:00:00:00:01", ethertype, packet)

    unwanted = [
        frame(udp(ONE, TWO, PORT, 9, payload)),
        frame(plain[:6] + b"\x00\x01" + plain[8:]),  # a later fragment
        frame(plain[:9] + b"\x06" + plain[10:]),  # TCP
        frame(plain, 0x88B5),
        frame(six[:6] + b"\x06" + six[7:], 0x86DD),
        frame(udp("fd00::1", "fd00::2", PORT, 9, payload), 0x86DD),
        frame(b""),
    ]
    with_option = bytes([0x46]) + plain[1:20] + b"\x01\x01\x01\x00" + plain[20:]
    wanted = [frame(plain), frame(with_option), frame(six, 0x86DD)]
    with (
        PacketSocket("far", namespace=one.pid, udp_port=PORT) as heard,
        PacketSocket("far", namespace=one.pid, udp_port=PORT, outgoing=True, incoming=False) as out,
        PacketSocket("near", namespace=one.pid) as packets,
    ):
        for one_frame in [*unwanted, *wanted, frame(udp(ONE, TWO, 9, PORT, b"the last"))]:
            packets.send(one_frame)
        got = []
        while (got_one := heard.receive(5)) and b"the last" not in got_one:
            got.append(got_one)
        assert out.receive() is None
    assert got == wanted


def test_a_device_that_goes_down_is_survived(lab: Lab) -> None:
    """A responder outlives its device's link, and answers again when it is back.

    l1 asks ─ switch ─ l2 (member; eth0 down, and up)
    """
    one, two = hosts(lab, 2)
    with member(lab, two):
        sh(two, "ip link set eth0 down", "ip link set eth0 up")
        wait_until(
            lambda: "state forwarding" in port_state(lab, two), "the port stays down", timeout=5
        )
        wait_until(lambda: two.name in lab.switch.members(GROUP), "never joined", timeout=5)
        assert answers_of(ask(one, GROUP), TWO) == (10, 10, 0, 0)
        sh(one, "ip link set eth0 down")
        with pytest.raises(UnavailableError, match="eth0: Network is down"):
            ask(one, GROUP)


def port_state(lab: Lab, host: LinuxHost) -> str:
    return lab.switch.run("bridge", "link", "show", "dev", host.name).stdout
