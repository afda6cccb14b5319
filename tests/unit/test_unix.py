"""Names of this network namespace: who listens at them, and who may."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing

import pytest

from ovs_mcast.adapters import unix

PREFIX = f"ovs-mcast-test-{os.getpid()}-"


def test_names_are_there_as_long_as_somebody_listens() -> None:
    """In their order, without those of other prefixes; a connection to one is no other name."""
    assert unix.names(PREFIX) == []
    with closing(unix.listen(f"{PREFIX}2")) as listener, closing(unix.listen(f"{PREFIX}1")):
        assert unix.names(PREFIX) == [f"{PREFIX}1", f"{PREFIX}2"]
        assert unix.names(f"{PREFIX}2") == [f"{PREFIX}2"]
        caller = unix.connect(f"{PREFIX}2", {os.geteuid()})
        assert caller is not None
        accepted, _ = listener.accept()
        with caller, accepted:
            assert unix.names(PREFIX) == [f"{PREFIX}1", f"{PREFIX}2"]
    assert unix.names(PREFIX) == []


def test_a_name_is_one_listeners() -> None:
    with closing(unix.listen(PREFIX)), pytest.raises(OSError, match="in use"):
        unix.listen(PREFIX)


def test_who_is_not_trusted_is_not_spoken_to() -> None:
    with closing(unix.listen(PREFIX)):
        assert unix.connect(PREFIX, {os.geteuid() + 1}) is None
    assert unix.connect(PREFIX, {os.geteuid()}) is None


def test_who_lets_nobody_in_is_not_waited_for() -> None:
    """A stranger whose queue is full costs no time, where nobody says that it is worth it."""
    with ExitStack() as stack:
        stack.enter_context(closing(unix.listen(PREFIX)))
        us = {os.geteuid()}
        while (caller := unix.connect(PREFIX, us, wait=False)) is not None:
            stack.enter_context(caller)
