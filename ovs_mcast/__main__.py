"""All commands under one name: `ovs-mcast`, also `python -m ovs_mcast`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .agent.command import agent
from .cli import app as cli
from .lab.command import lab
from .lab.command import schema as lab_schema
from .probe.command import application as probe
from .segment.command import application as segment
from .setup.command import setup
from .status.command import schema as status_schema
from .status.command import status

if TYPE_CHECKING:
    import typer


def application() -> typer.Typer:
    """Return the application with every command, and shell completion."""
    app = cli.application("Open vSwitch VXLAN overlays over IP multicast.", completion=True)
    cli.add_command(app, setup)
    cli.add_command(app, agent)
    cli.add_command(app, status, schema=status_schema)
    cli.add_command(app, lab, schema=lab_schema)
    app.add_typer(segment(), name="segment")
    app.add_typer(probe(), name="probe")
    return app


def main() -> None:
    """Run `ovs-mcast COMMAND …`."""
    application()(prog_name="ovs-mcast")


if __name__ == "__main__":
    main()
