"""The counts of a run, on a simulated network that loses, doubles and reorders."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.probe.protocol import Kind, Message, Reason, Way
from ovs_mcast.probe.reachability import Delivery, Reachability, Responder, RoundTrip
from ovs_mcast.probe.tally import Tally
from tests.unit.test_probe_responder import ANSWERER, GROUP, START, answerer, frame, later, read

QUESTION = Message(Kind.QUESTION, Way.GROUP, b"r" * 16, 0, GROUP, ttl=8)
TEN = Delivery(sent=10, received=10, round_trip=RoundTrip(1, 2, 3), ttl_distance=0)
NONE = Delivery(sent=10)
FINE = Responder(ANSWERER, TEN, TEN, joined=True, seen=10, complete=True)


@dataclass
class Network:
    """One sender, one responder, and between them what happens to each question and answer.

    ``there`` and ``back`` are how often a packet of each sequence number arrives: 0, 1, 2 …
    """

    there: list[int]
    back: list[int]
    tally: Tally = field(default_factory=Tally)

    def run(self) -> Responder | None:
        host = answerer(rate=1e9)
        for way in Way:
            for number in range(len(self.there)):
                question = replace(QUESTION, way=way, sequence=number)
                self.tally.asked(way, ANSWERER, number, at=float(number))
                kept = way is Way.UNICAST
                for _ in range(1 if kept else self.there[number]):
                    answer = host.answer(frame(question), START)
                    for _ in range(1 if kept else self.back[number]):
                        if answer is not None:
                            _, message = read(answer)
                            assert self.tally.heard(ANSWERER, message, at=number + 0.002)
        return self.tally.responders().get(ANSWERER)


COPIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)


@given(COPIES)
def test_every_question_is_accounted_for(copies: list[tuple[int, int]]) -> None:
    """Received, lost there and lost back add up to the questions; so do copies."""
    there, back = [one for one, _ in copies], [one for _, one in copies]
    said = Network(there, back).run()
    assert said is not None
    group = said.group
    answered = [bool(t and b) for t, b in copies]
    assert (group.sent, group.received) == (len(copies), sum(answered))
    assert said.lost_there == sum(not t for t in there)
    assert said.lost_back == sum(bool(t and not b) for t, b in copies)
    assert group.lost == said.lost_there + said.lost_back
    assert said.repeats == sum(t - 1 for t in there if t)
    assert group.duplicates == sum(b - 1 for t, b in copies if t and b)
    after_first = answered[answered.index(True) :] if any(answered) else []
    assert group.lost_after_first == after_first.count(False)
    assert (group.ttl_distance == 2) == any(answered)
    if group.round_trip is not None:
        assert group.round_trip.min == pytest.approx(2.0)
    assert said.conclusion(str(GROUP))


@given(st.permutations(range(6)))
def test_order(order: list[int]) -> None:
    """An answer is out of order if one to a later question came before it."""
    tally, host = Tally(), answerer()
    for number in range(6):
        tally.asked(Way.GROUP, "", number, at=0.0)
    for number in order:
        _, message = read(host.answer(frame(replace(QUESTION, sequence=number)), later(1)))
        assert tally.heard(ANSWERER, message, at=1.0)
    late = sum(number < max(order[:position]) for position, number in enumerate(order) if position)
    assert tally.responders()[ANSWERER].group.out_of_order == late


@pytest.mark.parametrize(
    "message",
    [
        QUESTION,
        replace(QUESTION, kind=Kind.NOTICE),
        replace(QUESTION, kind=Kind.ANSWER, sequence=1),
        replace(QUESTION, kind=Kind.ANSWER, way=Way.UNICAST),
        replace(QUESTION, kind=Kind.ANSWER, reason=Reason.CLOCK),
        replace(QUESTION, kind=Kind.REFUSAL),
    ],
)
def test_what_answers_no_question_is_not_counted(message: Message) -> None:
    """An answer to a question that was not asked counts nowhere."""
    tally = Tally()
    tally.asked(Way.GROUP, "", 0, at=0.0)
    assert not tally.heard("10.0.0.66", message, at=1.0)
    assert tally.responders() == {}


def test_all_have_replied_when_the_last_has() -> None:
    """A refusal is a reply; an expected host that is silent keeps the sender waiting."""
    tally = Tally([ANSWERER, "10.0.0.3"])
    tally.asked(Way.GROUP, "", 0, at=0.0)
    refusal = replace(QUESTION, kind=Kind.REFUSAL, reason=Reason.KEY_DIFFERS)
    assert not tally.all_replied(Way.GROUP, tally.hosts)
    assert tally.heard(ANSWERER, refusal, at=1.0)
    assert tally.all_replied(Way.GROUP, [ANSWERER])
    assert not tally.all_replied(Way.GROUP, tally.hosts)
    assert tally.responders()[ANSWERER].refusal is Reason.KEY_DIFFERS


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (FINE, "all 10 questions to the group were answered once"),
        (replace(FINE, group=NONE, seen=0), "multicast is not forwarded to 10.0.0.2"),
        (replace(FINE, group=NONE, seen=0, joined=False), "10.0.0.2 has not joined 239.0.0.1"),
        (replace(FINE, group=NONE), "and the way back lost the answers"),
        (replace(FINE, group=NONE, withheld=10), "its rate limit held back the answers"),
        (replace(FINE, group=NONE, unicast=NONE), "the network to it is down"),
        (replace(FINE, group=NONE, unicast=NONE, keyed=True), "no responder with this key"),
        (
            replace(FINE, group=NONE, unicast=NONE, error=errno.ECONNREFUSED),
            "10.0.0.2 is there, and no responder listens on it",
        ),
        (
            replace(FINE, group=NONE, unicast=NONE, error=errno.EHOSTUNREACH),
            "(No route to host)",
        ),
        (replace(FINE, unicast=NONE), "the group reaches 10.0.0.2, and unicast to it does not"),
        (replace(FINE, joined=False), "is no member: it is flooded"),
        (replace(FINE, group=NONE, unicast=NONE, refused=Reason.CLOCK), "its clock differs"),
        # Anybody can make up a refusal: it does not hide an answer.
        (replace(FINE, refused=Reason.KEY_DIFFERS), "all 10 questions"),
        (replace(FINE, repeats=3), "3 questions to the group came there more than once"),
        (replace(FINE, group=replace(TEN, duplicates=2)), "2 answers came back more than once"),
        (replace(FINE, group=replace(TEN, out_of_order=2)), "2 answers came out of order"),
        (replace(FINE, group=replace(TEN, received=8)), "the first 2 of 10 were lost, none after"),
        (
            replace(FINE, group=replace(TEN, received=8, lost_after_first=1), seen=9),
            "2 of 10 questions to the group were lost: 1 on the way there, 1 on the way back",
        ),
        (
            replace(
                FINE, group=replace(TEN, received=8, lost_after_first=1), unicast=NONE,
                complete=False,
            ),
            "2 of 10 questions to the group were lost; the group reaches",
        ),
    ],
)  # fmt: skip
def test_the_conclusion(said: Responder, words: str) -> None:
    """Each fault has its own words."""
    assert words in said.conclusion("239.0.0.1")
    assert said.to_json("239.0.0.1")["conclusion"] == said.conclusion("239.0.0.1")


def test_the_whole_is_fine_if_all_that_were_expected_answered_and_anybody_did() -> None:
    """Nobody at all is a finding, and so is an expected host that is missing."""
    lost = replace(FINE, address="10.0.0.3", group=NONE)
    whole = Reachability("239.0.0.1", "eth0", "10.0.0.1", "raw", 10, {ANSWERER: FINE})
    assert whole.ok
    both = replace(whole, responders={ANSWERER: FINE, "10.0.0.3": lost})
    assert both.ok
    assert not replace(both, expected=(ANSWERER, "10.0.0.3")).ok
    assert replace(both, expected=("10.0.0.3",)).missing == ("10.0.0.3",)
    nobody = replace(whole, responders={}, sender="socket", error=errno.ENETUNREACH)
    assert not nobody.ok
    assert [line.split(":")[0] for line in nobody.problems] == [
        "an ordinary socket cannot send to 239.0.0.1",
        "nobody answered to 239.0.0.1 on eth0",
        "compare with --sender raw",
    ]


def test_the_contract_of_the_json() -> None:
    """The report has every documented name."""
    told = Reachability("239.0.0.1", "eth0", "10.0.0.1", "raw", 10, {ANSWERER: FINE}).to_json()
    assert {"group", "sent", "responders"} <= told.keys()
    answer = FINE.to_json("239.0.0.1")
    assert answer["rtt_ms"] == {"min": 1, "avg": 2, "max": 3}
    assert {"received", "lost", "duplicates", "lost_after_first", "out_of_order"} <= answer.keys()
    assert IPAddress(ANSWERER)
