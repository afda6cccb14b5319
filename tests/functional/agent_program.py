"""The agent's command as a program of a host, importable by users without privileges."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace

from ovs_mcast.adapters.systemd import Notify
from ovs_mcast.agent import command
from ovs_mcast.host.backend import Backend
from ovs_mcast.host.connect import this_platform
from ovs_mcast.host.platform import Platform
from ovs_mcast.probe import SendPath


def run(*_arguments: str) -> None:
    """The arguments of the command are those of the process."""
    command.main()


def run_with_a_defect(*_arguments: str) -> None:
    """The first measurement of the send path raises an unexpected exception."""
    command.main(_defective)


def _defective(db: str | None, notify: Notify) -> Platform:
    platform = this_platform(db, notify)
    defects: Iterator[OSError] = iter([OSError(errno.ENXIO, os.strerror(errno.ENXIO))])

    def connect() -> Backend:
        backend = platform.connect()

        def send_path(device: str, group: str, *, detection: float = 0.0) -> SendPath:
            for defect in defects:
                raise defect
            return backend.send_path(device, group, detection=detection)

        return replace(backend, send_path=send_path)

    return replace(platform, connect=connect)
