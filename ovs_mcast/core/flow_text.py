"""Flows from the text that ovs-ofctl prints, compared by meaning: versions print differently."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from netaddr import IPAddress
from ovs.flow.ofp import OFPFlow

from . import ownership
from .items import Flow
from .pipeline_tables import FLOOD

_PRINTED = re.compile(
    r"\s*cookie=(?P<cookie>0x[0-9a-f]+|\d+), (?:(?:table=(?P<table>\d+)|[a-z_]+=[^ ,]+), )*?"
    r"(?:reset_counts )?(?P<match>[^ ]*) ?actions=(?P<actions>.*)"
)
_COOKIE = re.compile(r"\s*cookie=(0x[0-9a-f]+), ")
_PRIORITY = re.compile(r"(?:^|,)priority=(\d+)")
_OUTER_DESTINATION = re.compile(r"set_field:([0-9a-f.:]+)->tun_(?:ipv6_)?dst")
_OUTER_SOURCE = re.compile(r"set_field:([0-9a-f.:]+)->tun_(?:ipv6_)?src")


def read(bridge: str, lines: Iterable[str], expected: Iterable[Flow]) -> tuple[Flow, ...]:
    """Return the flows that ovs-ofctl printed; each that equals an expected flow is that flow.

    Text that differs is compared by meaning (ovs.flow), since versions print differently.
    """
    wanted = {_text(flow): flow for flow in expected if flow.bridge == bridge}
    printed = [flow for line in lines if (flow := _parse(bridge, line)) is not None]
    left = dict(wanted)
    for flow in printed:
        left.pop(_text(flow), None)
    by_meaning: dict[object, Flow] | None = None
    result = []
    for flow in printed:
        same = wanted.get(_text(flow))
        if same is None and left:
            if by_meaning is None:
                by_meaning = {_meaning(other): other for other in left.values()}
            same = by_meaning.get(_meaning(flow))
        result.append(same or flow)
    return tuple(result)


def split_learned(lines: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the lines of flows that learn() made, and all others."""
    learned: list[str] = []
    others: list[str] = []
    for line in lines:
        cookie = _COOKIE.match(line)
        is_learned = cookie is not None and ownership.is_learned(int(cookie[1], 16))
        (learned if is_learned else others).append(line)
    return learned, others


def outer_destination(actions: str) -> str | None:
    """Return the outer destination that actions set: a flood flow's group, a learned VTEP."""
    found = _OUTER_DESTINATION.search(actions)
    return found[1] if found else None


def outer_source(actions: str) -> str | None:
    """Return the outer source that actions set: the VTEP address."""
    found = _OUTER_SOURCE.search(actions)
    return found[1] if found else None


def segments_of(flows: Iterable[Flow]) -> dict[int, tuple[int, IPAddress]]:
    """Return VNI → (VLAN, group) of the flood flows among these."""
    found = {}
    for flow in flows:
        vni, vlan = ownership.segment_of(flow.cookie)
        if flow.table == FLOOD and vni and (group := outer_destination(flow.actions)):
            found[vni] = (vlan, IPAddress(group))
    return found


def _text(flow: Flow) -> tuple[object, ...]:
    return (flow.table, flow.priority, flow.match, flow.actions, flow.cookie)


def _parse(bridge: str, line: str) -> Flow | None:
    printed = _PRINTED.fullmatch(line.rstrip())
    if printed is None:
        return None
    match = printed["match"]
    priority = _PRIORITY.search(match)
    return Flow(
        bridge=bridge,
        table=int(printed["table"] or 0),
        priority=int(priority[1]) if priority else 32768,
        match=_PRIORITY.sub("", match).strip(","),
        actions=printed["actions"],
        cookie=int(printed["cookie"], 0),
    )


def _meaning(flow: Flow) -> object:
    """Return what a flow does as a hashable value, however it was printed."""
    text = (
        f"cookie={flow.cookie:#x}, table={flow.table}, priority={flow.priority}"
        f"{',' if flow.match else ''}{flow.match} actions={flow.actions}"
    )
    flushes = "delete_learned," in text  # a flag that older releases of ovs.flow cannot parse
    try:
        parsed = OFPFlow(text.replace("delete_learned,", ""))
    except Exception:  # what ovs.flow cannot parse equals itself alone
        return text
    return _frozen([flushes, parsed.info, parsed.match, parsed.actions])


def _frozen(value: Any) -> object:
    if isinstance(value, dict):
        return frozenset((key, _frozen(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in value)
    return str(value)
