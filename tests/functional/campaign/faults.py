"""The faults: what happens to hosts, each by the tools of an operator, or by kill -9."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random

from tests.functional.campaign.daemon_faults import daemon_faults
from tests.functional.campaign.fault import Fault
from tests.functional.campaign.flow_faults import flow_faults
from tests.functional.campaign.kernel_faults import kernel_faults
from tests.functional.campaign.row_faults import row_faults
from tests.functional.campaign.site import ScriptError, Site


def two_at_once(first: Fault, second: Fault) -> Fault:
    """Two faults, one right after the other, which may find nothing left to damage."""

    def strike(site: Site, rng: Random) -> None:
        first.strike(site, rng)
        with suppress(ScriptError):
            second.strike(site, rng)

    def on(site: Site) -> bool:
        return first.on(site) and second.on(site)

    return Fault(f"two at once: {first}, {second}", strike, on, visible=False)


def killed_meanwhile(fault: Fault) -> Fault:
    """Return the fault, with its repairer killed during the repair."""
    return replace(fault, name=f"killed while repairing: {fault}", visible=False, kills=True)


CATALOGUE: tuple[Fault, ...] = (*flow_faults(), *row_faults(), *kernel_faults(), *daemon_faults())
