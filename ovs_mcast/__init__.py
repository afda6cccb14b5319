"""Open vSwitch VXLAN overlays over IP multicast. The public names, nothing else."""

from .errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError, VerifyError
from .host import Host, connect
from .model import Overlay, Segment, Underlay
from .plan import plan
from .state import Change, Plan
from .status import SegmentStatus, Status

__all__ = [
    "ApplyError",
    "Change",
    "ConfigurationError",
    "Host",
    "Overlay",
    "OvsMcastError",
    "Plan",
    "Segment",
    "SegmentStatus",
    "Status",
    "UnavailableError",
    "Underlay",
    "VerifyError",
    "connect",
    "plan",
]
