"""Open vSwitch VXLAN overlays over IP multicast. The public names, nothing else.

`connect` makes a Host; `Host.reconcile` puts an Overlay in place, `Host.add` and `Host.remove`
change one Segment of it. For asyncio the same is in `ovs_mcast.aio`. The library configures no
logging (it logs to "ovs_mcast") and has no global state. In the examples, om is ovs_mcast.
"""

from typing import TYPE_CHECKING

from .core.changes import Change, Plan
from .core.model import Overlay, Segment, Underlay
from .core.observed import Observed
from .core.plan import plan
from .core.status import SegmentStatus, Status
from .errors import ApplyError, ConfigurationError, OvsMcastError, UnavailableError, VerifyError
from .host.connect import connect
from .host.host import Host

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

if TYPE_CHECKING:
    __version__: str
else:  # a type checker would take any missing name for a string

    def __getattr__(name: str) -> str:
        """Return __version__, looked up on demand so that the import stays cheap."""
        if name == "__version__":
            from .cli.version import version  # noqa: PLC0415

            return version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
