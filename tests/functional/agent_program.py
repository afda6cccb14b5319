"""What is run on a host for an agent: the command alone, which users without rights can import."""

from __future__ import annotations

import errno
import os
from typing import Any

from ovs_mcast.agent import command, loop


def run(*_arguments: str) -> None:
    """The arguments of the command are those of the process."""
    command.main()


def run_with_a_defect(*_arguments: str) -> None:
    """The first look at the send path ends as nobody thought of."""
    send_path = vars(loop)["send_path"]

    def once(*arguments: Any, **named: Any) -> Any:
        vars(loop)["send_path"] = send_path
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))

    vars(loop)["send_path"] = once
    command.main()
