"""Whether a broadcast of the overlay leaves this host a second time, by another tunnel. Pure.

Where two hosts do that, each sends on what it hears from the other: a loop, and with the first
broadcast a storm. Two overlays with one VLAN on one bridge are refused. Other ways, such as patch
ports of an operator or a mesh of tunnels on the same bridge, may be meant, on one host: Open
vSwitch is asked (ofproto/trace) what it does with a broadcast that came from the overlay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from . import overlay_notes, ownership
from .findings import Finding, error, listed, warning
from .flow_trace import Trace
from .items import Bridge, Port
from .model import Overlay, Segment
from .observed import InnerSample
from .target import Target

_MOST = 32  # traces of one look
_TUNNELS = frozenset(
    ("vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "lisp", "stt", "gtpu", "srv6")
)
_CARRY_ON = _TUNNELS | {"patch"}


def refusals(
    overlay: Overlay, segments: Iterable[Segment], bridges: Mapping[str, Bridge]
) -> Iterator[Finding]:
    """Yield segments whose VLAN is another overlay's on the same bridge.

    Known from the notes of their tunnel bridges, in place or not.
    """
    for tunnel in sorted(bridges.values(), key=lambda bridge: bridge.name):
        if (
            tunnel.owner in {None, overlay.name}
            or overlay_notes.bridge(tunnel.notes) != overlay.bridge
        ):
            continue
        taken = overlay_notes.vlans(tunnel.notes)
        for index, segment in enumerate(segments):
            if segment.vlan in taken:
                yield error(
                    "vlan-taken", str(segment.vlan),
                    f"VLAN {segment.vlan} on {overlay.bridge} is VNI {taken[segment.vlan]} of "
                    f"overlay {tunnel.owner}: broadcasts would circle between the two",
                    "choose another VLAN, or another bridge", field=f"segments.{index}.vlan",
                )  # fmt: skip


def samples(target: Target) -> Iterator[InnerSample]:
    """Yield the broadcasts to trace, where ports of others may carry them on: of 32 VLANs."""
    patch = target.observed.ports.get(ownership.port_names(target.overlay.name).patch_tun)
    if patch is None or (patch.ofport or 0) < 1 or not any(_others(target)):
        return
    for segment in target.overlay.segments[:_MOST]:
        yield InnerSample(patch.name, patch.ofport or 0, segment.vlan, tagged=True)


def warnings(target: Target, traces: Mapping[InnerSample, str]) -> Iterator[Finding]:
    """Yield the bridges by whose tunnels what comes from the overlay leaves again."""
    found: dict[str, list[int]] = {}
    for sample, printed in traces.items():
        if sample.tagged and sample.carries == "broadcasts":
            for bridge in Trace.read(printed).tunnelled:
                found.setdefault(bridge, []).append(sample.vlan)
    for bridge, vlans in found.items():
        others = [port.name for port in _others(target) if port.type in _TUNNELS]
        by = f"by {listed(others)}" if bridge == target.overlay.bridge else f"by {bridge}"
        yield warning(
            "loop-possible", bridge,
            f"broadcasts from the overlay in VLAN {listed(map(str, sorted(vlans)))} leave "
            f"this host again {by}: where a second host does so too, they circle without end",
            "let one host at most join the two",
        )  # fmt: skip


def _others(target: Target) -> Iterator[Port]:
    """Yield the ports of the bridge, not ours, by which a frame may come to another tunnel."""
    for _, port in sorted(target.observed.ports.items()):
        of_others = port.owner != target.overlay.name
        if of_others and port.bridge == target.overlay.bridge and port.type in _CARRY_ON:
            yield port
