"""Faults by name: operations of the machine that fail for a while. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from ..core.closeable import Closeable

Fault = Literal[
    "vswitchd-away",
    "ovsdb-away",
    "transaction-refused",
    "transaction-unfollowed",
    "bundle-refused",
    "address-refused",
    "not-permitted",
    "join-refused",
    "locked",
    "module-missing",
]

FAULTS: Mapping[Fault, str] = MappingProxyType(
    {
        "vswitchd-away": "ovs-vswitchd does not answer: UnavailableError",
        "ovsdb-away": "ovsdb-server does not answer: UnavailableError",
        "transaction-refused": "ovsdb-server refuses changes of rows: ApplyError",
        "transaction-unfollowed": "rows change, ovs-vswitchd does not follow: UnavailableError",
        "bundle-refused": "Open vSwitch refuses flows: ApplyError",
        "address-refused": "the kernel has no room for an address (ENOBUFS): ApplyError",
        "not-permitted": "changing addresses lacks CAP_NET_ADMIN: UnavailableError",
        "join-refused": "sockets cannot join: ApplyError",
        "locked": "another run holds this Open vSwitch: UnavailableError, without the wait",
        "module-missing": "the kernel's datapath is missing, and its bridges: UnavailableError",
    }
)
assert tuple(FAULTS) == get_args(Fault)


class Interrupted(BaseException):
    """Ends a run as kill -9 does: at once, without any further change."""


class Faults:
    """Active faults and their remaining count; None until lifted."""

    def __init__(self) -> None:
        self._left: dict[Fault, int | None] = {}
        self._changes_left: int | None = None

    def set(self, fault: Fault, times: int | None) -> None:
        """Activate a fault, for so many operations."""
        if fault not in FAULTS:
            raise ValueError(f"{fault!r} is no fault: there are {', '.join(FAULTS)}")
        if times is not None and times < 1:
            raise ValueError(f"{times} times is never: name 1 or more")
        self._left[fault] = times

    def lift(self, *faults: Fault) -> None:
        """Lift these faults, or all, and a pending interruption."""
        for fault in faults or tuple(self._left):
            self._left.pop(fault, None)
        if not faults:
            self._changes_left = None

    def strikes(self, fault: Fault) -> bool:
        """Return whether the operation fails, and count it."""
        if fault not in self._left:
            return False
        left = self._left[fault]
        if left == 1:
            del self._left[fault]
        elif left is not None:
            self._left[fault] = left - 1
        return True

    def interrupt_after(self, changes: int) -> None:
        """Let so many changes be made, then raise Interrupted."""
        if changes < 0:
            raise ValueError(f"{changes} changes cannot be made: name 0 or more")
        self._changes_left = changes

    def cut(self, wanted: int, *, whole: bool) -> int:
        """Return how many of so many changes are made; with ``whole`` all or none."""
        left = self._changes_left
        if left is None or left >= wanted:
            return wanted
        return 0 if whole else left

    def made(self, wanted: int) -> None:
        """Count the changes that ``cut`` allowed; raise Interrupted if the run ends there."""
        if self._changes_left is None:
            return
        if self._changes_left <= wanted:
            self._changes_left = None
            raise Interrupted("killed")
        self._changes_left -= wanted


class Lasting(Closeable):
    """An active fault; a `with` block ends it."""

    def __init__(self, faults: Faults, fault: Fault) -> None:
        self._faults, self._fault = faults, fault

    def close(self) -> None:
        """End the fault."""
        self._faults.lift(self._fault)
