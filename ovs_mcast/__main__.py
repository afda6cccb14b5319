"""The console script `ovs-mcast`: the commands as subcommands."""

from __future__ import annotations

from .agent.command import agent
from .cli import app as app_module
from .lab.command import lab
from .probe.command import application as probe
from .setup.command import setup
from .status.command import status


def main() -> None:
    """Run `ovs-mcast COMMAND …`."""
    app = app_module.application("Open vSwitch VXLAN overlays over IP multicast.")
    app.command()(setup)
    app.command()(agent)
    app.command()(status)
    app.command()(lab)
    app.add_typer(probe(), name="probe")
    app(prog_name="ovs-mcast")


if __name__ == "__main__":
    main()
