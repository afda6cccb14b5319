"""What became of a run, by responder, and what that means in words. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import strerror
from typing import Literal

from .protocol import Reason

Sender = Literal["raw", "socket"]

_REFUSALS = {
    Reason.KEY_DIFFERS: "its key is another",
    Reason.KEY_NEEDED: "it asks for a key, and none was given",
    Reason.KEY_UNKNOWN: "it was started without a key, and one was given",
    Reason.CLOCK: "its clock differs by more than 30 s, or it was started just now",
}


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Times from question to answer, in milliseconds."""

    min: float
    avg: float
    max: float

    def to_json(self) -> dict[str, float]:
        """Return the fields of `rtt_ms`, to the microsecond."""
        return {"min": round(self.min, 3), "avg": round(self.avg, 3), "max": round(self.max, 3)}


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of the questions sent to one host, to the group or by unicast.

    ``received`` are questions that were answered, ``lost`` those that were not, and
    ``lost_after_first`` those of them that were sent after the first that was answered: the first
    packets may be lost while switches learn. ``duplicates`` are copies of answers.
    ``out_of_order`` are answers that came after the answer to a later question. ``ttl_distance`` is
    by how much the TTL had fallen on arrival: the number of routers.
    """

    sent: int
    received: int = 0
    lost_after_first: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    round_trip: RoundTrip | None = None
    ttl_distance: int | None = None

    @property
    def lost(self) -> int:
        """Questions without an answer."""
        return self.sent - self.received


@dataclass(frozen=True, slots=True)
class Responder:
    """One host: its answers to the group and by unicast, and its own counts.

    ``seen``, ``repeats`` and ``withheld`` are the responder's own counts of questions to the group
    that reached it, that reached it again, and that its rate limit left without an answer; None
    before its first answer. ``complete`` is whether they were read after the last question.
    ``error`` is the errno with which unicast failed, or 0; ``keyed``: a key was in use.
    """

    address: str
    group: Delivery
    unicast: Delivery
    refused: Reason = Reason.NONE
    joined: bool | None = None
    seen: int | None = None
    repeats: int = 0
    withheld: int = 0
    complete: bool = False
    error: int = 0
    keyed: bool = False

    @property
    def refusal(self) -> Reason:
        """Why the host refuses; NONE once it answered: anyone can forge a refusal, key or not."""
        return Reason.NONE if self.group.received + self.unicast.received else self.refused

    @property
    def lost_there(self) -> int | None:
        """Questions to the group that did not reach the host; None if it never answered."""
        return self.group.sent - self.seen if self.complete and self.seen is not None else None

    @property
    def lost_back(self) -> int | None:
        """Questions to the group that reached the host and whose answers were lost."""
        if self.lost_there is None:
            return None
        return max(0, self.group.lost - self.lost_there - self.withheld)

    def to_json(self, group: str) -> dict[str, object]:
        """Return the documented counters, those of unicast, and the conclusion."""
        return {
            **_delivery(self.group),
            "duplicates": self.group.duplicates + self.repeats,
            "lost_there": self.lost_there,
            "lost_back": self.lost_back,
            "withheld": self.withheld,
            "joined": self.joined,
            "refused": None if self.refusal is Reason.NONE else self.refusal.name.lower(),
            "unicast": {"sent": self.unicast.sent, **_delivery(self.unicast)},
            "conclusion": self.conclusion(group),
        }

    def conclusion(self, group: str) -> str:
        """Return the conclusion, in one sentence."""
        if self.refusal is not Reason.NONE:
            return f"{self.address} refuses: {_REFUSALS[self.refusal]}"
        if not self.group.received:
            return self._without_the_group(group)
        said = [*self._shortcomings()]
        if not self.unicast.received and self.unicast.sent:
            said.append(f"the group reaches {self.address}, and unicast to it does not")
        if self.joined is False:
            said.append(
                f"the group reaches {self.address}, which is no member: it is flooded, for want of "
                "snooping or of a querier"
            )
        if said:
            return f"{self.address}: " + "; ".join(said)
        return f"{self.address}: all {self.group.sent} questions to the group were answered once"

    def _without_the_group(self, group: str) -> str:
        if not self.unicast.received:
            return self._silence()
        if self.joined is False:
            return (
                f"{self.address} has not joined {group}: unicast answers; "
                f"start its responder with --group {group}"
            )
        if self.seen:
            lost = "its rate limit held back" if self.withheld else "the way back lost"
            return (
                f"the group reaches {self.address} ({self.seen} of {self.group.sent} questions), "
                f"and {lost} the answers"
            )
        return (
            f"multicast is not forwarded to {self.address}: unicast answers, the group does not, "
            "and none of its questions arrived there"
        )

    def _silence(self) -> str:
        if self.error == errno.ECONNREFUSED:
            return f"{self.address} is there, and no responder listens on it"
        why = f" ({strerror(self.error)})" if self.error else ""
        return (
            f"no answer from {self.address}, to the group or by unicast{why}: the network to it is "
            f"down, or no responder {'with this key ' if self.keyed else ''}runs there"
        )

    def _shortcomings(self) -> Iterator[str]:
        group = self.group
        if group.lost and not group.lost_after_first:
            yield f"the first {group.lost} of {group.sent} were lost, none after: switches learned"
        elif group.lost:
            where = ""
            if self.lost_there is not None:
                where = f": {self.lost_there} on the way there, {self.lost_back} on the way back"
            yield f"{group.lost} of {group.sent} questions to the group were lost{where}"
        if self.withheld:
            yield f"{self.withheld} answers were held back by its rate limit"
        if self.repeats:
            yield f"{self.repeats} questions to the group came there more than once"
        if group.duplicates:
            yield f"{group.duplicates} answers came back more than once"
        if group.out_of_order:
            yield f"{group.out_of_order} answers came out of order"


@dataclass(frozen=True, slots=True)
class Reachability:
    """The result of a run. ``sent`` counts questions to the group; ``expected`` are addresses.

    ``error`` is why an ordinary socket could not send to the group, an errno, or 0. ``ttl`` is that
    of the questions to the group; ``gateways`` are those of expected hosts behind one.
    """

    group: str
    device: str
    source: str
    sender: Sender
    sent: int
    responders: dict[str, Responder]
    expected: tuple[str, ...] = ()
    error: int = 0
    interrupted: bool = False
    ttl: int = 8
    gateways: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The expected hosts that did not answer to the group."""
        return tuple(one for one in self.expected if not self.responders[one].group.received)

    @property
    def ok(self) -> bool:
        """Whether all expected hosts, and at least one host, answered to the group."""
        anybody = any(one.group.received for one in self.responders.values())
        return anybody and not self.missing

    @property
    def problems(self) -> tuple[str, ...]:
        """Return the problems of the whole, as text; each responder has its own conclusion."""
        said = []
        if self.error:
            said.append(f"an ordinary socket cannot send to {self.group}: {strerror(self.error)}")
        if not any(one.group.received for one in self.responders.values()):
            said.append(f"nobody answered to {self.group} on {self.device}")
            if self.sender == "socket":
                said.append(
                    "compare with --sender raw: if that is answered, this host's routing is at "
                    f"fault, and `probe path --device {self.device} --group {self.group}` says how"
                )
        for host, gateway in self.gateways.items():
            if host in self.missing:
                said.append(
                    f"{host} is behind gateway {gateway}, and questions to the group had TTL "
                    f"{self.ttl}: the TTL must exceed the number of routers (--ttl)"
                )
        return tuple(said)

    def to_json(self) -> dict[str, object]:
        """Return the document of `probe send --json`."""
        return {
            "group": self.group,
            "device": self.device,
            "source": self.source,
            "sender": self.sender,
            "sent": self.sent,
            "ttl": self.ttl,
            "responders": {
                address: one.to_json(self.group) for address, one in self.responders.items()
            },
            "expected": list(self.expected),
            "missing": list(self.missing),
            "problems": list(self.problems),
        }


def _delivery(seen: Delivery) -> dict[str, object]:
    return {
        "received": seen.received,
        "lost": seen.lost,
        "lost_after_first": seen.lost_after_first,
        "duplicates": seen.duplicates,
        "out_of_order": seen.out_of_order,
        "rtt_ms": seen.round_trip.to_json() if seen.round_trip else None,
        "ttl_distance": seen.ttl_distance,
    }
