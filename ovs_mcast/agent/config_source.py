"""Where an agent's wanted overlay comes from: a file today."""

from __future__ import annotations

from typing import Protocol

from ..core.model import Overlay


class ConfigSource(Protocol):
    """The wanted overlay, and its changes; readable for select when it may have changed."""

    def read(self) -> Overlay:
        """Return the overlay that is wanted now; ConfigurationError if it is invalid."""

    def watch(self) -> None:
        """Renew whatever makes it readable; the loop calls this before each wait."""

    def fileno(self) -> int:
        """For select."""

    def changed(self) -> bool:
        """Return True if `read` may return another overlay than the last time."""

    def close(self) -> None:
        """Watch no longer."""
