"""The desired overlay, kept on the machine: notes (external_ids) of its tunnel bridge. Pure.

Any process can so change one segment without knowing the others, also after ovs-vswitchd, and with
it every flow, has started anew. `reconcile` writes the whole, `add` and `remove` one segment:

- ``ovs-mcast-overlay``: the configuration but for its name and segments, as JSON, without defaults;
- ``ovs-mcast-segments-00`` to ``-63``: VNI:VLAN:GROUP of each segment whose VNI modulo 64 is that
  number. So a change of one segment writes a 64th of them, and a look reads 64 values: ovs.db.idl
  takes 10 µs for each key of a map.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypedDict

from .errors import ConfigurationError
from .items import Bridge, Options
from .model import Overlay, Segment
from .ownership import EXTERNAL_ID

_OVERLAY = f"{EXTERNAL_ID}-overlay"
_SEGMENTS = f"{EXTERNAL_ID}-segments-"
_PARTS = 64
_BRIDGE = Overlay.model_fields["bridge"].default


def notes(overlay: Overlay) -> Options:
    """Return the notes that keep an overlay."""
    kept = overlay.model_dump(mode="json", exclude_defaults=True, exclude={"name", "segments"})
    if overlay.peers:  # the model asks for it
        kept["only_peers"] = overlay.only_peers
    whole = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return ((_OVERLAY, whole), *sorted(_written(overlay.segments).items()))


def bridge_of(name: str, bridges: Iterable[Bridge]) -> Bridge | None:
    """Return the tunnel bridge that keeps the overlay of this name; None without one."""
    ours = (bridge for bridge in bridges if bridge.owner == name)
    return next((bridge for bridge in ours if _OVERLAY in dict(bridge.notes)), None)


def read(name: str, noted: Options) -> Overlay | None:
    """Return the overlay that notes keep; None where they keep none that is valid."""
    kept = dict(noted)
    try:
        settings = json.loads(kept[_OVERLAY])
        return Overlay.from_mapping({**settings, "name": name, "segments": [*_kept(noted)]})
    except (KeyError, TypeError, ValueError):
        return None


def bridge(noted: Options) -> str | None:
    """Return the bridge for workloads of the overlay that notes keep; None where they keep none."""
    try:
        return str(json.loads(dict(noted)[_OVERLAY]).get("bridge", _BRIDGE))
    except (AttributeError, KeyError, ValueError):
        return None


def vlans(noted: Options) -> dict[int, int]:
    """Return VLAN → VNI of the segments that notes keep; nothing where they cannot be read."""
    try:
        return {one["vlan"]: one["vni"] for one in _kept(noted)}
    except ValueError:
        return {}


def same(before: Options, after: Options) -> bool:
    """Return whether notes keep the same overlay, whatever else they have."""
    ours = {note for note in set(before) ^ set(after) if note[0].startswith((_OVERLAY, _SEGMENTS))}
    return not ours


def without_segments(noted: Options) -> Options:
    """Return the notes that are not of single segments."""
    return tuple(note for note in noted if not note[0].startswith(_SEGMENTS))


def changed(before: Options, after: Options) -> tuple[list[Segment], list[Segment]]:
    """Return the segments of notes that are no more so in others, and those that are new there.

    ConfigurationError where they cannot be read.
    """
    differ = set(before) ^ set(after)
    former, present = (
        _segments(note for note in noted if note in differ) for noted in (before, after)
    )
    return sorted(former - present, key=_vni), sorted(present - former, key=_vni)


def with_change(noted: Options, before: Segment | None, after: Segment | None) -> Options:
    """Return the notes with one segment in place of another; None for none."""
    vnis = {one.vni for one in (before, after) if one is not None}
    keys = set(map(_key, vnis))
    kept = _segments(note for note in noted if note[0] in keys)
    there = [segment for segment in kept if segment.vni not in vnis]
    written = _written([*there, *([] if after is None else [after])])
    others = (note for note in noted if note[0] not in keys)
    return tuple(sorted((*others, *written.items())))


def _vni(segment: Segment) -> int:
    return segment.vni


class _Kept(TypedDict):
    vni: int
    vlan: int
    group: str


def _kept(noted: Iterable[tuple[str, str]]) -> Iterator[_Kept]:
    """Yield the segments that notes keep. ValueError for what is none."""
    for key, value in noted:
        if key.startswith(_SEGMENTS):
            for text in value.split():
                vni, vlan, group = text.split(":", 2)
                yield {"vni": int(vni), "vlan": int(vlan), "group": group}


def _segments(noted: Iterable[tuple[str, str]]) -> set[Segment]:
    """Return the same, validated. ConfigurationError for what is none."""
    try:
        return {Segment(**one) for one in _kept(noted)}
    except ValueError as error:
        raise ConfigurationError(f"its notes cannot be read: {error}", field="name") from None


def _key(vni: int) -> str:
    return f"{_SEGMENTS}{vni % _PARTS:02}"


def _written(there: Iterable[Segment]) -> dict[str, str]:
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for one in sorted(there, key=_vni):
        parts[_key(one.vni)].append(f"{one.vni}:{one.vlan}:{one.flood_group}")
    return {key: " ".join(part) for key, part in parts.items()}
