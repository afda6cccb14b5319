"""Encode and decode the probe's datagrams. Pure.

Questions, answers and refusals are of one size, so no answer is larger than its question. Parsing
never raises: any other payload gives None. With a key, a payload carries HMAC-SHA256 (RFC 2104)
over its IP addresses and all of its fields: it cannot be forged, altered, or sent from elsewhere.
Time, run and sequence number let `replay` refuse a second use.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from netaddr import IPAddress

PORT = 24789  # unassigned by IANA, below Linux's ephemeral ports; VXLAN's is 4789

_MAGIC = b"ovs_mcast probe\n"
_VERSION = 1
_KEYED, _JOINED = 1, 2  # bits of the flags
# Magic, version, kind, way, flags, run, sequence, group, time, TTL, TTL seen, reason, zero,
# seen, repeats, withheld. The code follows.
_FIELDS = struct.Struct("!16s4B16sI16sQ4B3I")
_CODE_OCTETS = hashlib.sha256().digest_size
SIZE = _FIELDS.size + _CODE_OCTETS
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2)
_COUNTER_MAX = (1 << 32) - 1


class Kind(IntEnum):
    """The kind of a payload; a notice shows where packets go, and gets no answer."""

    QUESTION = 1
    ANSWER = 2
    REFUSAL = 3
    NOTICE = 4


class Way(IntEnum):
    """How a question was sent; its answer, always by unicast, repeats it."""

    GROUP = 1
    UNICAST = 2


class Reason(IntEnum):
    """Why a responder refuses."""

    NONE = 0
    KEY_DIFFERS = 1
    KEY_NEEDED = 2
    KEY_UNKNOWN = 3
    CLOCK = 4


@dataclass(frozen=True, slots=True)
class Message:
    """One payload. ``run`` is the 16-octet nonce of a sender's run; ``ttl`` is the question's.

    ``time`` is the sender's clock in microseconds since 1970, 0 without a key. Of an answer:
    ``ttl_seen`` is the question's TTL on arrival; ``joined`` is whether the responder is a member
    of ``group``; ``seen``, ``repeats`` and ``withheld`` count this run's questions to the group
    that reached it, those that came again, and the answers that its rate limit held back.
    """

    kind: Kind
    way: Way
    run: bytes
    sequence: int
    group: IPAddress
    time: int = 0
    ttl: int = 0
    ttl_seen: int = 0
    reason: Reason = Reason.NONE
    joined: bool = False
    seen: int = 0
    repeats: int = 0
    withheld: int = 0
    code: bytes | None = None

    def encode(self) -> bytes:
        """Return the payload, SIZE octets; counters stop at 2**32 - 1."""
        flags = (_KEYED if self.code is not None else 0) | (_JOINED if self.joined else 0)
        counters = (min(n, _COUNTER_MAX) for n in (self.seen, self.repeats, self.withheld))
        fields = _FIELDS.pack(
            _MAGIC, _VERSION, self.kind, self.way, flags, self.run, self.sequence,
            _packed(self.group), self.time, self.ttl, self.ttl_seen, self.reason, 0, *counters,
        )  # fmt: skip
        return fields + (self.code if self.code is not None else bytes(_CODE_OCTETS))

    def signed(self, key: bytes, source: str, destination: str) -> Message:
        """Return the message with the code of the key and of these two addresses."""
        return replace(self, code=self._code(key, source, destination))

    def verified(self, key: bytes, source: str, destination: str) -> bool:
        """Whether the message has that code."""
        wanted = self._code(key, source, destination)
        return self.code is not None and hmac.compare_digest(self.code, wanted)

    def _code(self, key: bytes, source: str, destination: str) -> bytes:
        addresses = _packed(IPAddress(source)) + _packed(IPAddress(destination))
        # Computed with a code of zeros and with the flag set, so the code covers the flag too.
        fields = replace(self, code=bytes(_CODE_OCTETS)).encode()[: _FIELDS.size]
        return hmac.digest(key, addresses + fields, "sha256")


def parse(payload: bytes) -> Message | None:
    """Return the message in a payload; None for any other payload."""
    if len(payload) != SIZE or not payload.startswith(_MAGIC):
        return None
    (
        _, version, kind, way, flags, run, sequence, group, time, ttl, ttl_seen, reason, zero,
        seen, repeats, withheld,
    ) = _FIELDS.unpack_from(payload)  # fmt: skip
    code = payload[_FIELDS.size :]
    keyed = bool(flags & _KEYED)
    if version != _VERSION or zero or flags & ~(_KEYED | _JOINED) or not (keyed or not any(code)):
        return None
    address = _unpacked(group)
    if not address.is_multicast():
        return None
    try:
        names = Kind(kind), Way(way), Reason(reason)
    except ValueError:
        return None
    return Message(
        *names[:2], run, sequence, address, time, ttl, ttl_seen, names[2], bool(flags & _JOINED),
        seen, repeats, withheld, code if keyed else None,
    )  # fmt: skip


def _packed(address: IPAddress) -> bytes:
    packed: bytes = address.packed
    return packed if len(packed) == 16 else _MAPPED + packed


def _unpacked(octets: bytes) -> IPAddress:
    if octets.startswith(_MAPPED):
        return IPAddress(int.from_bytes(octets[12:], "big"), 4)
    return IPAddress(int.from_bytes(octets, "big"), 6)
