"""The console script `ovs-mcast`: the commands as subcommands."""

from __future__ import annotations

from . import report
from .agent.command import agent
from .lab.command import lab
from .overview import status
from .probe.command import application as probe
from .setup import setup


def main() -> None:
    """Run `ovs-mcast COMMAND …`."""
    app = report.application("Open vSwitch VXLAN overlays over IP multicast.")
    app.command()(setup)
    app.command()(agent)
    app.command()(status)
    app.command()(lab)
    app.add_typer(probe(), name="probe")
    app(prog_name="ovs-mcast")
