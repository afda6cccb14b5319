"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata


def _installed() -> str:
    try:
        return metadata.version("ovs-mcast")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return "0+unknown"  # PEP 440: a local version below every release


VERSION = _installed()
