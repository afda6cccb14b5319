"""One line about the machine that the tests ran on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess


def seen_on(datapath: str) -> str:
    """Kernel, Open vSwitch, datapath and iproute2 of this machine."""
    vswitchd, ip = _version("ovs-vswitchd", "--version"), _version("ip", "-V")
    return (
        f"Linux {os.uname().release}, Open vSwitch {vswitchd}, datapath {datapath}, iproute2 {ip}"
    )


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "missing"
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+[\w.]*", said)
    return found[0] if found else "unknown"
