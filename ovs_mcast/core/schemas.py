"""JSON Schemas (draft 2020-12) of the configuration and of the `--json` documents. Pure.

Built on demand: import this module late, since pydantic takes a while to build a schema.
"""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter

from . import documents
from .fields import VLAN_MAX
from .model import Overlay

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def configuration() -> dict[str, Any]:
    """Return the schema of a configuration file. The checks across fields are the model's alone."""
    schema = Overlay.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part["description"] = inspect.cleandoc(part["description"]).partition("\n\n>>>")[0]
    segment = schema["$defs"]["Segment"]
    # The model replaces a missing VLAN by the VNI.
    segment["required"] = ["vni"]
    small = {"properties": {"vni": {"maximum": VLAN_MAX}}}
    segment["anyOf"] = [{"required": ["vlan"]}, small]
    return {"$schema": _DIALECT, **schema, "title": "Configuration of ovs_mcast"}


def setup() -> dict[str, Any]:
    """Return the schema of `setup --json`."""
    return _schema(documents.SetupDocument)


def segments() -> dict[str, Any]:
    """Return the schema of `segment list --json`."""
    return _schema(documents.SegmentsDocument)


def status() -> dict[str, Any]:
    """Return the schema of `status --json`."""
    return _schema(documents.StatusDocument)


def path() -> dict[str, Any]:
    """Return the schema of `probe path --json`."""
    return _schema(documents.PathDocument)


def send() -> dict[str, Any]:
    """Return the schema of `probe send --json`."""
    return _schema(documents.SendDocument)


def lab() -> dict[str, Any]:
    """Return the schema of `lab --json`."""
    return _schema(documents.LabDocument)


def _schema(document: Any) -> dict[str, Any]:
    return {"$schema": _DIALECT, **TypeAdapter(document).json_schema()}
