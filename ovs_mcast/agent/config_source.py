"""The source of an agent's wanted overlay: a file today."""

from __future__ import annotations

from typing import Protocol

from ..core.model import Overlay


class ConfigSource(Protocol):
    """The wanted overlay, and its changes; readable for select when it may have changed."""

    def read(self) -> Overlay:
        """Return the overlay that is wanted now; ConfigurationError if it is invalid."""

    def watch(self) -> None:
        """Renew the watches; the loop calls this before each wait."""

    def fileno(self) -> int:
        """Return the descriptor, for select."""

    def changed(self) -> bool:
        """Return True if `read` may return another overlay than the last time."""

    def close(self) -> None:
        """End the watches."""
