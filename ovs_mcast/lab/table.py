"""The table of who reaches whom, for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ..cli.output import stdout_console
from .reachability import Pair, Reachability

_WIDTH = 300  # columns of a file or a pipe


def print_table(reachability: Reachability, groups: Mapping[int, str], seconds: float) -> None:
    """Print one table per segment on stdout, then leaks and echoes, then a summary line."""
    out = stdout_console(_WIDTH, markup=True)
    for vni, group in groups.items():
        out.print(_segment(reachability, vni, group))
    for leak in reachability.leaks:
        out.print(f"[red]leak: {leak.sender}, of VNI {leak.vni}, is heard by {leak.heard_by}")
    for echo in reachability.echoes:
        out.print(f"[red]echo: {echo.sender} hears its own frames")
    well = sum(pair.ok for pair in reachability.pairs)
    apart = "nothing leaks" if not reachability.leaks else f"{len(reachability.leaks)} leaks"
    out.print(
        f"{well} of {len(reachability.pairs)} directions work, {apart} between segments,"
        f" {seconds:.1f} s",
        highlight=False,
    )


def _segment(reachability: Reachability, vni: int, group: str) -> Table:
    pairs = {(p.sender, p.receiver): p for p in reachability.pairs if p.vni == vni}
    names = list(dict.fromkeys(sender for sender, _ in pairs))
    table = Table(title=f"VNI {vni}, {group}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("broadcast of")
    for name in names:
        table.add_column(f"to {name}")
    for sender in names:
        table.add_row(sender, *(_cell(pairs.get((sender, receiver))) for receiver in names))
    return table


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return "[dim]-"
    if pair.duplicates:
        return f"[red]{pair.duplicates} copies too many"
    if not pair.broadcast:
        return "[red]not heard"
    return "heard, answered" if pair.unicast else "[red]heard, no answer back"
