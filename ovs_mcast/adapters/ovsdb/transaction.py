"""One transaction of ovsdbapp: bridges and ports added, changed and removed, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovsdbapp.backend.ovs_idl import command
from ovsdbapp.schema.open_vswitch.impl_idl import OvsVsctlTransaction

from ...core.changes import Change
from ...core.items import Bridge, Port
from . import rows


class OvsdbError(Exception):
    """A transaction was refused as a whole: nothing of it is in the database."""


class LostError(Exception):
    """The connection to ovsdb-server has ended."""


class _Transaction(OvsVsctlTransaction):  # type: ignore[misc]
    """ovsdbapp's transaction, but raise if ovs-vswitchd does not follow: ovsdbapp only logs it.

    Where notes alone change, ovs-vswitchd has nothing to follow.
    """

    follows = True

    def pre_commit(self, txn: Any) -> None:
        """Ask ovs-vswitchd to report when it has followed."""
        if self.follows:
            super().pre_commit(txn)

    def post_commit(self, txn: Any) -> None:
        """Wait for ovs-vswitchd. TimeoutException and LostError."""
        if self.follows:
            self.do_post_commit(txn)


class _Changes(command.BaseCommand):  # type: ignore[misc]
    """All changes of one transaction, in the order given."""

    def __init__(self, api: Any, changes: Sequence[Change]) -> None:
        super().__init__(api)
        self._changes = changes

    def run_idl(self, txn: Any) -> None:
        self.api.idl.committing = True
        if self.api.idl.lost:
            raise LostError("ovsdb-server went away")
        root = next(iter(self.api.tables["Open_vSwitch"].rows.values()))
        bridges = {row.name: row for row in self.api.tables["Bridge"].rows.values()}
        ports = {port.name: port for bridge in bridges.values() for port in bridge.ports}
        for change in self._changes:
            if isinstance(change.item, Bridge):
                self._bridge(txn, change, root, bridges)
            elif isinstance(change.item, Port):
                self._port(txn, change, bridges, ports)

    def _bridge(self, txn: Any, change: Change, root: Any, bridges: dict[str, Any]) -> None:
        item = change.item
        assert isinstance(item, Bridge)
        name = item.name
        if change.action == "remove":
            if name in bridges:
                root.delvalue("bridges", bridges[name])
                bridges.pop(name).delete()
            return
        row = bridges.get(name)
        if row is None:
            row = bridges[name] = txn.insert(self.api.tables["Bridge"])
            row.name = name
            row.addvalue("ports", self._insert_port(txn, name, "internal"))
            root.addvalue("bridges", row)
        rows.write_bridge(row, item)

    def _port(
        self, txn: Any, change: Change, bridges: dict[str, Any], ports: dict[str, Any]
    ) -> None:
        item, before = change.item, change.before
        assert isinstance(item, Port)
        assert before is None or isinstance(before, Port)
        row = ports.get(item.name)
        if change.action == "remove":
            if row is not None and item.bridge in bridges:
                bridges[item.bridge].delvalue("ports", row)
                ports.pop(item.name)
            return
        if row is None:
            row = ports[item.name] = self._insert_port(txn, item.name, item.type)
            bridges[item.bridge].addvalue("ports", row)
        elif before is not None and before.bridge != item.bridge:
            if before.bridge in bridges:
                bridges[before.bridge].delvalue("ports", row)
            bridges[item.bridge].addvalue("ports", row)
        rows.write_port(row, item)

    def _insert_port(self, txn: Any, name: str, kind: str) -> Any:
        interface = txn.insert(self.api.tables["Interface"])
        interface.name = name
        interface.type = kind
        port = txn.insert(self.api.tables["Port"])
        port.name = name
        port.interfaces = [interface]
        port.other_config = {}  # a new row's column cannot be read before it is written
        return port
