"""What is wanted: overlays, validated once when made. Frozen values; no I/O.

Every refusal is a ConfigurationError that names the field in the words of the configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from netaddr import IPAddress, IPNetwork
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ..errors import ConfigurationError
from . import groups

VNI_MAX = (1 << 24) - 1
VLAN_MAX = 4094
VXLAN_UDP_PORT = 4789

Datapath = Literal["system", "netdev"]
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


_ADDRESS = WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
_POOL = WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9.]+$"})

DeviceName = Annotated[
    str,
    AfterValidator(_device_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_DEVICE.pattern}$"}),
]
Name = Annotated[
    str,
    AfterValidator(_overlay_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]
Vni = Annotated[StrictInt, Field(ge=1, le=VNI_MAX)]
Vlan = Annotated[StrictInt, Field(ge=1, le=VLAN_MAX)]
Group = Annotated[IPAddress, BeforeValidator(_group), _ADDRESS]
Vtep = Annotated[IPAddress, BeforeValidator(_vtep), _ADDRESS]
Pool = Annotated[IPNetwork, BeforeValidator(groups.parse_pool), _POOL]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, /, **values: object) -> None:
        """Validate; the first refusal is raised as a ConfigurationError. None means left out."""
        given = {name: value for name, value in values.items() if value is not None}
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refusal(error) from None


def refusal(error: ValidationError) -> ConfigurationError:
    """The first of pydantic's complaints, as one sentence that names the field."""
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


class Segment(_Value):
    """One layer-2 segment: VNI on the wire, VLAN on the bridge, group for its BUM frames.

    ``vlan`` left out is the VNI, which must then be at most 4094; ``group`` left out is taken from
    the overlay's pool. VNI 1..16777215 (RFC 7348), VLAN 1..4094 (IEEE 802.1Q).

    >>> om.Segment(vni=5050, vlan=10, group="239.1.1.50").flood_group
    IPAddress('239.1.1.50')
    """

    vni: Vni
    vlan: Vlan
    group: Group | None = None

    if TYPE_CHECKING:

        def __init__(
            self, *, vni: int, vlan: int | None = None, group: str | IPAddress | None = None
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _vlan_from_vni(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("vlan") is not None:
            return data
        vni = data.get("vni")
        given = {key: value for key, value in data.items() if value is not None}
        if not isinstance(vni, int) or isinstance(vni, bool) or not 1 <= vni <= VNI_MAX:
            return given | {"vlan": 1}  # the VNI itself is refused
        if vni > VLAN_MAX:
            raise ConfigurationError(
                f"VNI {vni} is above {VLAN_MAX}: name the VLAN of the segment", field="vlan"
            )
        return given | {"vlan": vni}

    @property
    def flood_group(self) -> IPAddress:
        """The group that BUM frames go to; known once the segment is in an Overlay."""
        if self.group is None:
            raise ConfigurationError(
                f"VNI {self.vni} has no group: it names none and there is no pool", field="group"
            )
        return self.group


class Underlay(_Value):
    """The device that carries the tunnels, and how.

    ``device`` with the userspace datapath is the bridge that holds the NIC. ``vtep`` left out is
    the device's first address of the groups' family. ``ttl`` is the outer TTL or hop limit.

    >>> om.Underlay(device="eth0", vtep="10.0.0.1").udp_port
    4789
    """

    device: DeviceName
    vtep: Vtep | None = None
    udp_port: Annotated[StrictInt, Field(ge=1, le=65535)] = VXLAN_UDP_PORT
    ttl: Annotated[StrictInt, Field(ge=1, le=255)] = 64

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            device: str,
            vtep: str | IPAddress | None = None,
            udp_port: int | None = None,
            ttl: int | None = None,
        ) -> None: ...


class Overlay(_Value):
    """All that is wanted of one overlay on one machine.

    ``segments`` are kept with their groups resolved, ordered by VNI. ``aging`` is in seconds, after
    the last frame from a MAC (300 like the Linux vxlan device); ``learned_limit`` is the number of
    MACs learned per segment, beyond which frames to new ones are flooded: Open vSwitch counts them
    all for each new one.

    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"), groups="239.1.0.0/20",
    ...                      segments=[om.Segment(vni=5050, vlan=10), om.Segment(vni=100)])
    >>> [(one.vni, one.vlan, str(one.group)) for one in overlay.segments]
    [(100, 100, '239.1.0.100'), (5050, 10, '239.1.3.186')]
    """

    name: Name = "default"
    bridge: DeviceName = "br-int"
    tunnel_bridge: DeviceName = "br-mcast"
    datapath: Datapath = "system"
    membership: Method = "auto"
    underlay: Underlay
    groups: Pool | None = None
    segments: tuple[Segment, ...] = ()
    aging: Annotated[StrictInt, Field(ge=1, le=65535)] = 300
    learned_limit: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1024

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            underlay: Underlay | Mapping[str, object],
            segments: Iterable[Segment | Mapping[str, object]] = (),
            name: str | None = None,
            bridge: str | None = None,
            tunnel_bridge: str | None = None,
            datapath: str | None = None,
            membership: str | None = None,
            groups: str | IPNetwork | None = None,
            aging: int | None = None,
            learned_limit: int | None = None,
        ) -> None: ...

    @classmethod
    def from_mapping(cls, data: object) -> Overlay:
        """An overlay from a parsed configuration file; ConfigurationError for all else."""
        if not isinstance(data, Mapping):
            raise ConfigurationError("the configuration is not a mapping of names to values")
        try:
            return cls(**_text_keys(data))
        except RecursionError:
            raise ConfigurationError("the configuration contains itself") from None

    @model_validator(mode="after")
    def _consistent(self) -> Overlay:
        if self.bridge == self.tunnel_bridge:
            raise ConfigurationError(f"{self.bridge} is the bridge too", field="tunnel_bridge")
        for role in ("bridge", "tunnel_bridge"):
            if getattr(self, role) == self.underlay.device:
                raise ConfigurationError(
                    f"{self.underlay.device} is the underlay device", field=role
                )
        _refuse_twice(self.segments)
        resolved = tuple(
            _resolve(index, segment, self.groups) for index, segment in enumerate(self.segments)
        )
        _refuse_mixed_families(resolved, self.underlay.vtep)
        ordered = tuple(sorted(resolved, key=lambda segment: segment.vni))
        object.__setattr__(self, "segments", ordered)
        return self

    @property
    def family(self) -> int:
        """4 or 6: the address family of the groups and of the VTEP."""
        if self.segments:
            return self.segments[0].flood_group.version
        known = self.underlay.vtep or self.groups
        return known.version if known is not None else 4

    @cached_property
    def flood_groups(self) -> tuple[IPAddress, ...]:
        """Every group of the overlay once, in order."""
        return tuple(sorted({segment.flood_group for segment in self.segments}, key=int))

    def replace(self, **fields: object) -> Overlay:
        """Return a copy with these fields in place of its own, validated as a whole.

        ConfigurationError as for a new Overlay. None restores a field's default.

        >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"))
        >>> overlay.replace(membership="socket").membership
        'socket'
        """
        unknown = sorted(fields.keys() - type(self).model_fields.keys())
        if unknown:
            raise ConfigurationError("there is no such key", field=unknown[0])
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**cast("Any", kept | fields))

    def with_segment(self, segment: Segment) -> Overlay:
        """Return a copy with this segment added, or in place of the segment of the same VNI."""
        others = (other for other in self.segments if other.vni != segment.vni)
        return self.replace(segments=(*others, segment))

    def without(self, vni: int) -> Overlay:
        """Return a copy less the segment of a VNI. ConfigurationError if there is none."""
        if all(segment.vni != vni for segment in self.segments):
            raise ConfigurationError(f"there is no segment of VNI {vni}", field="vni")
        return self.replace(segments=tuple(one for one in self.segments if one.vni != vni))

    def warnings(self) -> list[str]:
        """What is allowed and yet worth a sentence: groups that share an Ethernet address."""
        return [
            f"{', '.join(map(str, members))} share the Ethernet address {mac}: "
            "a switch that snoops by it sends members of one the traffic of the others"
            for mac, members in groups.ethernet_aliases(self.flood_groups)
        ]


def _text_keys(data: Any) -> Any:
    """The same mapping with text for every key, as YAML does not make sure."""
    if isinstance(data, Mapping):
        return {str(key): _text_keys(value) for key, value in data.items()}
    return [_text_keys(value) for value in data] if isinstance(data, list) else data


def _refuse_twice(segments: Sequence[Segment]) -> None:
    for role in ("vni", "vlan"):
        seen: dict[int, int] = {}
        for index, segment in enumerate(segments):
            number = cast(int, getattr(segment, role))
            if number in seen:
                raise ConfigurationError(
                    f"{role.upper()} {number} is that of segments.{seen[number]} too",
                    field=f"segments.{index}.{role}",
                )
            seen[number] = index


def _resolve(index: int, segment: Segment, pool: IPNetwork | None) -> Segment:
    if segment.group is not None:
        return segment
    if pool is None:
        raise ConfigurationError(
            f"VNI {segment.vni} names no group, and there is no pool (groups) to take one from",
            field=f"segments.{index}.group",
        )
    try:
        group = groups.check_group(groups.group_of(segment.vni, pool))
    except ValueError as error:
        raise ConfigurationError(str(error), field=f"segments.{index}.group") from None
    return segment.model_copy(update={"group": group})


def _refuse_mixed_families(segments: Sequence[Segment], vtep: IPAddress | None) -> None:
    for index, segment in enumerate(segments):
        if segment.flood_group.version != segments[0].flood_group.version:
            raise ConfigurationError(
                f"{segment.flood_group} and {segments[0].flood_group} are of two address families: "
                "one overlay has one",
                field=f"segments.{index}.group",
            )
    if vtep is not None and segments and vtep.version != segments[0].flood_group.version:
        raise ConfigurationError(
            f"{vtep} is not of the groups' address family (IPv{segments[0].flood_group.version})",
            field="underlay.vtep",
        )
