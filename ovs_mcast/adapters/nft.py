"""The rule set of nftables in this network namespace (nft(8))."""

from __future__ import annotations

import json
import subprocess

_PATIENCE = 5.0  # seconds


def rule_set() -> object:
    """Return the parsed document of `nft --json list ruleset`; None where nft does not say."""
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
