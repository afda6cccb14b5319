"""Base of what a `with` block closes at its end."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closeable:
    """A context that ends by ``close``."""

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
