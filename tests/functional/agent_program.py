"""What is run on a host for an agent: the command alone, which users without rights can import."""

from __future__ import annotations

from ovs_mcast.agent import command


def run(*_arguments: str) -> None:
    """The arguments of the command are those of the process."""
    command.main()
