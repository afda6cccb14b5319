"""Several hosts on one machine, each with its own Open vSwitch, on one multicast underlay."""

from __future__ import annotations

from .capture import Capture
from .nodes import LinuxHost, Switch, Workload
from .ovs_host import Kind, SetupRun
from .ovs_host import OvsHost as Host
from .topology import Lab

__all__ = [
    "Capture",
    "Host",
    "Kind",
    "Lab",
    "LinuxHost",
    "SetupRun",
    "Switch",
    "Workload",
]
