"""The real Host in the namespaces of a host of the lab, driven line by line."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack

import ovs_mcast as om
from ovs_mcast.adapters.vswitchd import run_directory
from ovs_mcast.membership.keeper import Keeper

from .steps import Outcome, carry_out


def kill_keeper(overlay: str) -> Outcome:
    """Kill -9 the process that holds the overlay's groups, if one does, and see it gone."""
    keeper = Keeper(run_directory(), overlay)
    while found := keeper.query():
        os.kill(found.pid, signal.SIGKILL)
    return Outcome()


def main() -> None:
    """Steps as JSON on standard input, how they ended on standard output."""
    with ExitStack() as opened:
        hosts: dict[str, om.Host] = {}
        for line in sys.stdin:
            verb, wanted = json.loads(line)
            if verb == "kill-keeper":
                outcome = kill_keeper(wanted)
            else:
                _, which, own = verb.rpartition("other ")
                if which not in hosts:
                    hosts[which] = opened.enter_context(om.connect())
                outcome = carry_out(hosts[which], own, wanted)
            print(outcome.to_json(), flush=True)


if __name__ == "__main__":
    main()
