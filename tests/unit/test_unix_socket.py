"""Names of this network namespace, their listeners and their owners."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Timer

import pytest

from ovs_mcast.adapters import unix_socket

PREFIX = f"ovs-mcast-test-{os.getpid()}-"
US = {os.geteuid()}


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


@contextmanager
def full_queue() -> Iterator[socket.socket]:
    """A listener that accepts nobody, and as many callers as its queue holds."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(unix_socket.listen(PREFIX)))
        while (caller := unix_socket.connect(PREFIX, US, wait=False)) is not None:
            stack.enter_context(caller)
        yield listener


def test_a_full_queue_is_not_waited_for() -> None:
    """Without ``wait`` the thread does not sleep for a listener whose queue is full."""

    def sleeps() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        assert unix_socket.connect(PREFIX, US, wait=False) is None
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    with full_queue():
        assert min(sleeps() for _ in range(5)) == 0


def test_a_full_queue_is_waited_for() -> None:
    """With ``wait`` the connection is made once the listener accepts another caller."""
    with full_queue() as listener, ExitStack() as accepted:
        accepting = Timer(0.2, lambda: accepted.enter_context(listener.accept()[0]))
        accepting.start()
        caller = unix_socket.connect(PREFIX, US)
        accepting.join()
        assert caller is not None
        caller.close()
