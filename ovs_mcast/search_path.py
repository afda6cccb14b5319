"""The module search path of `python -m ovs_mcast.NAME`: without the current directory.

Python puts it first, so that another user's file there, of the name of any module, would run as
root. What Python itself imports before us is beyond our reach: `python -P` and the command
`ovs-mcast` leave the directory out from the start.
"""

from __future__ import annotations

import os
import sys


def leave_out_current_directory() -> None:
    """Do so in a run of ours by `-m`, unless the package itself is there. Else change nothing."""
    if sys.flags.safe_path or not _runs_us(sys.orig_argv):
        return
    here, package = os.getcwd(), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path and sys.path[0] in {"", here} and os.path.realpath(here) != package:
        del sys.path[0]


def _runs_us(words: list[str]) -> bool:
    """Return whether these words run a module of ours."""
    for number, word in enumerate(words[1:], 1):
        if word.startswith("-m"):
            module = word[2:] or "".join(words[number + 1 : number + 2])
            return module.partition(".")[0] == "ovs_mcast"
        if not word.startswith("-"):
            return False
    return False


leave_out_current_directory()
