"""Signals that are waited for along with sockets."""

from __future__ import annotations

import os
import signal
from select import select

import pytest

from ovs_mcast.adapters.signals import SignalPipe


def readable(pipe: SignalPipe) -> bool:
    return bool(select([pipe], [], [], 0)[0])


def test_a_signal_makes_it_readable_until_it_is_drained() -> None:
    """It yields the signal's number; other signals do nothing to it."""
    before = signal.getsignal(signal.SIGUSR1)
    came: list[int] = []
    with SignalPipe([signal.SIGUSR1], came.append) as pipe:
        assert not readable(pipe)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (readable(pipe), came) == (True, [signal.SIGUSR1])
        pipe.drain()
        assert not readable(pipe)
        pipe.drain()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1
    pipe.close()


def test_what_the_handler_raises_is_raised() -> None:
    """As KeyboardInterrupt is by default."""

    def refuse(_number: int) -> None:
        raise InterruptedError

    with SignalPipe([signal.SIGUSR1], refuse), pytest.raises(InterruptedError):
        os.kill(os.getpid(), signal.SIGUSR1)
