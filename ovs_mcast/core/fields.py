"""Field types of the configuration: names, numbers, addresses; and the base of frozen values.

Every refusal is a ConfigurationError that names the field in the words of the configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from netaddr import IPAddress, IPNetwork
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictInt,
    ValidationError,
    WithJsonSchema,
)

from . import groups
from .errors import ConfigurationError

VNI_MAX = (1 << 24) - 1
VLAN_MAX = 4094
VXLAN_UDP_PORT = 4789
LINUX_UDP_PORT = 8472  # of a Linux vxlan device that was made without dstport

Datapath = Literal["system", "netdev"]
InnerVlan = Literal["drop", "keep"]
Method = Literal["auto", "autojoin", "repaired", "peer", "socket"]

# dev_valid_name() of the kernel: 1 to 15 octets, none of them a slash, a colon or white space.
_DEVICE = re.compile(r"[^\s/:]{1,15}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _device_name(value: str) -> str:
    if not _DEVICE.fullmatch(value) or value in {".", ".."} or len(value.encode()) > 15:
        raise ValueError(
            f"{value!r} is not a name that Linux accepts: 1 to 15 bytes, no / : or space"
        )
    return value


def _overlay_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name: a letter or digit, then at most 62 of A-Za-z0-9._-"
        )
    return value


def _group(value: object) -> IPAddress:
    return groups.check_group(groups.parse_address(value))


def _vtep(value: object) -> IPAddress:
    return groups.check_vtep(groups.parse_address(value))


def _tos(value: object) -> object:
    if value == "inherit":
        return value
    if type(value) is not int or not 0 <= value <= 252 or value % 4:
        raise ValueError(
            f"{value!r} is not inherit, nor a number of 0 to 252 without the two bits of ECN"
        )
    return value


_ADDRESS = WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
_POOL = WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9.]+$"})

_PEER = WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]+)?$"})
_AS_TEXT = PlainSerializer(str, when_used="json")

DeviceName = Annotated[
    str,
    AfterValidator(_device_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_DEVICE.pattern}$"}),
]
OverlayName = Annotated[
    str,
    AfterValidator(_overlay_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]
Vni = Annotated[StrictInt, Field(ge=1, le=VNI_MAX)]
Vlan = Annotated[StrictInt, Field(ge=1, le=VLAN_MAX)]
Tos = Annotated[
    int | Literal["inherit"],
    BeforeValidator(_tos),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 252, "multipleOf": 4},
                   {"const": "inherit"}]}
    ),
]  # fmt: skip
Group = Annotated[IPAddress, BeforeValidator(_group), _ADDRESS, _AS_TEXT]
Vtep = Annotated[IPAddress, BeforeValidator(_vtep), _ADDRESS, _AS_TEXT]
Peer = Annotated[IPNetwork, BeforeValidator(groups.parse_peer), _PEER, _AS_TEXT]
Pool = Annotated[IPNetwork, BeforeValidator(groups.parse_pool), _POOL, _AS_TEXT]


class Value(BaseModel):
    """A frozen value, validated when it is made; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, /, **values: object) -> None:
        """Validate; raise the first refusal as a ConfigurationError. None means left out."""
        given = {name: value for name, value in values.items() if value is not None}
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refusal(error) from None

    def replace(self, **fields: object) -> Self:
        """Return a copy with these fields in place of its own, validated as a whole.

        ConfigurationError as for a new one. None restores a field's default.

        >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"))
        >>> overlay.replace(membership="socket").membership
        'socket'
        """
        unknown = sorted(fields.keys() - type(self).model_fields.keys())
        if unknown:
            raise ConfigurationError("there is no such key", field=unknown[0])
        return type(self)(**(dict(self) | fields))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return the same as `replace`: pydantic's own would not validate."""
        return self.replace(**(update or {}))


def refusal(error: ValidationError) -> ConfigurationError:
    """Return the first of pydantic's complaints, as one sentence that names the field."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, ConfigurationError):
        inner = ".".join(part for part in (place, raised.field) if part)
        return ConfigurationError(raised.reason, field=inner)
    if first["type"] == "extra_forbidden":
        return ConfigurationError("there is no such key", field=place)
    message = str(raised) if raised is not None else first["msg"]
    if raised is None and first["type"] != "missing":
        message += f", not {first['input']!r}"
    return ConfigurationError(message, field=place)
