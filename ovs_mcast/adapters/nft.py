"""The rule set of nftables in this network namespace (nft(8))."""

from __future__ import annotations

import json
import subprocess
import time

_PATIENCE = 5.0  # seconds
_FRESH = 10.0  # seconds that one reading serves: a large rule set takes a second to list


class Nft:
    """Reads the rule set, at most every ten seconds."""

    def __init__(self) -> None:
        self._read: object = None
        self._until = 0.0

    def rule_set(self) -> object:
        """Return the parsed document of `nft --json list ruleset`; None where nft does not say."""
        if time.monotonic() >= self._until:
            self._read = _rule_set()
            self._until = time.monotonic() + _FRESH
        return self._read


def _rule_set() -> object:
    try:
        done = subprocess.run(
            ["nft", "--json", "list", "ruleset"],
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
