"""Findings: problems and warnings of one host. Frozen values.

Preflight yields what refuses an overlay before anything is touched, health yields what was seen
afterwards and is not as desired. `Status.problems` is the text of findings.

| code | severity | of | subject |
|---|---|---|---|
| method-unfit | error | preflight | the membership method |
| bridge-taken, port-taken | error | preflight | a bridge, a port |
| datapath-differs | error | preflight | a bridge |
| datapath-missing | error | preflight | the datapath: Open vSwitch does not have it here |
| vlan-taken | error | preflight | a VLAN that another overlay has on the same bridge |
| name-collides | error | preflight | another overlay |
| underlay-missing, underlay-unfit | error | preflight | the underlay device |
| udp-port-taken | error | preflight | a port or device |
| group-taken, route-taken | error | preflight | a group, a route |
| memberships-full | error | preflight | a sysctl |
| vtep-unusable | error | preflight | the underlay device |
| change-pending | error | health | the item that is missing or differs |
| port-failed | error | health | a port |
| underlay-down | error | health | the underlay device |
| send-path | error | health | a group: programs' datagrams do not reach the wire |
| tunnel-path | error | health | a group: the tunnels' packets do not leave by the underlay |
| address-tentative | error | health | an IPv6 address |
| not-a-member | error | health | a group |
| arp-answered | error | health | a NIC of the bridge that answers ARP for the VTEP beside it |
| peer-diverted | error | health | a port of others that takes some peers' packets |
| peer-unreachable | error | health | the VTEP: there is no route from it to some peers |
| peer-beyond-ttl | error | health | a gateway: peers behind it are beyond the TTL of the tunnels |
| bridge-drops | error | health | the bridge for workloads: its flows drop the overlay's frames |
| underlay-drops | error | health | the underlay's bridge: its flows drop the tunnels' packets |
| keeper-missing | error | health | the overlay |
| flows-missing | error | health | the overlay |
| mtu-workload | warning | health | the bridge for workloads: ports whose MTU does not fit |
| mtu-small | warning | health | the underlay device |
| reverse-path | warning | health | the underlay device: rp_filter drops what some peers send |
| packet-filter | warning | health | a rule or policy of nftables that drops the overlay's packets |
| fragments-lost | warning | health | the underlay device: fragments came, which no tunnel takes |
| udp-port-differs | warning | health | a UDP port on which peers send, not the overlay's |
| ethernet-shared | warning | health | groups that share an Ethernet address |
| vtep-duplicate | warning | health | the VTEP address: packets came from it |
| learned-full | warning | health | a segment that has learned as many MACs as it may |
| udp-port-shared | warning | health | a port or device of others on the overlay's UDP port |
| bridge-controlled | warning | health | the bridge for workloads: a controller decides alone |
| underlay-drops-some | warning | health | the same, of some of its ports alone |
| source-impossible | warning | health | the underlay device: packets came from no host |
| peer-unknown | warning | health | the underlay device: packets came from others than the peers |
| inner-tags | warning | health | tags within a segment: frames were dropped, or a port sends them |
| workloads-send-vxlan | warning | health | the bridge for workloads: the guard dropped packets |
| guard-off | warning | health | the bridge for workloads: through it they reach the VTEP |
| loop-possible | warning | health | a bridge: broadcasts of the overlay leave by its tunnels |
| port-unserved | warning | health | a port of others on the tunnel bridge |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigurationError, Reason, UnavailableError

Severity = Literal["error", "warning"]


_LISTED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem or warning: a stable code, its subject, the evidence, the cure.

    ``evidence`` and ``cure`` are text for people; ``cure`` is empty where `setup` itself is the
    cure, or where the evidence names it. ``field`` is the key of the configuration that must
    change, in preflight's findings alone; ``reason`` is set instead where the host must.
    ``vnis`` are the segments that it concerns; empty where that is the overlay as a whole.
    """

    code: str
    severity: Severity
    subject: str
    evidence: str
    cure: str = ""
    field: str = ""
    reason: Reason | None = None
    vnis: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.evidence}: {self.cure}" if self.cure else self.evidence

    def refusal(self) -> ConfigurationError | UnavailableError:
        """Return the error that refuses the overlay for this finding: as it is, or for now."""
        if self.reason is not None:
            device = self.subject if self.reason == "device" else ""
            return UnavailableError(str(self), reason=self.reason, device=device)
        return ConfigurationError(str(self), field=self.field)


def error(
    code: str,
    subject: str,
    evidence: str,
    cure: str = "",
    *,
    field: str = "",
    reason: Reason | None = None,
    vnis: tuple[int, ...] = (),
) -> Finding:
    """Return a finding that refuses an overlay, or that makes it unhealthy."""
    return Finding(code, "error", subject, evidence, cure, field, reason, vnis)


def warning(code: str, subject: str, evidence: str, cure: str = "") -> Finding:
    """Return a finding that is worth a sentence and leaves the overlay healthy."""
    return Finding(code, "warning", subject, evidence, cure)


def listed(names: Iterable[str]) -> str:
    """Return names as text for a finding: all, or the first five and an ellipsis."""
    given = list(names)
    return ", ".join(given[:_LISTED]) + (", …" if len(given) > _LISTED else "")


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that make an overlay unhealthy."""
    return [finding for finding in findings if finding.severity == "error"]
