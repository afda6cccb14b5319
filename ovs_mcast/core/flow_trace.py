"""What `ofproto/trace` prints of one frame (ovs-vswitchd(8)), read. Pure.

The trace's megaflow shows which fields decided: a frame that is dropped for fields that other
frames have otherwise says nothing of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_BRIDGE = re.compile(r'( *)bridge\("([^"]+)"\)')
_STEP = re.compile(r" *(\d+)\. (.*)")
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_NOWHERE = re.compile(r"drop|userspace\(pid=\d+,controller\([^()]*\)\)")
_TUNNEL = re.compile(r" +-> output to (?:native|kernel) tunnel")
_MEGAFLOW = re.compile(r"^Megaflow: (.*)$", re.MULTILINE)
_GROUP_BIT = "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Trace:
    """One frame's way: the steps on its bridge, the bridges it crossed to, what the datapath does.

    ``steps`` are the table and the match of each flow on its bridge; ``tunnelled`` the bridges by
    whose tunnels it leaves; ``decided`` the names of the fields that decided, None where the frame
    was recirculated: then more than this decides. Of ``dl_dst`` only the bit that tells groups from
    hosts is ``dl_dst/group``.
    """

    steps: tuple[tuple[str, str], ...]
    normal: bool
    crossed: tuple[str, ...]
    tunnelled: tuple[str, ...]
    actions: str
    decided: frozenset[str] | None

    @classmethod
    def read(cls, printed: str) -> Trace:
        """Return the trace of a printed one; of what is not printed so, nothing is known."""
        steps, _, end = printed.partition("\nFinal flow:")
        sections = _sections(steps.splitlines())
        own = sections[0][1] if sections else []
        actions = _ACTIONS.search(end)
        megaflows = _MEGAFLOW.findall(end)
        return cls(
            tuple((step[1], step[2]) for line in own if (step := _STEP.fullmatch(line))),
            any(line.strip() == "NORMAL" for line in own),
            tuple(name for name, _lines in sections[1:]),
            tuple(name for name, lines in sections if any(map(_TUNNEL.fullmatch, lines))),
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


def _sections(lines: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return each bridge and the lines of what it does, in order.

    Where a bridge has more to do after a patch port, what the next one does stands within, indented
    by four. Its flows begin at its own column, their actions four further.
    """
    found: list[tuple[str, list[str]]] = []
    within: list[tuple[int, list[str]]] = []  # column and lines of the bridges that are not done
    for line in lines:
        column = len(line) - len(line.lstrip())
        if header := _BRIDGE.fullmatch(line):
            found.append((header[2], []))
            within = [one for one in within if one[0] < column]
            within.append((column, found[-1][1]))
            continue
        while len(within) > 1 and not _is_of(line, column, within[-1][0]):
            within.pop()
        if within:
            within[-1][1].append(line)
    return found


def _is_of(line: str, column: int, bridge: int) -> bool:
    """Return whether a line can be of a bridge whose header is at that column."""
    step = _STEP.fullmatch(line) is not None and column >= bridge
    return step or column >= bridge + 4 or not line.strip(" -")


def _names(megaflow: str) -> frozenset[str]:
    return frozenset(
        "dl_dst/group" if part == _GROUP_BIT else part.partition("=")[0]
        for part in megaflow.split(",")
    )
