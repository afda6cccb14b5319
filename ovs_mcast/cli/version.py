"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata

_UNKNOWN = "0+unknown"  # PEP 440: a local version below every release


def version() -> str:
    """Return the distribution's version; 0+unknown in a checkout that is not installed."""
    try:
        return metadata.version("ovs-mcast")
    except metadata.PackageNotFoundError:
        return _UNKNOWN
