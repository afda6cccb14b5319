"""Fixture: the overlay on an IPv6 underlay, shared by tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_mcast.lab import Kind, Lab
from tests.functional.ipv6_lab import Six
from tests.functional.warm import Warm
from tests.functional.wire import lab_scope


@pytest.fixture(scope=lab_scope)
def six(kind: Kind, warm: Warm) -> Iterator[Six]:
    """The overlay that the tests share."""
    with Lab(kind=kind, family=6) as lab:
        yield Six(lab, warm)
