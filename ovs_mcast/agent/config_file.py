"""The configuration file: read, and found to have changed however it was written.

Editors write another file and rename it; a ConfigMap is a link to a link that is swapped. So every
directory on the way to the file is watched, not the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..cli.overlay_options import OverlayOptions
from ..core.events import EntryEvent
from ..core.model import Overlay
from ..errors import ConfigurationError

_LINKS_MAX = 40  # as the kernel follows (path_resolution(7))
_Signature = tuple[int, int, int, int] | None


class Configuration:
    """One file, by the path that it was named by."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self._signature: _Signature = None

    def read(self) -> Overlay:
        """What the file wants now; ConfigurationError if it is refused."""
        self._signature = self._sign()
        return OverlayOptions(config=self.path).overlay()

    def directories(self) -> set[Path]:
        """The directories of the file and of each link on the way to it."""
        return {path.parent for path in self._way()}

    def may_be(self, event: EntryEvent) -> bool:
        """Whether the file may be another one after this."""
        if event.directory not in self.directories():
            return False
        # A file that is open for writing still is told of again when it is closed.
        return not event.began or (event.directory / event.name).is_symlink()

    def has_changed(self) -> bool:
        """Whether it is not the file that was last read; one that is gone has not."""
        now = self._sign()
        return now is not None and now != self._signature

    def _way(self) -> Iterator[Path]:
        """The path, resolved one link at a time, whichever part of it is the link."""
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
            seen = os.stat(self.path)
        except OSError:
            return None
        return (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size)


def read_or_refuse(configuration: Configuration) -> Overlay | ConfigurationError:
    """The overlay, or why there is none."""
    try:
        return configuration.read()
    except ConfigurationError as error:
        return error
