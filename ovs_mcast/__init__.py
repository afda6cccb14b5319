"""Open vSwitch VXLAN overlays over IP multicast. The public names, nothing else.

`connect` makes a Host; `Host.reconcile` puts an Overlay in place, `Host.add` and `Host.remove`
change one Segment of it. For asyncio the same is in `ovs_mcast.aio`. The library configures no
logging (it logs to "ovs_mcast") and has no global state. In the examples, om is ovs_mcast.
"""

from . import search_path as search_path  # first: it acts  # isort: skip

from .cli.version import VERSION
from .core.changes import Change, Plan
from .core.model import Overlay, Segment, Underlay
from .core.observed import Observed
from .core.plan import plan
from .core.status import SegmentStatus, Status
from .errors import (
    ApplyError,
    ClosedError,
    ConfigurationError,
    OvsMcastError,
    UnavailableError,
    VerifyError,
)
from .host.connect import connect
from .host.host import Host

__all__ = [
    "ApplyError",
    "Change",
    "ClosedError",
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

__version__ = VERSION
