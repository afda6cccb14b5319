"""Which tests run in one process, when pytest has several (-n)."""

from __future__ import annotations


def scope(nodeid: str) -> str:
    """Tests of one scope stay together: a module and its labs, or a virtual machine's tests.

    A campaign is long, and shares nothing with others: in the kernel tier it has a machine of its
    own.
    """
    if "test_campaign" in nodeid:
        return nodeid
    module = nodeid.partition("::")[0]
    return "tests/kernel" if module.startswith("tests/kernel/") else module
