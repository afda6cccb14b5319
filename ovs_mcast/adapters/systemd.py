"""What systemd is told of a service, and what it hands to one; no library needed.

sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_MOST_DESCRIPTORS = 253  # of one message: SCM_MAX_FD
_PATIENCE = 5.0  # seconds for a message whose loss would be felt: the queue may be full
_UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls it


def handed_over(environment: MutableMapping[str, str] = os.environ) -> dict[str, list[int]]:
    """The descriptors that the service manager has passed to this very process, by their names.

    No program that we start gets them, nor the variables that tell of them.
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
        with suppress(OSError):  # it is not open, whatever was said
            os.set_inheritable(descriptor, False)
            handed.setdefault(name, []).append(descriptor)
    return handed


class Notify:
    """Where the service manager wants to be told; says nothing where it does not."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        mine = environment.get("WATCHDOG_PID") in {None, str(os.getpid())}
        octets = environment.get("WATCHDOG_USEC", "")
        self.watchdog = int(octets) / 1e6 if mine and octets.isdigit() and int(octets) else None

    def ready(self) -> None:
        """The service is started, or its configuration is read again."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` ends that."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The loop goes round; to be told twice within ``watchdog`` seconds."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows."""
        self._tell("STATUS=" + " ".join(sentence.split()))

    def store(self, name: str, descriptors: Sequence[int]) -> None:
        """Have duplicates kept open, and handed to the process that is started after this one.

        ``name``: at most 255 octets of printable ASCII, no colon. A unit without
        FileDescriptorStoreMax= has them closed, as are those beyond it, and it hears nothing of it.
        """
        # Not polled: a socket that receives nothing never hangs up.
        message = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
        for start in range(0, len(descriptors), _MOST_DESCRIPTORS):
            self._tell(message, descriptors[start : start + _MOST_DESCRIPTORS], _PATIENCE)

    def discard(self, name: str) -> None:
        """Have all that is stored under a name closed."""
        self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}", patience=_PATIENCE)

    def _tell(self, message: str, descriptors: Sequence[int] = (), patience: float = 0.0) -> None:
        if not self._address:
            return
        rights = struct.pack(f"={len(descriptors)}i", *descriptors)
        with (
            suppress(OSError),  # whoever does not listen misses it
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.settimeout(patience)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
            notify.connect(self._address)  # else poll(2) does not wait for a full queue
            notify.sendmsg([message.encode()], passed)
