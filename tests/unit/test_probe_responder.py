"""The responder on a hostile network: what it answers, to whom, and at what rate."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.core.frames import UdpDatagram, decode_ethernet, decode_udp, ethernet, udp
from ovs_mcast.core.groups import ethernet_of
from ovs_mcast.core.items import Address
from ovs_mcast.core.observed import Link
from ovs_mcast.probe.device import Station
from ovs_mcast.probe.protocol import PORT, Kind, Message, Reason, Way, parse
from ovs_mcast.probe.replay import (
    RUNS_MAX,
    SOURCES_MAX,
    TOLERANCE,
    WINDOW,
    FairBucket,
    Runs,
    TokenBucket,
    Window,
)
from ovs_mcast.probe.responder import Answerer, Now

GROUP, OTHER_GROUP = IPAddress("239.0.0.1"), IPAddress("239.0.0.2")
ASKER, ASKER_MAC, ANSWERER = "10.0.0.1", "02:00:00:00:00:01", "10.0.0.2"
STATION = Station(
    Link("eth0", 1500, "02:00:00:00:00:02", up=True),
    (Address("eth0", ANSWERER, 24), Address("eth0", "239.0.0.9", 32, autojoin=True)),
)
START = Now(100.0, 1_000_000_000_000)
QUESTION = Message(Kind.QUESTION, Way.GROUP, b"r" * 16, 0, GROUP, ttl=8)


def answerer(**named: Any) -> Answerer:
    return Answerer(STATION, {GROUP}, {GROUP}, {4: IPAddress(ANSWERER)}, START, **named)


def frame(
    message: Message | bytes,
    *,
    source: str = ASKER,
    destination: str | None = None,
    mac: str = ASKER_MAC,
    ports: tuple[int, int] = (4000, PORT),
    ttl: int = 6,
    key: bytes | None = None,
    vlan: int | None = None,
) -> bytes:
    """The question on the wire."""
    if isinstance(message, Message) and destination is None:
        destination = str(message.group) if message.way is Way.GROUP else ANSWERER
    destination = destination or str(GROUP)
    if isinstance(message, Message):
        if key is not None:
            message = message.signed(key, source, destination)
        message = message.encode()
    packet = udp(source, destination, *ports, message, ttl=ttl)
    return ethernet(ethernet_of(GROUP), mac, 0x0800, packet, vlan=vlan)


def read(answer: bytes | None) -> tuple[UdpDatagram, Message]:
    assert answer is not None
    datagram = decode_udp(answer)
    assert datagram is not None
    message = parse(datagram.payload)
    assert message is not None
    return datagram, message


def later(seconds: float) -> Now:
    return Now(START.steady + seconds, START.wall + int(seconds * 1_000_000))


def in_time(message: Message, seconds: float = 0.0) -> Message:
    return replace(message, time=later(seconds).wall)


def test_a_question_is_answered_by_unicast() -> None:
    """The answer goes to the asker's addresses and port, with what the responder saw."""
    question = frame(QUESTION)
    answer = answerer().answer(question, START)
    datagram, message = read(answer)
    outer = decode_ethernet(answer or b"")
    assert outer is not None
    assert (outer.source, outer.destination) == (STATION.link.mac, ASKER_MAC)
    assert (datagram.source, datagram.destination) == (ANSWERER, ASKER)
    assert (datagram.source_port, datagram.destination_port) == (PORT, 4000)
    assert message == replace(QUESTION, kind=Kind.ANSWER, ttl_seen=6, joined=True, seen=1)
    assert len(answer or b"") == len(question)


def test_unicast_is_answered_from_where_it_was_asked() -> None:
    """A unicast question does not count for the group, and a non-member reports so."""
    question = replace(QUESTION, way=Way.UNICAST, group=OTHER_GROUP)
    datagram, message = read(answerer().answer(frame(question), START))
    assert datagram.source == ANSWERER
    assert (message.seen, message.joined) == (0, False)


@pytest.mark.parametrize(
    "question",
    [
        frame(QUESTION, source="239.0.0.7"),
        frame(QUESTION, source="255.255.255.255"),
        frame(QUESTION, source="10.0.0.255"),
        frame(QUESTION, source="127.0.0.1"),
        frame(QUESTION, source="0.0.0.0"),
        frame(QUESTION, source=ANSWERER),
        frame(QUESTION, mac="ff:ff:ff:ff:ff:ff"),
        frame(QUESTION, mac="01:00:5e:00:00:01"),
        frame(QUESTION, ports=(0, PORT)),
        frame(QUESTION, ports=(4000, PORT + 1)),
        frame(QUESTION, vlan=7),
        frame(QUESTION, destination=str(OTHER_GROUP)),
        frame(QUESTION, destination=ANSWERER),
        frame(replace(QUESTION, group=OTHER_GROUP)),
        frame(replace(QUESTION, group=IPAddress("ff05::1")), destination=str(GROUP)),
        frame(replace(QUESTION, way=Way.UNICAST), destination=str(GROUP)),
        frame(replace(QUESTION, way=Way.UNICAST), destination="10.0.0.3"),
        frame(replace(QUESTION, way=Way.UNICAST), destination="239.0.0.9"),
        frame(replace(QUESTION, kind=Kind.ANSWER)),
        frame(replace(QUESTION, kind=Kind.REFUSAL, reason=Reason.KEY_DIFFERS)),
        frame(replace(QUESTION, kind=Kind.NOTICE)),
        frame(QUESTION.encode() + b"\0"),
        frame(b"hello"),
    ],
)
def test_what_is_not_answered(question: bytes) -> None:
    """Sources that stand for many or nobody, other ports and groups, answers, and notices."""
    assert answerer().answer(question, START) is None


@given(st.binary(), st.integers(0, 160), st.binary(max_size=8), st.booleans())
def test_nothing_makes_it_raise_or_say_more_than_was_said(
    garbage: bytes, at: int, patch: bytes, keyed: bool
) -> None:
    """Whatever comes, an answer is no longer than it, and goes to one host."""
    key = b"k" if keyed else None
    whole = frame(in_time(QUESTION), key=key)
    for data in (garbage, whole[:at] + patch + whole[at + len(patch) :], whole[:at], whole):
        answer = answerer(key=key).answer(data, START)
        if answer is None:
            continue
        outer, datagram = decode_ethernet(answer), decode_udp(answer)
        assert len(answer) <= len(data)
        assert outer is not None
        assert datagram is not None
        assert not int(outer.destination[:2], 16) & 1
        assert not IPAddress(datagram.destination).is_multicast()


# How often


def test_a_question_is_answered_once() -> None:
    """A copy gets no answer; the next answer counts it."""
    host = answerer()
    assert host.answer(frame(QUESTION), START)
    assert host.answer(frame(QUESTION), START) is None
    _, message = read(host.answer(frame(replace(QUESTION, sequence=1)), START))
    assert (message.seen, message.repeats, message.withheld) == (2, 1, 0)
    # The same number by unicast, in another run, or from another host is another question.
    for other in (replace(QUESTION, way=Way.UNICAST), replace(QUESTION, run=b"s" * 16)):
        assert host.answer(frame(other), START)
    assert host.answer(frame(QUESTION, source="10.0.0.3"), START)


def test_the_rate_limit() -> None:
    """One second's worth is answered at once, then so many a second; the rest is counted."""
    host = answerer(rate=3)
    asked = [replace(QUESTION, sequence=n) for n in range(6)]
    answered = [host.answer(frame(one), START) is not None for one in asked[:5]]
    assert answered == [True, True, True, False, False]
    _, message = read(host.answer(frame(asked[5]), later(0.4)))
    assert (message.seen, message.withheld) == (6, 2)
    assert host.counts.withheld == 2


def test_refusals_have_a_tenth_of_the_rate_and_take_none_of_the_answers() -> None:
    """A flood with a wrong key costs those with the right one nothing."""
    host = answerer(key=b"right", rate=20)
    wrong = [frame(replace(QUESTION, sequence=n), key=b"wrong") for n in range(50)]
    assert sum(host.answer(one, START) is not None for one in wrong) == 2
    right = [frame(in_time(replace(QUESTION, sequence=n)), key=b"right") for n in range(20)]
    assert all(host.answer(one, START) for one in right)


@given(
    st.floats(0.1, 50),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_a_bucket_never_gives_more_than_its_rate(rate: float, gaps: list[float]) -> None:
    """From any moment on: at most one second's worth, and the rate times the time since."""
    bucket, now = TokenBucket(rate, 0.0), 0.0
    given_at = []
    for gap in gaps:
        now += gap
        if bucket.take(now):
            given_at.append(now)
    for first, begin in enumerate(given_at):
        for last in range(first, len(given_at)):
            passed = given_at[last] - begin
            assert last - first + 1 <= max(1.0, rate) + rate * passed + 1e-6


@pytest.mark.parametrize("forged", ["one", "two", "ever new"])
def test_a_flood_of_forged_sources_leaves_an_honest_one_its_answers(forged: str) -> None:
    """Of 10,000 forged questions a second for ten seconds, beside twenty a second.

    After the first second, when the flood has just begun, it gets nearly all.
    """
    bucket = FairBucket(200, 0.0)
    given_to: Counter[str] = Counter()
    for tick in range(100_000):
        now = tick / 10_000
        source = {"one": "f", "two": f"f{tick % 2}", "ever new": f"f{tick}"}[forged]
        given_to["forged"] += bucket.take(source, now)
        if tick % 500 == 250:
            given_to["honest" if now >= 1 else "at first"] += bucket.take("honest", now)
    assert given_to["honest"] >= 175  # of 180
    assert given_to["forged"] <= 200 + 10 * 200


def test_who_asks_alone_has_the_whole_rate() -> None:
    """Also after others have gone."""
    bucket = FairBucket(20, 0.0)
    assert not all(bucket.take(source, 0.0) for source in "ab" * 15)
    assert sum(bucket.take("a", 2.0) for _ in range(30)) == 20


def test_the_sources_that_are_remembered_are_few() -> None:
    bucket = FairBucket(200, 0.0)
    for number in range(2 * SOURCES_MAX):
        bucket.take(str(number), 0.0)
    assert len(bucket._sources) == SOURCES_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=60))
def test_a_fair_bucket_never_gives_more_than_its_rate(asked: list[tuple[str, float]]) -> None:
    bucket, now, given_out = FairBucket(8, 0.0), 0.0, 0
    for source, gap in asked:
        now += gap
        given_out += bucket.take(source, now)
    assert given_out <= 8 + 8 * now + 1e-6


@given(st.lists(st.integers(0, 3 * WINDOW) | st.integers(0, 50)))
def test_a_window_is_a_set_that_forgets(numbers: list[int]) -> None:
    """A window accepts what a set would, except numbers too far below the highest."""
    window, seen = Window(), set[int]()
    for number in numbers:
        too_old = bool(seen) and max(seen) - number >= WINDOW
        assert window.accept(number) == (number not in seen and not too_old)
        if not too_old:
            seen.add(number)
    assert (window.seen, window.seen + window.repeats) == (len(seen), len(numbers))


def test_runs_are_bounded() -> None:
    """Without a key the oldest is forgotten; with one, none that could be sent again."""
    for keep in (False, True):
        runs = Runs(keep=keep)
        for number in range(RUNS_MAX):
            assert runs.find(ASKER, number.to_bytes(16, "big"), 0.0)
        assert (runs.find(ASKER, b"n" * 16, 1.0) is None) == keep
        assert runs.find(ASKER, b"n" * 16, 2 * TOLERANCE)
        assert len(runs) == RUNS_MAX


# Keys


def test_the_right_key() -> None:
    """The answer has a code too, for its own two addresses."""
    host = answerer(key=b"k")
    datagram, message = read(host.answer(frame(in_time(QUESTION), key=b"k"), START))
    assert message.kind is Kind.ANSWER
    assert message.verified(b"k", datagram.source, datagram.destination)


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (b"k", b"x", Reason.KEY_DIFFERS),
        (b"k", None, Reason.KEY_NEEDED),
        (None, b"x", Reason.KEY_UNKNOWN),
    ],
)
def test_a_wrong_key_is_refused(ours: bytes | None, theirs: bytes | None, reason: Reason) -> None:
    """A refusal has a reason, no code, no more octets, and counts nothing; silent, none is sent."""
    question = frame(in_time(QUESTION), key=theirs)
    host = answerer(key=ours)
    answer = host.answer(question, START)
    _, message = read(answer)
    assert (message.kind, message.reason, message.code) == (Kind.REFUSAL, reason, None)
    assert (message.seen, message.repeats) == (0, 0)
    assert len(answer or b"") == len(question)
    assert answerer(key=ours, silent=True).answer(question, START) is None


def test_a_code_does_not_serve_from_elsewhere() -> None:
    """A recorded question from another address would send the answer there: it is refused."""
    payload = in_time(QUESTION).signed(b"k", ASKER, str(GROUP)).encode()
    _, message = read(answerer(key=b"k").answer(frame(payload, source="10.0.0.66"), START))
    assert message.reason is Reason.KEY_DIFFERS


@pytest.mark.parametrize("seconds", [-TOLERANCE - 1, TOLERANCE + 1])
def test_a_question_of_another_time_is_refused(seconds: float) -> None:
    """Before or after, beyond what clocks may differ; the refusal has a code."""
    now = later(1000)
    question = frame(in_time(QUESTION, 1000 + seconds), key=b"k")
    datagram, message = read(answerer(key=b"k").answer(question, now))
    assert message.reason is Reason.CLOCK
    assert message.verified(b"k", datagram.source, datagram.destination)


def test_nothing_is_answered_twice_by_starting_again() -> None:
    """A question sent before a responder started is not answered: its predecessor may have."""
    question = frame(in_time(QUESTION, -1), key=b"k")
    _, message = read(answerer(key=b"k").answer(question, later(1)))
    assert message.reason is Reason.CLOCK


def test_a_time_is_nothing_without_a_key() -> None:
    """Clocks that differ are nobody's business then."""
    _, message = read(answerer().answer(frame(replace(QUESTION, time=7)), START))
    assert message.kind is Kind.ANSWER
