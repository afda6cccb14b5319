"""Output of the commands: text reaches the reader as it is."""

from __future__ import annotations

import pytest

from ovs_mcast.cli.output import say, stdout_console
from ovs_mcast.lab.reachability import Pair, Reachability
from ovs_mcast.lab.table import print_table

MAC = "7a:f9:c2:f4:46:ab: a peer [dim]"  # rich has emojis :ab: and :cd:


def test_a_message_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say(MAC)
    assert capsys.readouterr().err == MAC + "\n"


def test_text_for_stdout_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    stdout_console(80).print(MAC)
    assert capsys.readouterr().out == MAC + "\n"


def test_a_group_in_the_table_of_the_lab_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = Pair(100, "w1", "w2", broadcast=True, duplicates=0, unicast=True, tries=1)
    print_table(Reachability((pair,), (), ()), {100: "ff05:ab::1"}, 1.0)
    assert "VNI 100, ff05:ab::1" in capsys.readouterr().out
