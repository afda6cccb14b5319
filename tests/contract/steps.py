"""One step of a Host, and all observable results of it, as JSON.

The same code runs on a FakeHost in this process, and on the real Host in a host of the lab.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from netaddr import IPAddress

import ovs_mcast as om
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Address, Flow, Port
from ovs_mcast.core.model import Overlay
from ovs_mcast.errors import OvsMcastError
from ovs_mcast.host import observe

Told = dict[str, Any]
Configuration = Mapping[str, Any]
Wanted = Configuration | str | int


@dataclass(frozen=True)
class Outcome:
    """How a step ended: its changes, its status, its error; and the machine as it is then."""

    changes: list[str] = field(default_factory=list)
    status: Told = field(default_factory=dict)
    error: Told = field(default_factory=dict)
    machine: Told = field(default_factory=dict)
    words: str = ""  # of the error: what refused has its own

    @property
    def exit_status(self) -> int:
        """That of the command."""
        return int(self.error.get("exit_status", 0))

    @property
    def kinds(self) -> list[str]:
        """The first two words of each change."""
        return [" ".join(change.split()[:2]) for change in self.changes]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), default=str)


def carry_out(host: om.Host, verb: str, wanted: Wanted) -> Outcome:
    """Carry out ``verb`` with an overlay, a name, a segment or a VNI; return any outcome."""
    changes: list[str] = []
    status: Told = {}
    error: Told = {}
    words = ""
    try:
        done = _VERBS[verb](host, _value(wanted))
        if isinstance(done, om.Status):
            status = done.to_json() | {"changes": _in_order(done.changes)}
            done = done.changes
        if isinstance(done, Overlay):
            status, done = done.model_dump(mode="json"), []
        changes = _in_order(done)
    except OvsMcastError as raised:
        error, words = _error(raised), str(raised)
    machine = _machine(host, wanted) if error.get("type") != "UnavailableError" else {}
    told = Outcome(changes, status, error, machine, words)
    return Outcome(**json.loads(told.to_json()))


def _value(wanted: Wanted) -> Overlay | om.Segment | str | int:
    if isinstance(wanted, str | int):
        return wanted
    return Overlay.from_mapping(wanted) if "underlay" in wanted else om.Segment(**wanted)


def _plan(host: om.Host, overlay: Overlay) -> list[Change]:
    return list(host.plan(overlay))


def _plan_teardown(host: om.Host, name: str) -> list[Change]:
    return list(host.plan_teardown(name))


_VERBS: Mapping[str, Callable[[om.Host, Any], Any]] = {
    "plan": _plan,
    "verify": om.Host.verify,
    "reconcile": om.Host.reconcile,
    "teardown": om.Host.teardown,
    "plan_teardown": _plan_teardown,
    "overlay": om.Host.overlay,
    "add": om.Host.add,
    "remove": om.Host.remove,
}


def _error(raised: OvsMcastError) -> Told:
    """Return what a caller can see of an error, without the words of the refusing machine."""
    told: Told = {"type": type(raised).__name__, "exit_status": raised.exit_status}
    if isinstance(raised, om.ConfigurationError):
        told |= {"field": raised.field, "reason": raised.reason}
    if isinstance(raised, om.UnavailableError):
        told |= {"reason": raised.reason, "device": raised.device}
    if isinstance(raised, om.ApplyError):
        told |= {name: _in_order(getattr(raised, name)) for name in ("done", "failed", "pending")}
    if isinstance(raised, om.VerifyError) and isinstance(raised.status, om.Status):
        told["status"] = raised.status.to_json() | {"changes": _in_order(raised.status.changes)}
    return told


def _in_order(changes: Iterable[Change]) -> list[str]:
    """One line each. What goes out of one table goes in the order in which it was listed."""
    runs = groupby(changes, key=lambda change: (change.action, change.kind))
    return [
        line
        for (action, _kind), run in runs
        for line in (sorted(map(str, run)) if action == "remove" else map(str, run))
    ]


def _machine(host: om.Host, wanted: Wanted) -> Told:
    """The machine as a Host sees it, less what no two machines have alike."""
    name = wanted if isinstance(wanted, str) else "default"
    seen = observe.observe(host.backend, name)
    addresses = [item for item in seen.addresses if not _is_noise(item)]
    devices = sorted({item.device for item in addresses})
    groups = {device: sorted(filter(_is_routed, host.backend.joined(device))) for device in devices}
    known = sorted({IPAddress(group) for there in groups.values() for group in there})
    return {
        "bridges": _shown(seen.bridges.values()),
        "ports": sorted(_port(port) for port in seen.ports.values()),
        "flows": sorted(_flow(flow) for flow in seen.flows),
        "addresses": _shown(addresses),
        "routes": _shown(seen.routes),
        "up": {device: seen.links[device].up for device in devices},
        "limits": str(seen.limits),
        "held": str(seen.held),
        "decision": str(seen.decision),
        "joined": groups,
        "sends": {str(g): way.device for g, way in host.backend.netlink.look_up(known).items()},
    }


def _shown(items: Any) -> list[str]:
    return sorted(map(str, items))


def _port(port: Port) -> str:
    """An OpenFlow port that nobody asked for is any.

    Whether a patch port without a peer says so depends on when ovs-vswitchd looked.
    """
    ofport, error = port.ofport, port.error and port.type != "patch"
    if port.ofport_request is None and ofport is not None and ofport > 0:
        ofport = 0
    steady = replace(port, ofport=ofport, error=None, mtu=None)
    return f"{steady}{' refused' if error else ''}"


def _flow(flow: Flow) -> str:
    return (
        f"{flow.bridge} {flow.table} {flow.priority} {flow.match} {flow.actions} {flow.cookie:#x}"
    )


def _is_noise(item: Address) -> bool:
    return item.device == "lo" or item.address.startswith("fe80:")


def _is_routed(group: str) -> bool:
    """Not 224.0.0.1 and the like, which the kernel joins for itself."""
    return not group.startswith(("224.0.0.", "ff01:", "ff02:"))
