"""Count one run of the sender: questions sent, answers received. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .protocol import Kind, Message, Reason, Way
from .reachability import Delivery, Responder, RoundTrip


@dataclass(slots=True)
class _Heard:
    """Answers of one host to the group's or to unicast questions; a refusal counts as a reply."""

    times: dict[int, float] = field(default_factory=dict)  # sequence to seconds, first answers
    copies: int = 0
    highest: int = -1
    late: int = 0
    distance: int | None = None
    replied: set[int] = field(default_factory=set)

    def take(self, message: Message, seconds: float) -> None:
        sequence = message.sequence
        self.replied.add(sequence)
        if message.kind is Kind.REFUSAL:
            return
        if sequence in self.times:
            self.copies += 1
            return
        self.times[sequence] = seconds
        self.late += sequence < self.highest
        self.highest = max(self.highest, sequence)
        self.distance = max(message.ttl - message.ttl_seen, self.distance or 0)

    def delivery(self, asked: Mapping[int, float]) -> Delivery:
        first = min(self.times, default=None)
        after = (one for one in asked.keys() - self.times.keys() if first is not None)
        return Delivery(
            sent=len(asked),
            received=len(self.times),
            lost_after_first=sum(1 for one in after if first is not None and one > first),
            duplicates=self.copies,
            out_of_order=self.late,
            round_trip=_round_trip([1000 * one for one in self.times.values()]),
            ttl_distance=self.distance,
        )


def _round_trip(milliseconds: list[float]) -> RoundTrip | None:
    if not milliseconds:
        return None
    mean = sum(milliseconds) / len(milliseconds)
    return RoundTrip(min(milliseconds), mean, max(milliseconds))


@dataclass(slots=True)
class _Host:
    """All answers of one host; its own counters never fall."""

    heard: dict[Way, _Heard] = field(default_factory=lambda: {way: _Heard() for way in Way})
    own_counts: Counter[str] = field(default_factory=Counter)
    refused: Reason = Reason.NONE
    joined: bool | None = None

    def take(self, message: Message, seconds: float) -> None:
        self.heard[message.way].take(message, seconds)
        if message.kind is Kind.REFUSAL:
            self.refused = message.reason
            return
        self.joined = message.joined
        for name in ("seen", "repeats", "withheld"):
            self.own_counts[name] = max(self.own_counts[name], getattr(message, name))


class Tally:
    """The counts of one run; ``expected`` hosts are in the result even if they never answer."""

    def __init__(self, expected: Iterable[str] = (), *, keyed: bool = False) -> None:
        self._keyed = keyed
        self._asked: dict[tuple[Way, str], dict[int, float]] = {}
        self._hosts = {host: _Host() for host in expected}
        self.errors: dict[str, int] = {}

    @property
    def hosts(self) -> tuple[str, ...]:
        """The expected hosts, and those that answered."""
        return tuple(self._hosts)

    @property
    def sent(self) -> int:
        """Questions sent to the group."""
        return len(self._asked_of(Way.GROUP, ""))

    def asked(self, way: Way, host: str, sequence: int, at: float) -> None:
        """Count a question sent at this time (in seconds); one to the group concerns all hosts."""
        self._asked.setdefault((way, _name(way, host)), {})[sequence] = at

    def heard(self, host: str, message: Message, at: float) -> bool:
        """Count an answer or refusal; return False if it matches no question asked."""
        at_first = self._asked_of(message.way, host).get(message.sequence)
        if at_first is None or message.kind not in {Kind.ANSWER, Kind.REFUSAL}:
            return False
        if (message.kind is Kind.REFUSAL) != (message.reason is not Reason.NONE):
            return False
        self._hosts.setdefault(host, _Host()).take(message, at - at_first)
        return True

    def all_replied(self, way: Way, hosts: Iterable[str]) -> bool:
        """Whether each host replied to each question sent by this ``way``."""
        return all(
            len(self._hosts[host].heard[way].replied) >= len(self._asked_of(way, host))
            for host in hosts
        )

    def responders(self) -> dict[str, Responder]:
        """Return the result, by address."""
        return {address: self._responder(address, host) for address, host in self._hosts.items()}

    def _responder(self, address: str, host: _Host) -> Responder:
        group, unicast = (
            host.heard[way].delivery(self._asked_of(way, address))
            for way in (Way.GROUP, Way.UNICAST)
        )
        return Responder(
            address=address,
            group=group,
            unicast=unicast,
            refused=host.refused,
            joined=host.joined,
            seen=host.own_counts["seen"] if host.joined is not None else None,
            repeats=host.own_counts["repeats"],
            withheld=host.own_counts["withheld"],
            complete=unicast.received > 0,
            error=self.errors.get(address, 0),
            keyed=self._keyed,
        )

    def _asked_of(self, way: Way, host: str) -> Mapping[int, float]:
        return self._asked.get((way, _name(way, host)), {})


def _name(way: Way, host: str) -> str:
    return "" if way is Way.GROUP else host
