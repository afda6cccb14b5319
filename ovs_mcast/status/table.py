"""The overlays in place, drawn on a terminal: a table for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ..cli.output import stdout_console
from ..core.status import OverlayStatus, SegmentDetail
from ..core.text import harmless
from ..core.traffic import Count

_PEERS = 3  # VTEPs that are named in a row
_FRAME = 8  # lines of a screen around an overlay's segments and problems
_PROBLEMS = 10
_WIDE = 160  # columns of a file or a pipe
_MANY = 200  # rows beyond which rich's table is too slow
_TEXTS = frozenset({"group", "joined by", "sends", "peers (MACs)"})
_NUMBERS = ("bum_sent", "bum_received", "unicast_sent", "unicast_received")
_HEADINGS = (
    "VNI", "VLAN", "group", "joined by", "sends", "MACs", "peers (MACs)",
    "BUM sent", "BUM received", "unicast sent", "unicast received",
)  # fmt: skip

# (overlay, VNI) to its segment in the inspection before.
Before = Mapping[tuple[str, int], SegmentDetail]


@dataclass(frozen=True, slots=True)
class Pace:
    """The inspection before, and the seconds since: rates are made of both."""

    before: Before = field(default_factory=dict)
    seconds: float = 0.0

    def since(self, overlay: str, vni: int, segment: SegmentDetail, name: str) -> Count | None:
        """Return what a counter has gained; None if unknown."""
        was = self.before.get((overlay, vni))
        if was is None or not self.seconds:
            return None
        now: Count = getattr(segment.traffic, name)
        return now.since(getattr(was.traffic, name))


def console() -> Console:
    """Return standard output; wide unless it is a terminal, so that no cell is cut."""
    return stdout_console(_WIDE)


def screen(
    overlays: Sequence[OverlayStatus], pace: Pace, *, height: int | None = None
) -> RenderableType:
    """Draw all overlays; in a height of lines only the busiest segments if not all fit."""
    if not overlays:
        return Text("no overlay of ovs-mcast on this host")
    share = None if height is None else height // len(overlays)
    return Group(*(part for one in overlays for part in _overlay(one, pace, share)))


def _overlay(one: OverlayStatus, pace: Pace, height: int | None) -> Iterator[RenderableType]:
    holder = one.held_by
    by = f"{holder.who} (pid {holder.pid})" if holder.pid else holder.who
    yield Text.assemble(
        ("overlay ", "dim"), (harmless(one.overlay), "bold"), "  ",
        ("healthy", "green") if one.healthy else ("DEGRADED", "bold red"),
    )  # fmt: skip
    if one.underlay is not None:
        names = f"{one.bridge} ═ {one.tunnel_bridge} ─ {one.underlay} {one.vtep}, datapath"
        yield Text(
            f"{harmless(names)} {one.datapath}, memberships held by {by}, "
            f"{len(one.segments):,} segments"
        )
    shown = one.problems[:_PROBLEMS] if height is not None else one.problems
    room = None if height is None else max(height - _FRAME - len(shown), 1)
    if one.segments:
        yield from _table(one, pace, room)
    for problem in shown:
        yield Text(harmless(problem), style="yellow" if one.healthy else "red")
    if len(shown) < len(one.problems):
        yield Text(f"… and {len(one.problems) - len(shown):,} more")


def _table(one: OverlayStatus, pace: Pace, room: int | None) -> Iterator[RenderableType]:
    rows = list(one.segments.items())
    shown = rows if room is None or len(rows) <= room else _busiest(one, pace, room)
    cells = [tuple(_cells(one.overlay, vni, segment, pace)) for vni, segment in shown]
    if len(cells) > _MANY:
        yield from _lines(cells)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _TEXTS else "right", no_wrap=True)
    for row in cells:
        table.add_row(*(Text(cell, _style(cell)) for cell in row))
    yield table
    if len(shown) < len(rows):
        yield Text(f"… the {len(shown):,} busiest of {len(rows):,} segments", style="dim")


def _lines(cells: Sequence[Sequence[str]]) -> Iterator[RenderableType]:
    """Draw the same columns as plain text: rich takes more than a millisecond per row."""
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *cells, strict=True)]
    lines = []
    for row in (_HEADINGS, *cells):
        columns = zip(_HEADINGS, row, widths, strict=True)
        aligned = (c.ljust(w) if h in _TEXTS else c.rjust(w) for h, c, w in columns)
        lines.append("  ".join(aligned).rstrip())
    yield Text("\n".join(lines), no_wrap=True, overflow="ignore")


def _style(cell: str) -> str:
    return {"none": "red", "loopback": "yellow"}.get(cell, "")


def _busiest(one: OverlayStatus, pace: Pace, room: int) -> list[tuple[int, SegmentDetail]]:
    def gained(row: tuple[int, SegmentDetail]) -> tuple[int, int]:
        vni, segment = row
        counts = (pace.since(one.overlay, vni, segment, name) for name in _NUMBERS)
        return -sum(count.packets for count in counts if count), vni

    return sorted(one.segments.items(), key=gained)[:room]


def _cells(overlay: str, vni: int, segment: SegmentDetail, pace: Pace) -> Iterator[str]:
    yield from (str(vni), str(segment.vlan), segment.group, segment.joined_by, segment.send_path)
    yield from (f"{segment.traffic.learned:,}", _peers(segment.traffic.peers))
    for name in _NUMBERS:
        total: Count = getattr(segment.traffic, name)
        gained = pace.since(overlay, vni, segment, name)
        yield amount(total) if gained is None else rate(total, gained, pace.seconds)


def _peers(peers: Mapping[str, Sequence[str]]) -> str:
    most = sorted(peers.items(), key=lambda peer: -len(peer[1]))
    named = ", ".join(f"{vtep} ({len(macs):,})" for vtep, macs in most[:_PEERS])
    return f"{named} + {len(most) - _PEERS:,}" if len(most) > _PEERS else named


def amount(total: Count) -> str:
    """Return frames and their bytes, as in `1,024 65.5 kB`; a dash for none."""
    return f"{total.packets:,} {decimal(total.bytes)}" if total.packets else "–"


def rate(total: Count, gained: Count, seconds: float) -> str:
    """Return frames and the gain per second, as in `1,024 +12/s 1.5 kB/s`."""
    if not gained.packets:
        return f"{total.packets:,}" if total.packets else "–"
    per_second = gained.packets / seconds
    frames = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"
    return f"{total.packets:,} +{frames}/s {decimal(round(gained.bytes / seconds))}/s"
