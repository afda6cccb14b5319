"""What is said of failures: each once in a spell, and that it is over. Pure."""

from __future__ import annotations

import re

from .observer import Failing

_NUMBER = re.compile(r"\d+")
_MANY = 100  # messages remembered in one spell


class Saying:
    """Remembers what has been said in a spell of failures; numbers make no other message."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def failed(self, message: str, spell: Failing) -> str | None:
        """The message, with when it is tried again; None if it was said in this spell."""
        gist = _NUMBER.sub("#", message)
        if gist in self._said or len(self._said) >= _MANY:
            return None
        self._said.add(gist)
        return f"{message} (trying again in {_seconds(spell.pause)}, then more slowly)"

    def fine(self, spell: Failing | None) -> str | None:
        """That it is over, if a spell was."""
        self._said.clear()
        if spell is None:
            return None
        tries = f"{spell.tries} tr{'y' if spell.tries == 1 else 'ies'}"
        return f"fine again, after {tries} in {_seconds(spell.seconds)}"


def _seconds(length: float) -> str:
    return f"{length:.1f} s" if length < 10 else f"{length:.0f} s"
