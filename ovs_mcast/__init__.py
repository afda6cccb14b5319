"""Open vSwitch VXLAN overlays over IP multicast. The public names, nothing else.

`connect` makes a Host; `Host.reconcile` puts an Overlay in place, `Host.add` and `Host.remove`
change one Segment of it. For asyncio the same is in `ovs_mcast.aio`. The library configures no
logging (it logs to "ovs_mcast") and has no global state. In the examples, om is ovs_mcast.
"""

from .changes import Change, Plan
from .errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError, VerifyError
from .host import Host, connect
from .model import Overlay, Segment, Underlay
from .plan import plan
from .state import Observed
from .status import SegmentStatus, Status

__all__ = [
    "ApplyError",
    "Change",
    "ConfigurationError",
    "Host",
    "Observed",
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
