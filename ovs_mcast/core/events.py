"""Events of a machine, as adapters report them: frozen values. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .items import Address, Route
from .observed import Link


@dataclass(frozen=True, slots=True)
class RowEvent:
    """A row that was added, changed or removed: its table, name, owner and type.

    ``columns`` are those that changed; empty for a row that was added or removed. An empty table
    means that the connection was lost.
    """

    table: str = ""
    name: str = ""
    owner: str | None = None
    type: str = ""
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """A flow that was added, changed or removed; ``lost``: events were left out (PAUSED)."""

    bridge: str
    table: int = 0
    cookie: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """A table to watch: flows that are changed or removed, with ``added`` also those added."""

    table: int
    added: bool = True


@dataclass(frozen=True, slots=True)
class Joined:
    """A device's membership of a group, by whatever method."""

    device: str
    group: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of policy routing; its contents are not read."""


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """An item that was added or changed or, if ``gone``, removed; None where events were lost.

    ``index`` is that of a link: renaming keeps it.
    """

    item: Link | Address | Route | Joined | Rule | None
    gone: bool = False
    index: int = 0


@dataclass(frozen=True, slots=True)
class EntryEvent:
    """An entry of a directory; ``began``: created, either still open for writing or a link.

    An empty name means that the directory itself was removed, or that events were lost.
    """

    directory: Path
    name: str
    began: bool = False
