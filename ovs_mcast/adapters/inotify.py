"""Events of the entries of directories (inotify(7)), without a thread; decides nothing."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from ..core.closeable import Closeable
from ..core.events import EntryEvent

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x01000000
_MASK = (
    _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
    | _ONLYDIR
)  # fmt: skip
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, octets of the name


class Inotify(Closeable):
    """Watches of directories; missing ones are left out, see ``watch``."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._directories: dict[int, Path] = {}

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._descriptor

    def close(self) -> None:
        """End all watches."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch exactly these, as far as they exist; existing watches continue."""
        wanted = set(directories)
        for watch, directory in list(self._directories.items()):
            if directory not in wanted:
                del self._directories[watch]
                self._libc.inotify_rm_watch(self._descriptor, watch)
        for directory in wanted - set(self._directories.values()):
            watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _MASK)
            if watch >= 0:
                self._directories[watch] = directory

    def read(self) -> list[EntryEvent]:
        """Return the pending events."""
        found: list[EntryEvent] = []
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return found
            offset = 0
            while offset < len(data):
                watch, mask, _cookie, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
                offset += length
                found += self._event(watch, mask, name)

    def _event(self, watch: int, mask: int, name: str) -> list[EntryEvent]:
        if mask & _OVERFLOW:
            return [EntryEvent(one, "") for one in self._directories.values()]
        directory = self._directories.get(watch)
        if directory is None:
            return []
        if mask & (_IGNORED | _DELETE_SELF | _MOVE_SELF):
            del self._directories[watch]
            if mask & _MOVE_SELF:  # the watch goes along with it
                self._libc.inotify_rm_watch(self._descriptor, watch)
            return [EntryEvent(directory, "")]
        return [EntryEvent(directory, name, began=bool(mask & _CREATE))]
