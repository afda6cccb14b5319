"""Which agent keeps an overlay: others who listen at its names keep none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ovs_mcast.adapters import processes, unix_socket
from ovs_mcast.host import agent_name
from ovs_mcast.host.agent_name import AgentName, TakenError, keeping

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
NOBODY = 65534


def test_one_agent_keeps_an_overlay(tmp_path: Path) -> None:
    assert keeping(tmp_path, "x") is None
    with AgentName(tmp_path, "x") as first:
        found = keeping(tmp_path, "x")
        assert found is not None
        assert (found.name, found.pid, found.uid) == (first.name, os.getpid(), os.geteuid())
        with pytest.raises(TakenError, match=f"process {os.getpid()} of user {os.geteuid()}"):
            AgentName(tmp_path, "x")
        with AgentName(tmp_path, "y"):
            pass
    assert keeping(tmp_path, "x") is None


def test_of_two_that_start_at_once_the_later_name_gives_way(tmp_path: Path) -> None:
    with AgentName(tmp_path, "x") as first:
        later = f"{first.name[:-1]}~"
        with closing(unix_socket.listen(later)):
            assert keeping(tmp_path, "x", before=first.name) is None
            found = keeping(tmp_path, "x", before=later)
            assert found is not None
            assert found.name == first.name


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[str]:
    """Another user listens at the overlay's names, one of them with a full queue."""
    prefix = agent_name._prefix(tmp_path, "x")
    with ExitStack() as stack:
        listeners = []
        os.seteuid(NOBODY)
        try:
            for end in ("", "-0", "-1"):
                listeners.append(stack.enter_context(closing(unix_socket.listen(prefix + end))))
        finally:
            os.seteuid(0)
        while (caller := unix_socket.connect(f"{prefix}-1", {NOBODY}, wait=False)) is not None:
            stack.enter_context(caller)
        yield prefix


@AS_ROOT
def test_another_user_keeps_no_agent_from_starting(tmp_path: Path, strangers: str) -> None:
    """Whatever names they listen at; here their sockets are open in this process of root's."""
    assert unix_socket.owner(strangers) == (os.getpid(), NOBODY)
    with pytest.raises(BlockingIOError):
        unix_socket.owner(f"{strangers}-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "user_of", lambda _process: NOBODY)
        assert keeping(tmp_path, "x") is None
        AgentName(tmp_path, "x").close()


@AS_ROOT
def test_an_agent_whose_queue_others_have_filled_is_found(tmp_path: Path) -> None:
    """By the process that has its socket open."""
    with AgentName(tmp_path, "x") as agent, ExitStack() as stack:
        while (caller := unix_socket.connect(agent.name, {0}, wait=False)) is not None:
            stack.enter_context(caller)
        assert isinstance(agent._socket, socket.socket)
        found = keeping(tmp_path, "x")
        assert found is not None
        assert found.pid == os.getpid()


@AS_ROOT
def test_a_name_with_a_lines_end_makes_up_no_agent(tmp_path: Path) -> None:
    """/proc/net/unix shows it as another row, here with the inode of a socket of root's.

    Neither alone, nor beside a true listener of the other user's whose queue is full.
    """
    prefix = agent_name._prefix(tmp_path, "x")
    with ExitStack() as stack:
        ours = stack.enter_context(closing(unix_socket.listen(f"ovs-mcast-{os.getpid()}-ours")))
        inode = os.fstat(ours.fileno()).st_ino
        row = f"0: 00000002 00000000 00010000 0001 01 {inode} @{prefix}-0"
        os.seteuid(NOBODY)
        try:
            stack.enter_context(closing(unix_socket.listen(f"{os.getpid()}\n{row}")))
        finally:
            os.seteuid(0)
        assert unix_socket.listeners(prefix) == {f"{prefix}-0": {inode}}
        assert keeping(tmp_path, "x") is None

        os.seteuid(NOBODY)
        try:
            true = stack.enter_context(closing(unix_socket.listen(f"{prefix}-0")))
        finally:
            os.seteuid(0)
        while (caller := unix_socket.connect(f"{prefix}-0", {NOBODY}, wait=False)) is not None:
            stack.enter_context(caller)
        theirs = os.fstat(true.fileno()).st_ino
        assert unix_socket.listeners(prefix) == {f"{prefix}-0": {inode, theirs}}
        found = {inode: os.getpid(), theirs: 1}
        users = {os.getpid(): 0, 1: NOBODY}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes, "with_sockets", lambda _inodes: found)
            patch.setattr(processes, "user_of", users.__getitem__)
            assert keeping(tmp_path, "x") is None
