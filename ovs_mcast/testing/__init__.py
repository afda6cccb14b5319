"""For the tests of agents that embed ovs_mcast: a Host in memory, with faults by name.

No root, no Open vSwitch and no test framework is needed.
"""

from .faults import FAULTS, Fault, Interrupted
from .happenings import HAPPENINGS, Happening
from .host import FakeHost

__all__ = ["FAULTS", "HAPPENINGS", "FakeHost", "Fault", "Happening", "Interrupted"]
