"""A flow monitor whose connection ends: only a refusal shows that ovs-vswitchd has none."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_mcast.adapters.flow_monitor import FlowEvents
from ovs_mcast.core.events import Watched

HELLO = struct.pack("!BBHI", 5, 0, 8, 0)
ERROR = struct.pack("!BBHIHH", 5, 1, 12, 0, 1, 2)  # OFPET_BAD_REQUEST, OFPBRC_BAD_MULTIPART


@pytest.mark.parametrize(("said", "refused"), [(b"", False), (HELLO, False), (HELLO + ERROR, True)])
def test_only_a_refusal_is_one(tmp_path: Path, said: bytes, refused: bool) -> None:
    """A bridge removed before its answer has refused nothing: it may be asked again."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "br0.mgmt"))
        server.listen()
        with FlowEvents(tmp_path, "br0", [Watched(0)], "OpenFlow14") as events:
            client, _ = server.accept()
            with client:
                client.sendall(said)
            assert events.read() is None
            assert events.refused == refused


UPDATE = struct.pack("!BBHIHH4x", 5, 19, 16, 0, 16, 0)  # a reply of the flow monitor, without any
_said = st.lists(st.sampled_from([HELLO, UPDATE, UPDATE[:9], bytes(8)]) | st.binary(max_size=30))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_said.map(b"".join))
def test_any_bytes_are_events_or_the_end(tmp_path: Path, said: bytes) -> None:
    """A message that claims to be shorter than its header ends the connection, not the process."""
    path = tmp_path / "br0.mgmt"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with FlowEvents(tmp_path, "br0", [Watched(0)], "OpenFlow14") as events:
            client, _ = server.accept()
            with client:
                client.sendall(said)
                events.read()
            assert events.read() is None
