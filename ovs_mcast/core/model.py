"""The desired overlays, validated once when made. Frozen values; no I/O.

Every refusal is a ConfigurationError that names the field in the words of the configuration file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from netaddr import IPAddress, IPNetwork
from pydantic import BaseModel, Field, PrivateAttr, StrictBool, StrictInt, model_validator

from . import groups
from .errors import ConfigurationError
from .fields import (
    VLAN_MAX,
    VNI_MAX,
    VXLAN_UDP_PORT,
    Datapath,
    DeviceName,
    Group,
    InnerVlan,
    Method,
    OverlayName,
    Peer,
    Pool,
    Tos,
    Value,
    Vlan,
    Vni,
    Vtep,
)


class Segment(Value):
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
        """The group of the segment's BUM frames; known once the segment is in an Overlay."""
        if self.group is None:
            raise ConfigurationError(
                f"VNI {self.vni} has no group: it names none and there is no pool", field="group"
            )
        return self.group


class Underlay(Value):
    """The device that carries the tunnels, and the outer source, UDP port and TTL.

    ``device`` with the userspace datapath is the bridge that holds the NIC, or an internal port of
    it. ``vtep`` left out is the device's first address of the groups' family. ``ttl`` is the outer
    TTL or hop limit.

    Further ones of the outer packets, where None leaves Open vSwitch's default, or what an operator
    has set on the port: ``tos`` 0..252 without ECN, or `inherit`, the inner packet's (RFC 6040);
    ``df``, whether routers may not fragment them (default: True); ``checksum``, whether UDP has one
    (default: with IPv6 alone); ``mark``, the fwmark that routing and packet filters of the kernel
    see.

    >>> om.Underlay(device="eth0", vtep="10.0.0.1").udp_port
    4789
    """

    device: DeviceName
    vtep: Vtep | None = None
    udp_port: Annotated[StrictInt, Field(ge=1, le=65535)] = VXLAN_UDP_PORT
    ttl: Annotated[StrictInt, Field(ge=1, le=255)] = 64
    tos: Tos | None = None
    df: StrictBool | None = None
    checksum: StrictBool | None = None
    mark: Annotated[StrictInt, Field(ge=1, le=0xFFFFFFFF)] | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            device: str,
            vtep: str | IPAddress | None = None,
            udp_port: int | None = None,
            ttl: int | None = None,
            tos: int | str | None = None,
            df: bool | None = None,
            checksum: bool | None = None,
            mark: int | None = None,
        ) -> None: ...


class Overlay(Value):
    """One overlay as it is desired on a host.

    ``segments`` are kept with their groups resolved, ordered by VNI. ``aging`` is in seconds, after
    the last frame from a MAC (300 like the Linux vxlan device); ``learned_limit`` is the number of
    MACs learned per segment, beyond which frames to new ones are flooded: Open vSwitch counts them
    all for each new one. ``guard`` drops workloads' own VXLAN packets to this host on the bridge:
    where they reach an address of the host, they would cross into every segment. ``inner_vlan`` is
    what becomes of a frame with a VLAN tag within its segment: `drop` (RFC 7348, 6.1) or `keep`.
    ``peers`` are VTEPs and prefixes; with ``only_peers`` packets of all others are dropped.

    >>> overlay = om.Overlay(underlay=om.Underlay(device="eth0"), groups="239.1.0.0/20",
    ...                      segments=[om.Segment(vni=5050, vlan=10), om.Segment(vni=100)])
    >>> [(one.vni, one.vlan, str(one.group)) for one in overlay.segments]
    [(100, 100, '239.1.0.100'), (5050, 10, '239.1.3.186')]
    """

    name: OverlayName = "default"
    bridge: DeviceName = "br-int"
    tunnel_bridge: DeviceName = "br-mcast"
    datapath: Datapath = "system"
    membership: Method = "auto"
    underlay: Underlay
    groups: Pool | None = None
    segments: tuple[Segment, ...] = ()
    aging: Annotated[StrictInt, Field(ge=1, le=65535)] = 300
    learned_limit: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1024
    guard: StrictBool = True
    inner_vlan: InnerVlan = "drop"
    peers: tuple[Peer, ...] = ()
    only_peers: StrictBool = False
    _flood_groups: tuple[IPAddress, ...] = PrivateAttr(())

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
            guard: bool | None = None,
            inner_vlan: str | None = None,
            peers: Iterable[str | IPNetwork] = (),
            only_peers: bool | None = None,
        ) -> None: ...

    @classmethod
    def from_mapping(cls, data: object) -> Overlay:
        """Return the overlay of a parsed configuration file; else ConfigurationError."""
        if not isinstance(data, Mapping):
            raise ConfigurationError("the configuration is not a mapping of names to values")
        try:
            return cls(**_text_keys(data))
        except RecursionError:
            raise ConfigurationError("the configuration contains itself") from None

    @model_validator(mode="before")
    @classmethod
    def _few_segments(cls, data: Any) -> Any:
        """Refuse, before each is looked at, more than there are VLANs."""
        segments = data.get("segments") if isinstance(data, Mapping) else None
        if isinstance(segments, list | tuple) and len(segments) > VLAN_MAX:
            raise ConfigurationError(
                f"{len(segments):,} segments are more than there are VLANs, {VLAN_MAX:,}",
                field="segments",
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Overlay:
        if self.bridge == self.tunnel_bridge:
            raise ConfigurationError(f"{self.bridge} is the bridge too", field="tunnel_bridge")
        for role in ("bridge", "tunnel_bridge"):
            if getattr(self, role) == self.underlay.device:
                raise ConfigurationError(
                    f"{self.underlay.device} is the underlay device", field=role
                )
        if self.underlay.mark is not None and self.datapath == "netdev":
            # Open vSwitch looks its own routes up with the mark (lib/ovs-router.c).
            raise ConfigurationError(
                "the userspace datapath has no route for packets with a mark, and sends none",
                field="underlay.mark",
            )
        if self.peers and "only_peers" not in self.model_fields_set:
            raise ConfigurationError(
                "say whether only these peers are heard: only_peers, true or false", field="peers"
            )
        if self.only_peers and not self.peers:
            raise ConfigurationError(
                "there are no peers: nobody would be heard", field="only_peers"
            )
        _refuse_twice(self.segments)
        resolved = tuple(
            _resolve(index, segment, self.groups) for index, segment in enumerate(self.segments)
        )
        _refuse_mixed_families(resolved, self.underlay.vtep)
        _refuse_other_peers(self.peers, resolved)
        ordered = tuple(sorted(resolved, key=lambda segment: segment.vni))
        object.__setattr__(self, "segments", ordered)
        self._flood_groups = tuple(sorted({one.flood_group for one in ordered}, key=int))
        return self

    @property
    def family(self) -> int:
        """The address family of the groups and of the VTEP: 4 or 6."""
        if self.segments:
            return self.segments[0].flood_group.version
        known = self.underlay.vtep or self.groups
        return known.version if known is not None else 4

    @property
    def flood_groups(self) -> tuple[IPAddress, ...]:
        """Every group of the overlay once, in order."""
        return self._flood_groups

    def with_segment(self, segment: Segment) -> Overlay:
        """Return a copy with this segment added, or in place of the segment of the same VNI."""
        others = (other for other in self.segments if other.vni != segment.vni)
        return self.replace(segments=(*others, segment))

    def without(self, vni: int) -> Overlay:
        """Return a copy without the segment of a VNI. ConfigurationError if it is missing."""
        if all(segment.vni != vni for segment in self.segments):
            raise ConfigurationError(f"there is no segment of VNI {vni}", field="vni")
        return self.replace(segments=tuple(one for one in self.segments if one.vni != vni))

    def warnings(self) -> list[str]:
        """Return a sentence for each set of groups that share an Ethernet address."""
        return [sentence for _groups, sentence in groups.shared_ethernet(self.flood_groups)]


def _text_keys(data: Any) -> Any:
    """Return the same mapping with text for every key: YAML has keys of other types too."""
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
    return BaseModel.model_copy(segment, update={"group": group})  # validated just above


def _refuse_other_peers(peers: Sequence[IPNetwork], segments: Sequence[Segment]) -> None:
    for index, peer in enumerate(peers):
        if segments and peer.version != segments[0].flood_group.version:
            raise ConfigurationError(
                f"{peer} is not of the groups' address family", field=f"peers.{index}"
            )


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
