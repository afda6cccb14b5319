"""How faults ended, and the table of times from fault to repair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles

_SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault: ``seconds`` from its end until all was as before and traffic passed."""

    site: str
    number: int
    fault: str
    seconds: float
    left: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return the fault's name in the table: combinations are one kind each."""
        return self.fault.partition(":")[0]

    def __str__(self) -> str:
        left = "\n    ".join(self.left[:40])
        head = f"{self.site}, fault {self.number}, {self.fault}"
        return f"{head}: after {self.seconds:.1f} s\n    {left}"


@dataclass(slots=True)
class Campaign:
    """The outcomes of one campaign; ``seed`` makes the same faults again."""

    title: str
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        """The faults that were not repaired."""
        return [outcome for outcome in self.outcomes if outcome.left]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        """The table: per kind and in all, how many, and median, 95th percentile, worst in s."""
        yield f"{self.title}: seed {self.seed}, {len(self.outcomes)} faults, " + (
            f"{len(self.failures)} NOT repaired" if self.failures else "all repaired"
        )
        yield f"  {'seconds from fault to repair':<44}    n  median    95 %   worst"
        by_kind: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes:
            by_kind[outcome.kind].append(outcome.seconds)
        for kind, seconds in sorted(by_kind.items()):
            yield _row(kind, seconds)
        yield _row("all", [outcome.seconds for outcome in self.outcomes])
        for slow in sorted(self.outcomes, key=lambda outcome: -outcome.seconds)[:_SLOWEST]:
            yield f"  slow: {slow.seconds:.1f} s, {slow.site}, fault {slow.number}, {slow.fault}"


def _row(kind: str, seconds: Iterable[float]) -> str:
    ordered = sorted(seconds)
    if not ordered:
        return f"  {kind:<44} {0:>4}"
    high = quantiles(ordered, n=20, method="inclusive")[-1] if len(ordered) > 1 else ordered[0]
    return (
        f"  {kind:<44} {len(ordered):>4} {median(ordered):>7.2f} {high:>7.2f} {ordered[-1]:>7.2f}"
    )
