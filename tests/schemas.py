"""Check a document that a command printed against the command's JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from ovs_mcast.core import schemas

Schema = Callable[[], dict[str, Any]]

SCHEMAS: tuple[Schema, ...] = (
    schemas.configuration, schemas.setup, schemas.status, schemas.path, schemas.send, schemas.lab,
)  # fmt: skip


def assert_fits(document: object, schema: Schema) -> None:
    """Fail with the place of each deviation, such as $.segments.100.vlan; of unknown keys too."""
    faults = [f"{one.json_path}: {one.message}" for one in _validator(schema).iter_errors(document)]
    assert faults == []


@cache
def _validator(schema: Schema) -> Draft202012Validator:
    made = schema()
    Draft202012Validator.check_schema(made)
    for part in (made, *made.get("$defs", {}).values()):
        part["additionalProperties"] = False  # readers allow more keys, but ours are all described
    return Draft202012Validator(made, format_checker=Draft202012Validator.FORMAT_CHECKER)
