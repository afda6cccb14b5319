"""The documents that the commands print with `--json`, as types. JSON Schemas are built from them.

Every `to_json` returns one of these. Readers accept more keys: later versions may add some.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


def _one_of(*values: str) -> object:
    return Field(json_schema_extra={"enum": [*values]})


Who = Literal["kernel", "keeper", "agent", "hold", "nobody"]
# Plain strings in the code that makes them; a document lists the possible values.
MethodName = Annotated[str, _one_of("autojoin", "socket")]
JoinedBy = Annotated[str, _one_of("autojoin", "repaired", "peer", "socket", "none")]
SendPathName = Annotated[str, _one_of("wire", "loopback", "none")]
DatapathName = Annotated[str, _one_of("system", "netdev")]
ActionName = Annotated[str, _one_of("add", "update", "remove")]
KindName = Annotated[str, _one_of("bridge", "port", "address", "route", "flow", "membership")]


class ChangeDocument(TypedDict):
    """One change, planned or made."""

    action: ActionName
    kind: KindName
    target: str
    reason: str


class DecisionDocument(TypedDict):
    """The membership method that `auto` chose, and the evidence."""

    method: MethodName
    underlay: str
    evidence: str


class SegmentDocument(TypedDict):
    """How one segment is carried; ``send_path`` is that of an ordinary program's datagram."""

    vlan: int
    group: str
    joined_by: JoinedBy
    send_path: SendPathName


class SetupDocument(TypedDict):
    """`setup --json`. ``segments`` are by VNI; ``problems`` has faults, then warnings."""

    overlay: str
    changed: bool
    changes: list[ChangeDocument]
    verified: bool
    segments: dict[str, SegmentDocument]
    problems: list[str]
    decision: DecisionDocument | None


class DesiredSegmentDocument(TypedDict):
    """One segment as it is desired."""

    vlan: int
    group: str


class SegmentsDocument(TypedDict):
    """`segment list --json`: the desired segments of an overlay, by VNI."""

    overlay: str
    segments: dict[str, DesiredSegmentDocument]


class CountDocument(TypedDict):
    """Frames as workloads send them, since ovs-vswitchd last made the flow, and their bytes."""

    packets: int
    bytes: int


class HolderDocument(TypedDict):
    """Who holds the memberships; ``pid`` is null unless it is a process."""

    who: Who
    pid: int | None


class SegmentDetailDocument(TypedDict):
    """One segment in place. ``peers`` are the MACs learned, by VTEP.

    ``unicast_sent`` counts frames to the MACs that are known now.
    """

    vlan: int
    group: str
    joined_by: JoinedBy
    send_path: SendPathName
    learned: int
    peers: dict[str, list[str]]
    bum_sent: CountDocument
    bum_received: CountDocument
    unicast_sent: CountDocument
    unicast_received: CountDocument


class OverlayDocument(TypedDict):
    """One overlay in place. A value that can no longer be recovered from its marks is null."""

    overlay: str
    healthy: bool
    underlay: str | None
    vtep: str | None
    datapath: DatapathName | None
    bridge: str | None
    tunnel_bridge: str | None
    held_by: HolderDocument
    segments: dict[str, SegmentDetailDocument]
    problems: list[str]


class StatusDocument(TypedDict):
    """`status --json`; with --watch one per line."""

    overlays: list[OverlayDocument]


class RouteDocument(TypedDict):
    """The device by which a datagram leaves, and its source address."""

    device: str | None
    source: str | None


class EvidenceDocument(TypedDict):
    """Datagrams captured per device, of one sent; the error of sendto; the route taken."""

    packets: dict[str, int]
    error: str | None
    route_taken: str | None
    tentative: list[str]


class PathDocument(TypedDict):
    """`probe path --json`."""

    group: str
    device: str
    verdict: SendPathName
    route: RouteDocument
    tunnel_route: RouteDocument
    cause: str
    cure: str
    evidence: EvidenceDocument


class RoundTripDocument(TypedDict):
    """Milliseconds from question to answer."""

    min: float
    avg: float
    max: float


class DeliveryDocument(TypedDict):
    """Outcome of the questions to one host, sent either to the group or by unicast."""

    received: int
    lost: int
    lost_after_first: int
    duplicates: int
    out_of_order: int
    rtt_ms: RoundTripDocument | None
    ttl_distance: int | None


class UnicastDocument(DeliveryDocument):
    """Outcome of the questions sent to one host by unicast."""

    sent: int


class ResponderDocument(DeliveryDocument):
    """One host: its answers to the group, its answers to unicast, and the conclusion."""

    lost_there: int | None
    lost_back: int | None
    withheld: int
    joined: bool | None
    refused: str | None
    unicast: UnicastDocument
    conclusion: str


class SendDocument(TypedDict):
    """`probe send --json`. ``sent`` counts questions to the group, ``ttl`` is theirs."""

    group: str
    device: str
    source: str
    sender: Literal["raw", "socket"]
    sent: int
    ttl: int
    responders: dict[str, ResponderDocument]
    expected: list[str]
    missing: list[str]
    problems: list[str]


class PairDocument(TypedDict):
    """Broadcasts of one workload as received by another; ``unicast``: the answer came back."""

    vni: int
    sender: str
    receiver: str
    broadcast: bool
    duplicates: int
    unicast: bool
    tries: int


class StrayDocument(TypedDict):
    """Frames received in another segment, or back at their sender."""

    sender: str
    vni: int
    heard_by: str
    heard_in: int


class ReachabilityDocument(TypedDict):
    """Every pair of each segment, by VNI, and all leaks and echoes."""

    ok: bool
    segments: dict[str, list[PairDocument]]
    leaks: list[StrayDocument]
    echoes: list[StrayDocument]


class LabDocument(ReachabilityDocument):
    """`lab --json`. ``hosts`` are the reports of `setup` on each."""

    groups: dict[str, str]
    hosts: dict[str, SetupDocument]
    seconds: float
