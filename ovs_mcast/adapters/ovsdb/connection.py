"""Rows of bridges and ports in OVSDB, read as state and changed in one transaction (ovsdbapp).

Knows no VNI. Marks are ``external_ids:ovs-mcast`` of Bridge and Port rows.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ovsdbapp.backend.ovs_idl import connection, idlutils
from ovsdbapp.exceptions import TimeoutException
from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_exponential

from ...core.changes import Change
from ...core.events import RowEvent
from ...core.items import Bridge, Port
from ...errors import UnavailableError
from ..polling import poll_until
from . import rows, schema
from .transaction import LostError, OvsdbError, _Changes, _Transaction

_LOCK = "ovs_mcast"
_PATIENCE = 5.0  # seconds to reconnect in, or to end
_BACKOFF = 1000, 1000  # ms between two tries to reconnect, at least and at most
_FOLLOW = 30.0  # seconds that ovs-vswitchd may take to follow a change
CONNECT = 10.0  # seconds that a server may take to answer


class _Idl(connection.OvsdbIdl):  # type: ignore[misc]
    """ovsdbapp's replica of the database; it reports its changes to a watcher."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._session.reconnect.set_backoff(*_BACKOFF)
        self.watcher: Callable[[RowEvent], None] | None = None
        self.lost = False
        self.committing = False

    def run(self) -> bool:
        """Read updates of the server; report a lost connection to the watcher once.

        LostError within a transaction, which would wait for the server to come back.
        """
        changed = bool(super().run())
        if self.watcher is not None and not self.lost and not self._session.is_connected():
            self.lost = True
            self.watcher(RowEvent())
        if self.lost and self.committing:
            raise LostError("ovsdb-server went away")
        return changed

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Report the event of a row to the watcher."""
        super().notify(event, row, updates)
        if self.watcher is not None:
            changed = () if updates is None else updates._data
            self.watcher(rows.read_event(row, frozenset(changed)))


class _Api(OvsdbIdl):  # type: ignore[misc]
    """ovsdbapp's API with a connection of its own: its Backend keeps one per process."""

    ovsdb_connection = None

    def create_transaction(self, *flags: bool, **named: Any) -> _Transaction:
        """Return a transaction, for `transaction`."""
        return _Transaction(self, self.ovsdb_connection, None, *flags, **named)


def _cure(remote: str) -> str:
    method, _, place = remote.partition(":")
    if method != "tcp":
        return "start openvswitch-switch"
    address, _, port = place.rpartition(":")
    add = f"ovs-appctl -t ovsdb-server ovsdb-server/add-remote ptcp:{port}:{address}"
    return f"start openvswitch-switch, and let it listen there: {add}"


class Ovsdb:
    """A connection to one ovsdb-server, with its own thread until ``close``.

    ``timeout`` in seconds bounds each wait for an answer of the server, ``follow`` how long
    ovs-vswitchd may take to follow a change. UnavailableError without an answer. A server that
    starts anew is connected to again.
    """

    def __init__(self, remote: str, timeout: float = CONNECT, follow: float = _FOLLOW) -> None:
        self.remote = remote
        self._timeout, self._follow = timeout, follow
        try:
            helper = idlutils.create_schema_helper(schema.fetch(remote, timeout))
            for table, columns in rows.COLUMNS.items():
                helper.register_columns(table, columns)
            self._connection = connection.Connection(_Idl(remote, helper), timeout=timeout)
            self._api = _Api(self._connection)
            self._connection.timeout = follow
        except PermissionError:
            raise UnavailableError(
                f"opening {remote} needs privileges: run as root", reason="privilege"
            ) from None
        except Exception as error:
            reason = getattr(error, "strerror", None) or error
            raise UnavailableError(
                f"no ovsdb-server answers at {remote} ({reason}): {_cure(remote)}",
                reason="ovsdb",
            ) from None

    def close(self) -> None:
        """End the connection and its thread.

        Not by ovsdbapp's own stop(), which waits for room in a queue that the thread, if it ends
        at that moment, will not empty.
        """
        ovsdb = self._connection
        if ovsdb.is_running:
            ovsdb.is_running = False
            with suppress(queue.Full):  # a full queue has woken the thread already
                ovsdb.txns.put_nowait(None)
            if ovsdb.thread is not threading.current_thread():  # as a finalizer may run in it
                ovsdb.thread.join(_PATIENCE)  # a server that hangs is not waited for
            ovsdb.thread = None
        ovsdb.txns.close()  # otherwise its pipe stays open until garbage collection

    def watch(self, watcher: Callable[[RowEvent], None]) -> None:
        """Report every change of rows to ``watcher``, in the connection's own thread.

        A lost connection is reported once, and ends all waiting calls with UnavailableError: the
        watcher opens a new one.
        """
        self._connection.idl.watcher = watcher

    def bridges(self) -> dict[str, Bridge]:
        """Return every bridge by name."""
        with self._replica():
            return {row.name: rows.read_bridge(row) for row in self._rows("Bridge")}

    def ports(self, on: str | None = None) -> dict[str, Port]:
        """Return every port by name, or those on one bridge.

        Without the LOCAL ports, which are the bridges themselves.
        """
        with self._replica():
            return {
                row.name: rows.read_port(bridge.name, row)
                for bridge in self._rows("Bridge")
                if on in {None, bridge.name}
                for row in bridge.ports
                if row.name != bridge.name
            }

    def apply(self, changes: Sequence[Change]) -> None:
        """Make all changes in one transaction and wait for ovs-vswitchd to have followed.

        Its results are not read here: read ``ports`` again for ofport and error.
        """
        try:
            with self._api.transaction(check_error=True, log_errors=False) as transaction:
                transaction.follows = not all(change.is_note for change in changes)
                transaction.add(_Changes(self._api, changes))
        except TimeoutException:
            raise UnavailableError(
                f"Open vSwitch at {self.remote} took no change in {self._follow:.0f} s: try again",
                reason="vswitchd",
            ) from None
        except LostError as error:
            raise UnavailableError(f"{error} during a transaction", reason="ovsdb") from None
        except RuntimeError as error:  # ovsdbapp raises it for the server's refusal
            raise OvsdbError(str(error)) from error
        finally:
            self._connection.idl.committing = False

    @contextmanager
    def exclusive(
        self, patience: float, on_wait: Callable[[float], None] = lambda _seconds: None
    ) -> Iterator[None]:
        """Hold the database's lock for ovs_mcast (RFC 7047, 4.1.8), waiting ``patience`` seconds.

        ``on_wait`` is called again and again while another run holds it, with the seconds so far;
        what it raises ends the wait. ovsdb-server releases the lock when the holder's connection
        ends, kill -9 included.
        """
        began = time.monotonic()

        def held() -> bool:
            self._await_connection()
            if self._connection.idl.is_lock_contended:
                on_wait(time.monotonic() - began)
            elif not self._connection.idl.has_lock and time.monotonic() - began > self._timeout:
                raise self._silent()
            return bool(self._connection.idl.has_lock)

        self._set_lock(_LOCK)
        attempts = Retrying(
            retry=retry_if_result(lambda has_lock: not has_lock),
            wait=wait_exponential(multiplier=0.005, max=0.1),
            stop=stop_after_delay(patience),
        )
        try:
            attempts(held)
            yield
        except RetryError:
            raise UnavailableError(
                f"another run of ovs_mcast holds this Open vSwitch for {patience:.0f} s: "
                "wait for it to end",
                reason="locked",
            ) from None
        finally:
            self._set_lock(None)

    @contextmanager
    def _replica(self) -> Iterator[None]:
        """Keep the replica of the database as it is, while there is a connection."""
        self._await_connection()
        if not self._connection.lock.acquire(timeout=self._follow):  # a transaction has it
            raise self._silent()
        try:
            yield
        finally:
            self._connection.lock.release()

    def _await_connection(self) -> None:
        """Wait until it is there, for a server that starts anew; UnavailableError if it is not.

        ovs.db.idl finds a server that hangs after 10 s without an answer.
        """

        def there() -> bool:
            return bool(self._connection.idl._session.is_connected())

        if there():
            return
        if self._connection.idl.lost or not poll_until(there, bool, _PATIENCE, 0.1):
            raise self._silent()

    def _silent(self) -> UnavailableError:
        return UnavailableError(
            f"no ovsdb-server answers at {self.remote}: {_cure(self.remote)}", reason="ovsdb"
        )

    def _set_lock(self, name: str | None) -> None:
        with self._connection.lock:
            if self._connection.idl.lost:
                return  # the lock is lost with the connection
            self._connection.idl.set_lock(name)
        with suppress(queue.Full):  # wakes the connection's thread, which sends the request
            self._connection.txns.put_nowait(None)

    def _rows(self, table: str) -> list[Any]:
        return list(self._api.tables[table].rows.values())
