"""What systemd is told of a service: sd_notify(3), sd_watchdog_enabled(3); no library needed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


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

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),  # whoever does not listen misses it
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.setblocking(False)
            notify.sendto(message.encode(), self._address)
