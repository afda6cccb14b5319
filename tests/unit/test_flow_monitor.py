"""A flow monitor whose connection ends: only a refusal shows that ovs-vswitchd has none."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

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
