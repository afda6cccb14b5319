"""For the tests of agents that embed ovs_mcast: a Host in memory, with faults by name.

No root, no Open vSwitch and no test framework is needed.
"""

from ..core.items import Address, Bridge, Flow, GroupMembership, Port, Route
from ..core.observed import ArpSettings, Link
from .faults import FAULTS, Fault, Interrupted
from .happenings import HAPPENINGS, Happening
from .host import FakeHost

__all__ = [
    "FAULTS",
    "HAPPENINGS",
    "Address",
    "ArpSettings",
    "Bridge",
    "FakeHost",
    "Fault",
    "Flow",
    "GroupMembership",
    "Happening",
    "Interrupted",
    "Link",
    "Port",
    "Route",
]
