"""The desired overlays of this machine, as its tunnel bridges keep them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from ..core import overlay_notes
from ..core.incremental import AppliedOverlay
from ..core.items import Bridge
from ..core.model import Overlay
from ..core.observed import owners
from ..core.preflight import check
from ..core.recovery import recover
from ..core.status import Status
from ..core.target import Target
from ..errors import ConfigurationError
from .backend import Backend
from .observe import observe, observe_for


def find(
    backend: Backend, applied: MutableMapping[str, AppliedOverlay], name: str | None
) -> AppliedOverlay:
    """Return the overlay as any process left it; one of ``applied`` as far as it is up to date.

    ConfigurationError where there is none, or where this host cannot have it.
    """
    name, kept, known = _look(backend, applied, name)
    if known is not None:
        return known
    overlay = _wanted(backend, name, kept)
    target = check(overlay, observe_for(backend, overlay))
    applied[name] = AppliedOverlay(target, kept.notes if kept else (), in_sync=True)
    return applied[name]


def overlay(backend: Backend, applied: Mapping[str, AppliedOverlay], name: str | None) -> Overlay:
    """Return the overlay as any process left it. ConfigurationError where there is none."""
    name, kept, known = _look(backend, applied, name)
    return _wanted(backend, name, kept) if known is None else known.overlay


def applied(backend: Backend, target: Target, status: Status) -> AppliedOverlay:
    """Return an overlay that was just reconciled."""
    kept = overlay_notes.bridge_of(target.overlay.name, backend.ovsdb.bridges().values())
    return AppliedOverlay(target, kept.notes if kept else (), in_sync=status.verified)


def _look(
    backend: Backend, applied: Mapping[str, AppliedOverlay], name: str | None
) -> tuple[str, Bridge | None, AppliedOverlay | None]:
    """Return the overlay's name, the bridge that keeps it, and what is known and up to date."""
    bridges = backend.ovsdb.bridges()
    name = _named(backend, bridges, applied, name)
    kept, known = overlay_notes.bridge_of(name, bridges.values()), applied.get(name)
    if known is not None and kept is not None and not known.follow(kept.notes):
        known = None
    return name, kept, known  # without its bridge, what this process knows of it


def _wanted(backend: Backend, name: str, kept: Bridge | None) -> Overlay:
    """Return the overlay that notes keep; without notes, of an earlier version, by its items."""
    overlay = None if kept is None else overlay_notes.read(name, kept.notes)
    return overlay or recover(name, observe(backend, name))


def _named(
    backend: Backend,
    bridges: Mapping[str, Bridge],
    applied: Mapping[str, AppliedOverlay],
    name: str | None,
) -> str:
    there = owners(bridges.values()) | applied.keys()
    if name is None and len(applied) == 1:
        return next(iter(applied))
    if name is None and len(there) > 1:
        raise ConfigurationError(f"say which overlay: {', '.join(sorted(there))}", field="name")
    if name is None and there:
        return next(iter(there))
    if name is None or name not in there | owners(backend.ovsdb.ports().values()):
        which = "no overlay" if name is None else f"no overlay {name}"
        raise ConfigurationError(f"there is {which} on this host", field="name")
    return name
