"""The pages are true: every link has its target, and lists match the package."""

from __future__ import annotations

import ast
import configparser
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ovs_mcast as om
from ovs_mcast.core import pipeline, pipeline_tables
from ovs_mcast.testing import Address, Flow, Link

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "ovs_mcast"
ARCHITECTURE = PACKAGE / "README.md"
PAGES = sorted([*TOP.glob("*.md"), *PACKAGE.rglob("README.md"), *(TOP / "tests").glob("*.md")])

FIVE_ANSWERS = {
    "where is a flow made": "core/pipeline.py",
    "where is it decided that a route goes": "core/plan.py",
    "who holds a group": "membership/keeper_process.py",
    "what runs on a link flap": "agent/loop.py",
    "where would a new membership method go": "core/methods.py",
}


def _named(path: Path) -> str:
    return str(path.relative_to(TOP))


def _exists(path: Path) -> bool:
    return path.exists()


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, each with the anchor in it."""
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("\\", "")).replace(" ", "-")
        for heading in headings
    }


def _section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.M | re.S)
    assert found, f"{_named(page)} has no heading {heading}"
    return found[1]


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """No link is broken, within a page or to another file of the repository."""
    broken = [
        f"{path}#{anchor}"
        for path, anchor in _links(page)
        if not _exists(path) or (anchor and anchor not in _anchors(path))
    ]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_public_path_that_is_named_can_be_imported(page: Path) -> None:
    """`ovs_mcast.NAME` is a module, or a name in one; the changelog's old names are left out."""
    text = page.read_text()
    if page.name == "CHANGELOG.md":
        text = re.sub(r"^\|[^|]*\|", "", text, flags=re.M)
    names = set(re.findall(r"`(ovs_mcast(?:\.[a-z_]\w*)+)", text))
    names |= {f"ovs_mcast.{name}" for name in re.findall(r"-m ovs_mcast\.([a-z]\w*)", text)}
    assert [name for name in sorted(names) if not _importable(name)] == []


def _importable(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", [ARCHITECTURE, TOP / "CONTRIBUTING.md"], ids=_named)
def test_every_path_in_a_room_exists(page: Path) -> None:
    """`core/plan.py`, or adapters/ovsdb in a drawing: a module or a folder of the package."""
    rooms = "|".join(path.name for path in _folders())
    named = set(re.findall(rf"(?<![\w/.])((?:{rooms})/\w+(?:/\w+)*)", page.read_text()))
    missing = [
        path
        for path in sorted(named)
        if not (PACKAGE / path).is_dir() and not _exists(PACKAGE / f"{path}.py")
    ]
    assert [path for path in missing if not path.endswith("/README")] == []


def _folders() -> list[Path]:
    return sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))


def test_the_page_lists_every_module_once() -> None:
    """Rooms and modules of the page are folders and modules of the package, and all of them."""
    section = _section(ARCHITECTURE, "Every module")
    listed = [_named(PACKAGE / target) for target in re.findall(r"\]\(([\w/]+\.py)\)", section)]
    shape = {"__init__.py", "__main__.py"}  # every folder has the one, every program the other
    modules = {
        _named(path)
        for path in PACKAGE.rglob("*.py")
        if path.name not in shape or path.parent == PACKAGE
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == modules


def test_the_layers_of_the_page_are_those_of_the_contract() -> None:
    """The drawing of the layers is the one that import-linter checks."""
    settings = configparser.ConfigParser()
    settings.read(TOP / "setup.cfg")
    layers = settings["importlinter:contract:layers"]["layers"].split("\n")
    drawn = re.search(r"^```\n(.*?)^```$", _section(ARCHITECTURE, "Layers"), re.M | re.S)
    assert drawn
    assert drawn[1].splitlines() == [line for line in layers if line]


# The pipeline


def _tables(text: str) -> dict[str, int]:
    """Name to number, of the rows of a table of the tables."""
    rows: list[tuple[str, str]] = re.findall(r"^\| (\d+) (\w+) \|", text, re.M)
    return {name: int(number) for number, name in rows}


def test_the_tables_of_the_page_are_those_of_the_pipeline() -> None:
    """The page, the docstring of pipeline.py and its constants name the same tables."""
    assert pipeline.__doc__
    tables = _tables(_section(ARCHITECTURE, "The path of a frame"))
    assert tables == _tables(pipeline.__doc__)
    assert tables == {name: vars(pipeline_tables)[name.upper()] for name in tables}
    assert set(tables.values()) == {flow.table for flow in _flows()}


def test_the_drawing_has_every_table() -> None:
    """A frame's path through the drawing passes each table by its number and name."""
    section = _section(ARCHITECTURE, "The path of a frame")
    drawing = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    tables = _tables(section)
    drawn: list[tuple[str, str]] = re.findall(r"(\d+) (classify|[a-z]+)\b", drawing)
    assert {(name, int(number)) for number, name in drawn if name in tables} == set(tables.items())


def test_the_next_tables_of_the_page_are_those_of_the_flows() -> None:
    """The column "next" has each goto_table of the flows of a segment, and no other."""
    rows = re.findall(
        r"^\| (\d+) \w+ \|.*\|([^|]*)\|$", _section(ARCHITECTURE, "The path of a frame"), re.M
    )
    shown = {
        (int(table), int(to)) for table, targets in rows for to in re.findall(r"\b\d+", targets)
    }
    made = {
        (flow.table, int(to))
        for flow in _flows()
        for to in re.findall(r"goto_table:(\d+)", flow.actions)
    }
    assert shown == made


def _flows() -> list[Flow]:
    """The flows of the tunnel bridge for one segment, with each option that changes tables."""
    overlay = om.Overlay(
        underlay=om.Underlay(device="eth0"), segments=[om.Segment(vni=100, group="239.0.0.1")]
    )
    options = overlay.replace(inner_vlan="keep", peers=["10.0.0.0/24"], only_peers=True)
    observed = om.Observed(
        links={"eth0": Link("eth0", 1600, "02:00:00:00:00:01", True)},
        addresses=(Address("eth0", "10.0.0.1", 24),),
    )
    plans = [om.plan(one, observed) for one in (overlay, options)]
    items = [change.item for plan in plans for change in plan]
    return [item for item in items if isinstance(item, Flow) and item.bridge == "br-mcast"]


# For those who carry on


@pytest.mark.parametrize("answer", FIVE_ANSWERS.values(), ids=FIVE_ANSWERS.keys())
def test_five_answers_are_two_clicks_from_the_first_page(answer: str) -> None:
    """From README.md to the architecture, and from its first table to the file."""
    assert ARCHITECTURE in {path for path, _ in _links(TOP / "README.md")}
    assert f"({answer})" in _section(ARCHITECTURE, "Where is …\\?")


def test_the_changelog_has_the_version() -> None:
    """The version of the package has a section of its own, and what comes next is Unreleased."""
    settings = configparser.ConfigParser()
    settings.read(TOP / "setup.cfg")
    headings = re.findall(r"^## \[(.*?)\]", (TOP / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert settings["metadata"]["version"] in headings


def test_the_example_of_a_fake_host_runs() -> None:
    """The program that testing/README.md shows runs as it stands."""
    text = (PACKAGE / "testing" / "README.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(program)))
    exec(compile(program, "testing/README.md", "exec"), {})
