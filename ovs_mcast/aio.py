"""A Host for asyncio: each call runs in one worker thread of the host's own, the loop goes on.

>>> import asyncio
>>> from ovs_mcast import aio
>>> async def names():
...     async with aio.connect() as host:
...         return await host.overlays()
>>> asyncio.run(names())
[]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from .adapters.ovsdb import connection
from .core.changes import Plan
from .core.model import Overlay, Segment
from .core.observed import Observed
from .core.status import Progress, Status
from .host import connect as connect_module
from .host import host
from .host.backend import Holding

_T = TypeVar("_T")


class AsyncHost:
    """A Host with awaitable methods, for use within `async with`. Errors are the same.

    Calls are carried out one after the other. A call that is cancelled before its turn is not made;
    one that has begun runs to its end in the worker thread, and `close` waits for that: a change
    that was started is never left in the middle. ``progress`` is called from the worker thread.
    """

    def __init__(self, opened: Callable[[], host.Host]) -> None:
        self._opened = opened
        self._host: host.Host | None = None
        self._worker: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ovs-mcast")
        try:
            await self._call(self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections, after the call that is under way; no thread is left."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        closing = asyncio.get_running_loop().run_in_executor(worker, self._close)
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
        worker.shutdown()
        if cancelled is not None:
            raise cancelled
        closing.result()

    async def observe(self, overlay: Overlay | str) -> Observed:
        """As Host.observe."""
        return await self._call(partial(self._opened_host.observe, overlay))

    async def plan(self, overlay: Overlay) -> Plan:
        """As Host.plan."""
        return await self._call(partial(self._opened_host.plan, overlay))

    async def apply(self, changes: Plan, progress: Progress | None = None) -> None:
        """As Host.apply."""
        await self._call(partial(self._opened_host.apply, changes, progress))

    async def verify(self, overlay: Overlay) -> Status:
        """As Host.verify."""
        return await self._call(partial(self._opened_host.verify, overlay))

    async def reconcile(self, overlay: Overlay, progress: Progress | None = None) -> Status:
        """As Host.reconcile."""
        return await self._call(partial(self._opened_host.reconcile, overlay, progress))

    async def overlay(self, name: str | None = None) -> Overlay:
        """As Host.overlay."""
        return await self._call(partial(self._opened_host.overlay, name))

    async def add(self, segment: Segment, *, name: str | None = None) -> Status:
        """As Host.add."""
        return await self._call(partial(self._opened_host.add, segment, name=name))

    async def remove(self, vni: int, *, name: str | None = None) -> Status:
        """As Host.remove."""
        return await self._call(partial(self._opened_host.remove, vni, name=name))

    async def teardown(self, name: str, progress: Progress | None = None) -> Status:
        """As Host.teardown."""
        return await self._call(partial(self._opened_host.teardown, name, progress))

    async def plan_teardown(self, name: str) -> Plan:
        """As Host.plan_teardown."""
        return await self._call(partial(self._opened_host.plan_teardown, name))

    async def overlays(self) -> list[str]:
        """As Host.overlays."""
        return await self._call(self._opened_host.overlays)

    async def hand_over(self) -> None:
        """As Host.hand_over."""
        await self._call(self._opened_host.hand_over)

    @property
    def _opened_host(self) -> host.Host:
        if self._host is None:
            raise RuntimeError("use it within `async with`")
        return self._host

    async def _call(self, call: Callable[[], _T]) -> _T:
        if self._worker is None:
            raise RuntimeError("use it within `async with`")
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _open(self) -> None:
        self._host = self._opened()

    def _close(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None


def connect(
    db: str | None = None,
    *,
    rundir: str | Path | None = None,
    holding: Holding = "keeper",
    timeout: float = connection.CONNECT,
    netns: str | Path | int | None = None,
) -> AsyncHost:
    """An AsyncHost, connected by `async with`; the arguments are those of ovs_mcast.connect."""
    return AsyncHost(
        partial(
            connect_module.connect, db, rundir=rundir, holding=holding, timeout=timeout, netns=netns
        )
    )
