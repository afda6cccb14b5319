"""Notifications to the service manager, and descriptors from it.

sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). No library: systemd-python and cysystemd are
C extensions, and sdnotify passes no descriptors.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress

from ..core.text import harmless

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_MOST_DESCRIPTORS = 253  # of one message: SCM_MAX_FD
_QUEUE_SECONDS = 5.0  # to wait for room in a full queue, for a message that must not be lost
_UNNAMED = "unknown"  # the name that sd_listen_fds_with_names(3) gives


def handed_over(environment: MutableMapping[str, str] = os.environ) -> dict[str, list[int]]:
    """Return the descriptors that the service manager passed to this process, by their names.

    Programs that this process starts inherit neither the descriptors nor their variables.
    """
    pid, number, names = (
        environment.pop(f"LISTEN_{what}", "") for what in ("PID", "FDS", "FDNAMES")
    )
    environment.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()) or not number.isdigit():
        return {}
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(number))
    named = names.split(":")
    if len(named) != len(descriptors):
        named = [_UNNAMED] * len(descriptors)
    handed: dict[str, list[int]] = {}
    for name, descriptor in zip(named, descriptors, strict=True):
        with suppress(OSError):  # not open, against what the variables claim
            os.set_inheritable(descriptor, False)
            handed.setdefault(name, []).append(descriptor)
    return handed


class Notify:
    """Notifications to the service manager; without one, nothing happens.

    ``watchdog`` is the interval, in seconds, in which it expects ``alive``; None if it has none.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        mine = environment.get("WATCHDOG_PID") in {None, str(os.getpid())}
        octets = environment.get("WATCHDOG_USEC", "")
        self.watchdog = int(octets) / 1e6 if mine and octets.isdigit() and int(octets) else None

    def ready(self) -> None:
        """Report that the service is started, or its configuration reloaded."""
        self._send("READY=1", seconds=_QUEUE_SECONDS)

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Reset the watchdog; to be called twice within ``watchdog`` seconds."""
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def status(self, sentence: str) -> None:
        """Set the status line of `systemctl status`."""
        self._send("STATUS=" + harmless(" ".join(sentence.split())))

    def store(self, name: str, descriptors: Sequence[int]) -> None:
        """Have duplicates kept open, and passed to the next process of the service.

        ``name``: at most 255 octets of printable ASCII, no colon. Without FileDescriptorStoreMax=
        in the unit, or beyond it, the service manager closes them and reports nothing.
        """
        # Not polled: a socket that receives nothing never hangs up.
        message = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
        for start in range(0, len(descriptors), _MOST_DESCRIPTORS):
            self._send(message, descriptors[start : start + _MOST_DESCRIPTORS], _QUEUE_SECONDS)

    def discard(self, name: str) -> None:
        """Have all descriptors stored under a name closed."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", seconds=_QUEUE_SECONDS)

    def _send(self, message: str, descriptors: Sequence[int] = (), seconds: float = 0.0) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),  # a service manager that does not listen
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.settimeout(seconds)
            notify.connect(self._address)  # else poll(2) does not wait for a full queue
            socket.send_fds(notify, [message.encode()], list(descriptors))
