"""Names of this network namespace: who listens at them, and who may."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing

import pytest

from ovs_mcast.adapters import unix_socket

PREFIX = f"ovs-mcast-test-{os.getpid()}-"


def test_names_are_there_as_long_as_somebody_listens() -> None:
    """In their order, without those of other prefixes; a connection to one is no other name."""
    assert unix_socket.names(PREFIX) == []
    with (
        closing(unix_socket.listen(f"{PREFIX}2")) as listener,
        closing(unix_socket.listen(f"{PREFIX}1")),
    ):
        assert unix_socket.names(PREFIX) == [f"{PREFIX}1", f"{PREFIX}2"]
        assert unix_socket.names(f"{PREFIX}2") == [f"{PREFIX}2"]
        caller = unix_socket.connect(f"{PREFIX}2", {os.geteuid()})
        assert caller is not None
        accepted, _ = listener.accept()
        with caller, accepted:
            assert unix_socket.names(PREFIX) == [f"{PREFIX}1", f"{PREFIX}2"]
    assert unix_socket.names(PREFIX) == []


def test_a_name_is_one_listeners() -> None:
    with closing(unix_socket.listen(PREFIX)), pytest.raises(OSError, match="in use"):
        unix_socket.listen(PREFIX)


def test_who_is_not_trusted_is_not_spoken_to() -> None:
    with closing(unix_socket.listen(PREFIX)):
        assert unix_socket.connect(PREFIX, {os.geteuid() + 1}) is None
    assert unix_socket.connect(PREFIX, {os.geteuid()}) is None


def test_who_lets_nobody_in_is_not_waited_for() -> None:
    """Without ``wait`` a listener with a full queue is skipped at once."""
    with ExitStack() as stack:
        stack.enter_context(closing(unix_socket.listen(PREFIX)))
        us = {os.geteuid()}
        while (caller := unix_socket.connect(PREFIX, us, wait=False)) is not None:
            stack.enter_context(caller)
