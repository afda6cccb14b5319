"""Flows of a bridge: dump those under a cookie, change them in one atomic bundle (ovs-ofctl)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.changes import Change
from ..core.items import BUNDLES, Bridge, Flow
from ..errors import UnavailableError

_PATIENCE = 60.0  # seconds that one dump or bundle may take
_NO_BRIDGE = "is not a bridge or a socket"  # of its run directory (ovs-ofctl(8))


class OpenFlowError(Exception):
    """A bundle was refused as a whole: nothing of it is in place."""


class NoBridgeError(OpenFlowError):
    """ovs-vswitchd has no bridge of this name: it does not run, or could not make it."""


class OpenFlow:
    """ovs-ofctl against the management sockets of one Open vSwitch. Every call is one process."""

    def __init__(self, rundir: Path) -> None:
        self._environment = os.environ | {"OVS_RUNDIR": str(rundir), "LC_ALL": "C"}

    def dump(self, bridge: Bridge, cookie: int, mask: int, match: str = "") -> list[str]:
        """Return the flows whose cookie matches, one line each, in table order.

        ``match`` selects further: fields that the flows match, such as arp,arp_tpa=239.0.0.1.
        """
        which = f"cookie={cookie:#x}/{mask:#x}{',' if match else ''}{match}"
        printed = self._run(
            bridge.name, version_of(bridge), "dump-flows", "--no-stats", bridge.name, which
        )
        return [line for line in printed.splitlines() if " actions=" in line]

    def dump_counted(self, bridge: Bridge, cookie: int, mask: int, patience: int = 60) -> list[str]:
        """Return the same with statistics; OpenFlowError after ``patience`` seconds."""
        return self._counted(bridge.name, version_of(bridge), cookie, mask, patience)

    def dump_counted_by_name(self, name: str, cookie: int, mask: int, patience: int) -> list[str]:
        """Return the same without the bridge's row: ovs-ofctl finds the version to speak."""
        return self._counted(name, ",".join(BUNDLES), cookie, mask, patience)

    def _counted(self, name: str, version: str, cookie: int, mask: int, patience: int) -> list[str]:
        which = f"cookie={cookie:#x}/{mask:#x}"
        printed = self._run(name, version, f"--timeout={patience}", "dump-flows", name, which)
        return [line for line in printed.splitlines() if " actions=" in line]

    def apply(self, bridge: Bridge, changes: Sequence[Change]) -> None:
        """Remove, then add, all or nothing; a new flow replaces the one with its match."""
        lines = [_line(change) for change in changes]
        self._run(
            bridge.name, version_of(bridge), "--bundle", "add-flows", bridge.name, "-", lines=lines
        )

    def _run(self, name: str, version: str, *arguments: str, lines: Iterable[str] = ()) -> str:
        command = ["ovs-ofctl", "-O", version, *arguments]
        try:
            done = subprocess.run(
                command,
                input="\n".join(lines),
                capture_output=True,
                text=True,
                check=False,
                env=self._environment,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"ovs-vswitchd does not answer ovs-ofctl {arguments[0]} of {name} in "
                f"{_PATIENCE:.0f} s",
                reason="vswitchd",
            ) from None
        except FileNotFoundError:
            raise UnavailableError("there is no ovs-ofctl: install openvswitch-switch") from None
        if done.returncode:
            reason = done.stderr.strip().splitlines()
            kind = NoBridgeError if reason and _NO_BRIDGE in reason[0] else OpenFlowError
            raise kind(f"{name}: {reason[0] if reason else 'ovs-ofctl failed'}")
        return done.stdout


def version_of(bridge: Bridge) -> str:
    """Return the version to speak. UnavailableError if the bridge speaks none with bundles."""
    if bridge.openflow:
        return bridge.openflow
    raise UnavailableError(
        f"bridge {bridge.name} speaks {', '.join(bridge.protocols)} only: "
        f"`ovs-vsctl add bridge {bridge.name} protocols OpenFlow14`"
    )


def _line(change: Change) -> str:
    flow = change.item
    if not isinstance(flow, Flow):
        raise TypeError(f"{flow.kind} is not a flow")
    match = f",{flow.match}" if flow.match else ""
    where = f"table={flow.table},priority={flow.priority}{match}"
    if change.action == "remove":
        return f"delete_strict cookie={flow.cookie:#x}/-1,{where}"
    return f"add cookie={flow.cookie:#x},{where},actions={flow.actions}"
