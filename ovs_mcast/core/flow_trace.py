"""What `ofproto/trace` prints of one frame (ovs-vswitchd(8)), read. Pure.

The trace's megaflow shows which fields decided: a frame that is dropped for fields that other
frames have otherwise says nothing of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_STEP = re.compile(r"^ *(\d+)\. (.*)$", re.MULTILINE)
_NORMAL = re.compile(r"^ +NORMAL$", re.MULTILINE)
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_NOWHERE = re.compile(r"drop|userspace\(pid=\d+,controller\([^()]*\)\)")
_MEGAFLOW = re.compile(r"^Megaflow: (.*)$", re.MULTILINE)
_GROUP_BIT = "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Trace:
    """One frame's way: the steps on its bridge, the bridges it crossed to, what the datapath does.

    ``steps`` are the table and the match of each flow; ``decided`` the names of the fields that
    decided, None where the frame was recirculated: then more than this decides. Of ``dl_dst`` only
    the bit that tells groups from hosts is ``dl_dst/group``.
    """

    steps: tuple[tuple[str, str], ...]
    normal: bool
    crossed: tuple[str, ...]
    actions: str
    decided: frozenset[str] | None

    @classmethod
    def read(cls, printed: str) -> Trace:
        """Return the trace of a printed one; of what is not printed so, nothing is known."""
        steps, _, end = printed.partition("\nFinal flow:")
        _, own, *crossed = (*steps.split('\nbridge("'), "")
        actions = _ACTIONS.search(end)
        megaflows = _MEGAFLOW.findall(end)
        return cls(
            tuple(_STEP.findall(own)),
            _NORMAL.search(own) is not None,
            tuple(part.partition('"')[0] for part in crossed),
            actions[1] if actions else "",
            _names(megaflows[0]) if len(megaflows) == 1 else None,
        )

    @property
    def goes_somewhere(self) -> bool:
        """Whether the datapath sends the frame anywhere but to a controller."""
        return bool(self.actions) and not _NOWHERE.fullmatch(self.actions)

    @property
    def by_controller(self) -> bool:
        """Whether a controller decides on the frame."""
        return "controller(" in self.actions

    def stopped_by(self, common: Iterable[str]) -> str:
        """Return the last flow, as text, if nothing but these fields decided; else nothing."""
        known = {"recirc_id", "eth", "in_port", *common}
        if self.decided is None or not self.steps or not self.decided <= known:
            return ""
        table, match = self.steps[-1]
        return f"table {table}: {'no flow matches' if match == 'No match.' else match}"


def _names(megaflow: str) -> frozenset[str]:
    return frozenset(
        "dl_dst/group" if part == _GROUP_BIT else part.partition("=")[0]
        for part in megaflow.split(",")
    )
