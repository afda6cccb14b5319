"""Rows of OVSDB (ovs-vswitchd.conf.db(5)) as items, and items as rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.events import RowEvent
from ...core.items import Bridge, Options, Port
from ...core.ownership import EXTERNAL_ID

COLUMNS = {
    "Open_vSwitch": ["bridges", "next_cfg", "cur_cfg"],
    "Bridge": ["name", "datapath_type", "fail_mode", "protocols", "external_ids", "ports"],
    "Port": [
        *("name", "external_ids", "interfaces", "tag", "trunks", "vlan_mode", "bond_mode"),
        *("bond_active_slave", "other_config"),
    ],
    "Interface": ["name", "type", "options", "ofport", "ofport_request", "error", "mtu"],
}
_NOTE = f"{EXTERNAL_ID}-"
_CONFIGURED = f"{_NOTE}options"
_SNOOPING = "mcast-snooping-"


def read_bridge(row: Any) -> Bridge:
    """Return the item of a row of table Bridge."""
    ids = row.external_ids  # made anew at each access
    return Bridge(
        name=row.name,
        datapath=row.datapath_type or "system",
        fail_mode=_optional(row.fail_mode) or "",
        owner=ids.get(EXTERNAL_ID),
        notes=_beginning(_NOTE, ids),
        protocols=tuple(row.protocols),
    )


def read_port(bridge: str, row: Any) -> Port:
    """Return the item of a row of table Port, with that of its first interface."""
    interface, bond = row.interfaces[0], len(row.interfaces) > 1
    return Port(
        bridge=bridge,
        name=row.name,
        type=interface.type,
        options=tuple(sorted(interface.options.items())),
        configured=tuple(row.external_ids.get(_CONFIGURED, "").split()),
        ofport_request=_optional(interface.ofport_request),
        vlans=tuple(str(part) for part in (*row.tag, *row.trunks, *row.vlan_mode)),
        snooping=_beginning(_SNOOPING, row.other_config),
        owner=row.external_ids.get(EXTERNAL_ID),
        ofport=_optional(interface.ofport),
        error=_optional(interface.error),
        mtu=_optional(interface.mtu),
        bond_mode=_optional(row.bond_mode) or "active-backup" if bond else "",
        members=tuple(sorted(each.name for each in row.interfaces)) if bond else (),
    )


def read_event(row: Any, columns: frozenset[str]) -> RowEvent:
    """Return the event of a row as committed: within a transaction, rows show pending writes."""

    def text(column: str, key: str | None = None) -> str:
        datum = (row._data or {}).get(column)
        for atom, value in datum.values.items() if datum is not None else ():
            if key is None or atom.value == key:
                return str(atom.value if key is None else value.value)
        return ""

    name, owner, kind = text("name"), text("external_ids", EXTERNAL_ID), text("type")
    return RowEvent(row._table.name, name, owner or None, kind, columns)


def write_bridge(row: Any, item: Bridge) -> None:
    """Write the item into a row of table Bridge."""
    row.datapath_type = item.datapath
    row.fail_mode = item.fail_mode or []
    _write_owner(row, item.owner)
    _write_beginning(_NOTE, row, "external_ids", dict(item.notes))


def write_port(row: Any, item: Port) -> None:
    """Write the item into a row of table Port and that of its interface."""
    interface = row.interfaces[0]
    interface.type = item.type
    interface.options = dict(item.options)
    interface.ofport_request = [] if item.ofport_request is None else item.ofport_request
    row.tag, row.trunks, row.vlan_mode = [], [], []
    _write_beginning(_SNOOPING, row, "other_config", dict(item.snooping))
    _write_owner(row, item.owner)
    notes = {_CONFIGURED: " ".join(item.configured)} if item.configured else {}
    _write_beginning(_NOTE, row, "external_ids", notes)


def _beginning(prefix: str, column: Mapping[str, str]) -> Options:
    """Return the entries of a map whose keys begin with the prefix."""
    return tuple(sorted(entry for entry in column.items() if entry[0].startswith(prefix)))


def _write_beginning(prefix: str, row: Any, column: str, entries: Mapping[str, str]) -> None:
    """Write the entries of a map whose keys begin with the prefix; leave all others as they are."""
    there = getattr(row, column)
    for key in there:
        if key.startswith(prefix) and key not in entries:
            row.delkey(column, key)
    for key, value in entries.items():
        if there.get(key) != value:
            row.setkey(column, key, value)


def _write_owner(row: Any, owner: str | None) -> None:
    if owner is None:
        row.delkey("external_ids", EXTERNAL_ID)
    else:
        row.setkey("external_ids", EXTERNAL_ID, owner)


def _optional(column: Any) -> Any:
    """Return the value of an optional column, which the IDL has as a list of at most one."""
    return column[0] if column else None
