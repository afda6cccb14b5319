"""Findings: each code that is used is in the table, with its severity."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ovs_mcast
from ovs_mcast.core import findings
from ovs_mcast.core.errors import ConfigurationError, UnavailableError
from ovs_mcast.core.findings import error, errors, warning

PACKAGE = Path(ovs_mcast.__file__).parent
ROW = re.compile(r"\| ([a-z, -]+) \| (error|warning) \|", re.MULTILINE)


def tabled() -> set[tuple[str, str]]:
    """Return (code, severity) of each code in the table of the module's docstring."""
    return {
        (code, severity)
        for codes, severity in ROW.findall(findings.__doc__ or "")
        for code in codes.split(", ")
    }


def used() -> set[tuple[str, str]]:
    """Return (code, severity) of each call of error() and warning() in the package."""
    return {
        (node.args[0].value, node.func.id)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"error", "warning"}
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_every_code_is_in_the_table() -> None:
    """The table of findings.py has the codes that preflight, health and the inspector yield."""
    assert used() == tabled()


@pytest.mark.parametrize("cure", ["", "set it up"])
def test_a_finding_is_one_sentence(cure: str) -> None:
    """The text is the evidence and, where there is one, the cure."""
    found = error("underlay-down", "eth0", "eth0 is down", cure, field="underlay.device")
    assert str(found) == ("eth0 is down: set it up" if cure else "eth0 is down")
    refusal = found.refusal()
    assert isinstance(refusal, ConfigurationError)
    assert (refusal.field, refusal.reason) == ("underlay.device", str(found))


def test_what_the_host_must_mend_is_tried_again() -> None:
    """The error that refuses it names the device and no field."""
    refusal = error("vtep-unusable", "eth0", "eth0 has no address", reason="device").refusal()
    assert isinstance(refusal, UnavailableError)
    assert (refusal.reason, refusal.device, str(refusal)) == (
        "device", "eth0", "eth0 has no address"
    )  # fmt: skip
    other = error("datapath-missing", "system", "it is not there", reason="datapath").refusal()
    assert isinstance(other, UnavailableError)
    assert (other.reason, other.device) == ("datapath", "")


def test_warnings_are_no_errors() -> None:
    """A warning leaves an overlay healthy."""
    worth = warning("mtu-small", "eth0", "the MTU of eth0 is 1500")
    down = error("underlay-down", "eth0", "eth0 is down")
    assert errors([worth, down]) == [down]
