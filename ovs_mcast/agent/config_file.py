"""The configuration file: read, and watched for changes however it is written.

Editors write another file and rename it; a ConfigMap is a link to a link that is swapped. So every
directory on the path to the file is watched, not the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..adapters.inotify import Inotify
from ..cli.overlay_options import OverlayOptions
from ..core.closeable import Closeable
from ..core.events import EntryEvent
from ..core.model import Overlay

_LINKS_MAX = 40  # as the kernel follows (path_resolution(7))
_Signature = tuple[int, int, int, int] | None


class ConfigFile(Closeable):
    """One file, by its path; a ConfigSource."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self._signature: _Signature = None
        self._files = Inotify()

    def read(self) -> Overlay:
        """Return the overlay of the file; ConfigurationError if it is invalid."""
        self.watch()  # before the file is read, so that no later change is missed
        self._signature = self._sign()
        return OverlayOptions(config=self.path).overlay()

    def watch(self) -> None:
        """Watch the directories that are on the path now."""
        self._files.watch(self.directories())

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._files.fileno()

    def changed(self) -> bool:
        """Return True if the file was written since it was last read, and differs."""
        written = [self._concerns(event) for event in self._files.read()]
        return any(written) and self._differs()

    def close(self) -> None:
        """End the watches."""
        self._files.close()

    def directories(self) -> set[Path]:
        """Return the directories of the file and of each link on the path to it."""
        return {path.parent for path in self._steps()}

    def _concerns(self, event: EntryEvent) -> bool:
        """Return True if the event may have replaced or changed the file."""
        if event.directory not in self.directories():
            return False
        # Closing a file that is still open for writing brings another event.
        return not event.began or (event.directory / event.name).is_symlink()

    def _differs(self) -> bool:
        """Return True if the file differs from the one last read; a missing one does not."""
        now = self._sign()
        return now is not None and now != self._signature

    def _steps(self) -> Iterator[Path]:
        """Resolve the path one link at a time, whichever part of it is the link."""
        path = self.path
        for _ in range(_LINKS_MAX):
            yield path
            link = next(
                (part for part in (*reversed(path.parents), path) if part.is_symlink()), None
            )
            if link is None:
                return
            yield link
            target = link.parent / os.readlink(link)
            path = Path(os.path.normpath(target / path.relative_to(link)))

    def _sign(self) -> _Signature:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
