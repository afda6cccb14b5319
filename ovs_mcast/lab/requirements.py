"""The programs, the privilege and the kernel module that a lab needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import UnavailableError

# Program to the Debian package that has it.
PROGRAMS = {
    "ovsdb-server": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "ovs-ofctl": "openvswitch-switch",
    "ovs-appctl": "openvswitch-switch",
    "ip": "iproute2",
    "bridge": "iproute2",
    "ethtool": "ethtool",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}


def check_requirements() -> None:
    """Raise UnavailableError, with the cure, unless run as root with every program installed."""
    if os.geteuid() != 0:
        raise UnavailableError("the lab makes namespaces and raw sockets: run it as root")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        packages = " ".join(sorted({PROGRAMS[program] for program in missing}))
        raise UnavailableError(f"not found: {', '.join(missing)}; apt-get install {packages}")


def check_kernel_datapath() -> None:
    """Raise UnavailableError, with the cure, unless this kernel has Open vSwitch's datapath."""
    if not Path("/sys/module/openvswitch").exists():
        raise UnavailableError("this kernel has no Open vSwitch datapath: modprobe openvswitch")
