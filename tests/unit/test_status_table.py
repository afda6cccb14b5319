"""The table for people: a row for each segment, rates, and the limits of a screen."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ovs_mcast.core.status import Holder, OverlayStatus, SegmentDetail
from ovs_mcast.core.traffic import Count, Traffic
from ovs_mcast.status.table import Pace, amount, rate, screen


def segment(vni: int, frames: int = 0, peers: int = 0) -> SegmentDetail:
    traffic = Traffic(
        vlan=vni,
        bum_sent=Count(frames, frames * 60),
        peers={f"10.0.0.{n}": ("02:00:00:00:00:01",) * n for n in range(1, peers + 1)},
    )
    return SegmentDetail(vni, f"239.0.0.{vni % 250}", "socket", "wire", traffic)


def kept(
    *segments: SegmentDetail, healthy: bool = True, problems: tuple[str, ...] = ()
) -> OverlayStatus:
    return OverlayStatus(
        "tenants", healthy, "eth0", "10.0.0.1", "system", "br-int", "br-mcast",
        Holder("keeper", 7), {one.vlan: one for one in segments}, problems,
    )  # fmt: skip


def shown(
    *overlays: OverlayStatus, pace: Pace | None = None, height: int | None = None
) -> list[str]:
    out = Console(file=io.StringIO(), width=160)
    out.print(screen(overlays, pace or Pace(), height=height))
    text: str = out.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def row(lines: list[str], vni: int) -> list[str]:
    return next(line.split() for line in lines if line.split()[:1] == [str(vni)])


def test_a_segment_is_one_row() -> None:
    lines = shown(kept(segment(100, 1024, peers=2)))
    assert lines[0].split() == ["overlay", "tenants", "healthy"]
    assert "keeper (pid 7)" in lines[1]
    text = "100 100 239.0.0.100 socket wire 3 10.0.0.2 (2), 10.0.0.1 (1) 1,024 61.4 kB – – –"
    assert " ".join(row(lines, 100)) == text


def test_peers_beyond_three_are_counted() -> None:
    assert "10.0.0.5 (5), 10.0.0.4 (4), 10.0.0.3 (3) + 2" in "\n".join(
        shown(kept(segment(1, peers=5)))
    )


def test_many_segments_have_the_same_columns() -> None:
    """Plain text from 200 rows on: all rows are there, with aligned columns."""
    lines = shown(kept(*(segment(vni, vni, peers=1) for vni in range(1, 1001))))
    assert " ".join(row(lines, 1000)) == (
        "1000 1000 239.0.0.0 socket wire 1 10.0.0.1 (1) 1,000 60.0 kB – – –"
    )
    assert len({len(line) for line in lines[3:]}) == 1
    assert len(lines) == 2 + 1 + 1000


def test_if_not_all_fit_the_busiest_are_shown() -> None:
    now = kept(*(segment(vni, 100) for vni in range(1, 51)))
    was = {("tenants", vni): one for vni, one in now.segments.items()}
    was["tenants", 37] = segment(37, 40)
    lines = shown(now, pace=Pace(was, 2.0), height=10)
    assert row(lines, 37)[-6:] == ["+30/s", "1.8", "kB/s", "–", "–", "–"]
    assert "the 2 busiest of 50 segments" in lines[-1]
    assert len(lines) <= 10


def test_problems_are_listed_below_and_on_a_screen_not_all() -> None:
    sick = kept(segment(1), healthy=False, problems=tuple(f"problem {n}" for n in range(30)))
    lines = shown(sick)
    assert "DEGRADED" in lines[0]
    assert lines[-30:] == [f"problem {n}" for n in range(30)]
    assert shown(sick, height=20)[-1] == "… and 20 more"


def test_a_broken_overlay_is_described_by_its_problems() -> None:
    assert shown(OverlayStatus("gone", healthy=False, problems=("its tunnel bridge is gone",))) == [
        "overlay gone  DEGRADED", "its tunnel bridge is gone",
    ]  # fmt: skip


def test_strangers_names_act_on_no_terminal() -> None:
    """Each escape and each line's end is shown as Python would write it."""
    harm = "x\x1b[2J\nevil\x9b"
    said = shown(OverlayStatus(harm, healthy=False, problems=(f"port {harm} is not ours",)))
    assert len(said) == 2
    assert all(line.isprintable() for line in said)
    assert r"port x\x1b[2J\nevil\x9b is not ours" in said[1]


@pytest.mark.parametrize(
    ("gained", "text"),
    [(Count(), "9"), (Count(3, 180), "9 +1.5/s 90 bytes/s"), (Count(30, 3000), "9 +15/s 1.5 kB/s")],
)
def test_rates_are_per_second(gained: Count, text: str) -> None:
    assert rate(Count(9, 540), gained, 2.0) == text


def test_nothing_is_a_dash() -> None:
    assert (amount(Count()), rate(Count(), Count(), 1.0)) == ("–", "–")
    assert replace(segment(1), joined_by="none").joined_by == "none"
