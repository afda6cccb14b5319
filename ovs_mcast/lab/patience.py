"""How long the lab waits for what must come: longer where all is slow, as under emulation."""

from __future__ import annotations

import os

# How many times slower this machine is than those for which the seconds in the code were chosen.
_FACTOR = float(os.environ.get("OVS_MCAST_LAB_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """So many seconds on a usual machine, as seconds on this one."""
    return seconds * _FACTOR
