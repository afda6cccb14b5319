"""Imports point one way: adapters know no peer, and what says that it is pure knows no I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ovs_mcast

HOUSE = Path(ovs_mcast.__file__).parent
ADAPTERS = "ovs_mcast.adapters"
# How items are coded and decoded: below the adapters, which share them.
CODECS = (f"{ADAPTERS}.rtnetlink", f"{ADAPTERS}.rows")
CORE = (
    "model", "groups", "state", "changes", "events", "marks", "flows", "joining", "vtep",
    "refusals", "checks", "plan", "status", "agent.concern", "probe.verdict",
)  # fmt: skip
# Words at the beginning of a module that make it one which the test holds to them.
PURE = re.compile(r"\bpure\b|\bno I/O\b", re.IGNORECASE)
IO = {
    "asyncio", "ctypes", "datetime", "fcntl", "logging", "multiprocessing", "os", "ovsdbapp",
    "pyroute2", "random", "secrets", "select", "selectors", "shutil", "signal", "socket",
    "subprocess", "sys", "tempfile", "tenacity", "threading", "time", "urllib",
}  # fmt: skip
NO_IO = {"os.strerror"}
# They have nothing to be pure of.
WORDS = {"ovs_mcast.errors", "ovs_mcast.closing"}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(HOUSE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}


def imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Everything that a module imports, by its full name, wherever in it."""
    package = name if SOURCES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = [".".join(parts)] if node.level else []
            origin = ".".join([*start, node.module] if node.module else start)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_pure(name: str, tree: ast.Module | None = None) -> bool:
    """Whether a module, or the one in which an imported name is, says that it is."""
    module = name if name in SOURCES else name.rpartition(".")[0]
    return module in WORDS or bool(PURE.search(ast.get_docstring(tree or TREES[module]) or ""))


def unwanted(name: str, tree: ast.Module) -> list[str]:
    """The imports of a module that point the wrong way."""
    found = sorted(set(imports(name, tree)))
    ours = [one for one in found if within(one, "ovs_mcast")]
    if within(name, ADAPTERS):
        others = [one for one in ours if not within(one, *CODECS)]
        return [one for one in others if within(one, ADAPTERS) or not is_pure(one)]
    if not is_pure(name, tree):
        return []
    does = [one for one in found if one.partition(".")[0] in IO and one not in NO_IO]
    return does + [one for one in ours if not is_pure(one)]


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_one_way(name: str) -> None:
    assert unwanted(name, TREES[name]) == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_says_that_it_is_pure(name: str) -> None:
    """Else the test above would not look at it."""
    assert is_pure(f"ovs_mcast.{name}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adapters.netlink_events", "from .netlink import Netlink"),
        ("adapters.netlink_events", "from . import netlink"),
        ("adapters.ovsdb", "import ovs_mcast.adapters.vswitchd"),
        ("adapters.openflow", "from ..host import Host"),
        ("adapters.rtnetlink.coding", "from ..netlink import Netlink"),
        ("agent.concern", "from ..adapters.ovsdb import Ovsdb"),
        ("agent.concern", "from . import loop"),
        ("plan", "from . import adapters"),
        ("plan", "import time"),
        ("probe.verdict", "from os import read"),
        ("state", "def late():\n    from socket import socket"),
    ],
)
def test_an_import_that_points_the_other_way_is_found(name: str, line: str) -> None:
    full = f"ovs_mcast.{name}"
    tree = ast.parse(f"{SOURCES[full].read_text()}\n{line}\n")
    assert len(unwanted(full, tree)) == 1
