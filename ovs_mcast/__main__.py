"""The console script `ovs-mcast`: the commands as subcommands."""

from __future__ import annotations

from .agent.command import agent
from .cli.app import add_command, application
from .lab.command import lab
from .lab.command import schema as lab_schema
from .probe.command import application as probe
from .setup.command import setup
from .status.command import schema as status_schema
from .status.command import status


def main() -> None:
    """Run `ovs-mcast COMMAND …`."""
    app = application("Open vSwitch VXLAN overlays over IP multicast.", completion=True)
    add_command(app, setup)
    add_command(app, agent)
    add_command(app, status, schema=status_schema)
    add_command(app, lab, schema=lab_schema)
    app.add_typer(probe(), name="probe")
    app(prog_name="ovs-mcast")


if __name__ == "__main__":
    main()
