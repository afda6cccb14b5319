"""A network namespace to work in, for one thread at a time (setns(2))."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.closeable import Closeable
from ..errors import ConfigurationError, UnavailableError

_NAMED = Path("/run/netns")  # as `ip netns` has them
_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000


class NetworkNamespace(Closeable):
    """A namespace by its name (ip-netns(8)), its path or a descriptor, which is duplicated.

    ConfigurationError if there is none.
    """

    def __init__(self, which: str | Path | int) -> None:
        try:
            self._descriptor = _opened(which)
        except OSError as error:
            raise ConfigurationError(
                f"there is no network namespace {which}: {error.strerror}", field="netns"
            ) from None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread be in it; UnavailableError without CAP_SYS_ADMIN."""
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._descriptor)
            try:
                yield
            finally:
                _enter(own)
        finally:
            os.close(own)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def _opened(which: str | Path | int) -> int:
    if isinstance(which, int):
        return os.dup(which)
    named = isinstance(which, str) and "/" not in which
    return os.open(_NAMED / which if named else which, os.O_RDONLY | os.O_CLOEXEC)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        reason = os.strerror(ctypes.get_errno())
        raise UnavailableError(f"cannot enter the network namespace: {reason}", reason="privilege")
