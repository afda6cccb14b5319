"""Count what a Host costs where it reaches the kernel and OVSDB: at its Backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ovs_mcast.host.backend import Backend


class _Counted:
    """An adapter that counts its calls."""

    def __init__(self, adapter: object, on_call: Callable[[str], None]) -> None:
        self._adapter, self._on_call = adapter, on_call

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._adapter, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self._on_call(name)
            return call(*arguments, **named)

        return counted


def with_counts(backend: Backend, spent: Counter[str]) -> Backend:
    """The same backend, which counts each batch to the kernel and each transaction in OVSDB.

    A call of the netlink adapter is one batch, whether it reads or writes.
    """

    def netlink(name: str) -> None:
        spent["netlink batches"] += name != "close"

    def ovsdb(name: str) -> None:
        spent["transactions"] += name == "apply"

    parts: dict[str, Any] = {
        "netlink": _Counted(backend.netlink, netlink),
        "ovsdb": _Counted(backend.ovsdb, ovsdb),
    }
    return replace(backend, **parts)
