"""Overlays, and requests to a program, for the tests that add and remove segments."""

from __future__ import annotations

import json
from typing import Any

from tests.functional.node import Node


def overlay(node: Node, segments: int, membership: str, groups: str) -> dict[str, Any]:
    """Return an overlay of this many segments, with groups from a pool."""
    return {
        "datapath": node.host.datapath,
        "membership": membership,
        "underlay": {"device": node.host.underlay},
        "groups": groups,
        "segments": [{"vni": vni} for vni in range(1, segments + 1)],
    }


def add(vni: Any, **values: object) -> str:
    """Return the word for a program to add a segment."""
    return f"add {json.dumps({'vni': vni} | values)}"


def changes(answer: dict[str, Any]) -> list[str]:
    """Return the changes in a program's answer, one line each."""
    return [f"{c['action']} {c['kind']} {c['target']}" for c in answer["status"]["changes"]]
