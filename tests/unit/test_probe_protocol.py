"""The probe's payload: it comes apart as it was put together, garbage is nothing, codes hold."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from ovs_mcast.probe.protocol import SIZE, Kind, Message, Reason, Way, parse

OCTET, WORD = st.integers(0, 255), st.integers(0, (1 << 32) - 1)
GROUPS = st.one_of(
    st.integers(0xE0000000, 0xEFFFFFFF).map(lambda n: IPAddress(n, 4)),
    st.integers(0, (1 << 120) - 1).map(lambda n: IPAddress(0xFF << 120 | n, 6)),
)
MESSAGES = st.builds(
    Message,
    kind=st.sampled_from(Kind),
    way=st.sampled_from(Way),
    run=st.binary(min_size=16, max_size=16),
    sequence=WORD,
    group=GROUPS,
    time=st.integers(0, (1 << 64) - 1),
    ttl=OCTET,
    ttl_seen=OCTET,
    reason=st.sampled_from(Reason),
    joined=st.booleans(),
    seen=WORD,
    repeats=WORD,
    withheld=WORD,
    code=st.none() | st.binary(min_size=32, max_size=32),
)
HERE, THERE = "10.0.0.1", "fd00::2"


@given(MESSAGES)
def test_a_message_comes_apart_as_it_was_put_together(message: Message) -> None:
    """Every field survives, and every payload has the one size."""
    payload = message.encode()
    assert len(payload) == SIZE
    assert payload.startswith(b"ovs_mcast probe\n")
    assert parse(payload) == message


@given(MESSAGES, st.binary(max_size=2 * SIZE), st.integers(0, SIZE))
def test_garbage_is_nothing(message: Message, garbage: bytes, kept: int) -> None:
    """No octets make parsing raise; an accepted payload encodes to itself."""
    whole = message.encode()
    for data in (garbage, whole[:kept], whole[:kept] + garbage, (whole[:kept] + garbage)[:SIZE]):
        found = parse(data)
        assert found is None or (len(data) == SIZE and found.encode() == data)


@given(MESSAGES, st.binary(min_size=1), st.integers(0, SIZE - 1), st.integers(1, 255))
def test_a_code_covers_every_octet(message: Message, key: bytes, at: int, flip: int) -> None:
    """With the key it is verified; one octet changed anywhere, and it is not."""
    signed = message.signed(key, HERE, THERE)
    assert signed.verified(key, HERE, THERE)
    payload = bytearray(signed.encode())
    payload[at] ^= flip
    changed = parse(bytes(payload))
    assert changed is None or not changed.verified(key, HERE, THERE)


@given(MESSAGES, st.binary(min_size=1), st.binary(min_size=1))
def test_a_code_is_of_one_key_and_two_addresses(message: Message, key: bytes, other: bytes) -> None:
    """Another key, another source, another destination: not verified; nor without a code."""
    signed = message.signed(key, HERE, THERE)
    # RFC 2104 fills keys up with zeros.
    assert signed.verified(other, HERE, THERE) == (other.ljust(64, b"\0") == key.ljust(64, b"\0"))
    assert not signed.verified(key, "10.0.0.9", THERE)
    assert not signed.verified(key, HERE, "fd00::9")
    assert not signed.verified(key, THERE, HERE)
    assert not replace(message, code=None).verified(key, HERE, THERE)


def test_counters_stop_at_their_end() -> None:
    """A counter beyond its field is sent as the largest value."""
    message = Message(Kind.ANSWER, Way.GROUP, bytes(16), 0, IPAddress("239.0.0.1"), seen=1 << 40)
    found = parse(message.encode())
    assert found is not None
    assert found.seen == (1 << 32) - 1
