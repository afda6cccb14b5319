"""What happens on a machine, as adapters tell it: frozen values. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .items import Address, Route
from .observed import Link


@dataclass(frozen=True, slots=True)
class RowEvent:
    """A row that came, changed or went: its table, name, and what tells whose it is.

    ``columns`` are those that changed, none for a row that came or went. Without a table, the
    connection was lost.
    """

    table: str = ""
    name: str = ""
    owner: str | None = None
    type: str = ""
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """A flow that came, went or changed; ``lost`` says that some were left out (PAUSED)."""

    bridge: str
    table: int = 0
    cookie: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    """What is told of a table: flows that change or go, and with ``added`` those that come."""

    table: int
    added: bool = True


@dataclass(frozen=True, slots=True)
class Joined:
    """A device's membership of a group, however it came about."""

    device: str
    group: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of policy routing: which one is not looked at."""


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """An item that came or changed, or (``gone``) went; None where events were lost.

    ``index`` is that of a link, which keeps it when it is given another name.
    """

    item: Link | Address | Route | Joined | Rule | None
    gone: bool = False
    index: int = 0


@dataclass(frozen=True, slots=True)
class EntryEvent:
    """An entry of a directory: ``began`` is one that is open for writing still, or a link.

    An empty name says that the directory itself went, or that events were lost.
    """

    directory: Path
    name: str
    began: bool = False
