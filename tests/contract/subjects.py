"""The subjects of the contract: a FakeHost, and a FakeHost next to a real host of the lab.

Each step is carried out on both, and whatever can be told of them must be the same.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from ovs_mcast import Host
from ovs_mcast.core import ownership
from ovs_mcast.core.closeable import Closeable
from ovs_mcast.core.fields import Datapath
from ovs_mcast.core.observed import Limits
from ovs_mcast.lab import Host as LabHost
from ovs_mcast.testing import FakeHost, Happening

from .foreign import FOREIGN
from .happenings import FUNCTIONS, QUIET, SCRIPTS
from .steps import Outcome, Wanted, carry_out

GROUPS = {4: "239.0.0.{}", 6: "ff05::7:{}"}
_ROOT = Path(__file__).resolve().parents[2]


Failing = Literal["ovs-vswitchd", "flows", "sockets"]


class Subject(Protocol):
    """A machine on which steps are carried out; ``past`` are those that were."""

    past: list[str]

    def step(self, verb: str, wanted: Wanted) -> Outcome:
        """Carry out a step and return its outcome; `other add` is of another Host there."""

    def happens(self, name: Happening) -> None:
        """Something happens to it."""

    def has(self, name: str) -> None:
        """Another program puts something there; foreign.py has the names."""

    def lacks(self, name: str) -> None:
        """They take it away again."""

    def fails(self, name: Failing) -> None:
        """From now on something does not work."""

    def works(self, name: Failing) -> None:
        """It does again."""


class Fake:
    """The machine in memory."""

    def __init__(self, datapath: Datapath, device: str, addresses: list[str], mac: str) -> None:
        self._new = partial(FakeHost, device, addresses, datapath, mac=mac, mtu=1600)
        self.host = self._new()
        self.other: Host | None = None
        self.past: list[str] = []

    def step(self, verb: str, wanted: Wanted) -> Outcome:
        self.past.append(verb)
        _other, is_other, own = verb.rpartition("other ")
        if is_other and self.other is None:
            self.other = self.host.another()
        return carry_out(self.other or self.host if is_other else self.host, own, wanted)

    def happens(self, name: Happening) -> None:
        self.past.append(name)
        self.host.happens(name)
        if name == "vswitchd-restarts":
            self.host.happens("link-up")  # as the lab does with it

    def has(self, name: str) -> None:
        FOREIGN[name].fake(self.host)

    def lacks(self, name: str) -> None:
        self.host = self._new()

    def fails(self, name: Failing) -> None:
        self.past.append(f"{name} fails")
        if name == "sockets":
            self.host.limits = Limits(0)
        else:
            self.host.fault("vswitchd-away" if name == "ovs-vswitchd" else "bundle-refused")

    def works(self, name: Failing) -> None:
        self.host.limits = Limits()
        self.host.repair()
        if name == "ovs-vswitchd":
            self.happens("vswitchd-restarts")


class Real(Closeable):
    """A host of the lab, and a process in its namespaces that has the real Host."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self._there: list[str | None] = []
        self.sh(QUIET)
        self._process = host.popen(
            sys.executable, "-m", "tests.contract.serve", env={"PYTHONPATH": str(_ROOT)}, piped=True
        )

    def step(self, verb: str, wanted: Wanted) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, wanted]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(self._process.stderr.read())
        return Outcome(**json.loads(line))

    def happens(self, name: Happening) -> None:
        self._heard()
        if name == "underlay-replaced":
            self._there.append(None)  # slots of autojoin may be lost with it, unseen
        if name == "vswitchd-restarts":
            self.host.stop_vswitchd()
            self.host.start_vswitchd()
        elif name == "keeper-killed":
            self.step("kill-keeper", "default")
        else:
            self.sh(SCRIPTS[name])
        self._heard()

    def _heard(self) -> None:
        """Open vSwitch has heard of routes: it does between two commands."""
        for _ in range(2):
            self.host.appctl("ovs/route/show")

    def lacks(self, name: str) -> None:
        self.undo()

    def has(self, name: str) -> None:
        self.sh(FOREIGN[name].script)
        self._there.append(FOREIGN[name].undo)

    def undo(self) -> bool:
        """Remove what other programs put there; return whether that is possible."""
        while self._there:
            script = self._there.pop()
            if script is None:
                return False
            self.sh(script)
        return True

    def fails(self, name: Failing) -> None:
        if name == "ovs-vswitchd":
            self.host.stop_vswitchd()
        elif name == "flows":
            full = "-- --id=@t create Flow_Table flow_limit=1 overflow_policy=refuse"
            first = (
                "$device flow_tables:0" if self.host.kind == "netdev" else "br-mcast flow_tables:30"
            )
            self.sh(f"ovs-vsctl {full} -- set bridge {first}=@t")
        else:
            self.sh("echo 0 >/proc/sys/net/ipv4/igmp_max_memberships")

    def works(self, name: Failing) -> None:
        if name == "ovs-vswitchd":
            self.host.start_vswitchd()
        elif name == "flows":
            self.sh(
                "for one in $(ovs-vsctl list-br); do ovs-vsctl clear bridge $one flow_tables; done"
            )
        else:
            self.sh("echo 20 >/proc/sys/net/ipv4/igmp_max_memberships")

    def sh(self, script: str) -> None:
        """Run a script with $device, $own, $group, $vxlan and $patch set."""
        suffix = ownership.suffix("default")
        given = {
            "device": self.host.underlay, "own": " ".join(self.host.addresses),
            "vtep": self.host.vtep, "group": GROUPS[4].format(1), "group6": GROUPS[6].format(1),
            "datapath": self.host.datapath, "vxlan": f"vxlan-{suffix}",
            "patch": f"patch-int-{suffix}", "metric": str(ownership.metric("default")),
        }  # fmt: skip
        self.host.run("sh", "-ec", f"{FUNCTIONS}{script}", env=given)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


_LOOKS = {"plan", "plan_teardown", "verify"}


class Both:
    """The two machines next to each other: each step must have the same result on both."""

    def __init__(self, fake: Fake, real: Real) -> None:
        self.fake, self.real = fake, real
        self.past: list[str] = []

    def step(self, verb: str, wanted: Wanted) -> Outcome:
        self.past.append(verb)
        fake = self.fake.step(verb, wanted)

        def look() -> tuple[Outcome, list[str]]:
            real = self.real.step(verb, wanted)
            return real, differences(fake, real)

        # What an operator did to rows reaches a Host's replica of them some time later.
        attempts = Retrying(
            retry=retry_if_result(lambda told: bool(told[1])),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(10.0 if verb in _LOOKS else 0.0),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        real, found = attempts(look)
        if found:
            raise AssertionError("\n".join([f"after {', '.join(self.past)}: {verb}", *found]))
        return real

    def happens(self, name: Happening) -> None:
        self.past.append(name)
        self.fake.happens(name)
        self.real.happens(name)

    def has(self, name: str) -> None:
        self.past.append(name)
        self.fake.has(name)
        self.real.has(name)

    def lacks(self, name: str) -> None:
        self.past.append(f"no {name}")
        self.fake.lacks(name)
        self.real.lacks(name)

    def fails(self, name: Failing) -> None:
        self.past.append(f"{name} fails")
        self.fake.fails(name)
        self.real.fails(name)

    def works(self, name: Failing) -> None:
        self.past.append(f"{name} works")
        self.fake.works(name)
        self.real.works(name)


# ovs-vswitchd looks at a patch port's peer when something else has changed, and seldom, under load,
# not after the peer's bridge is gone: for 10 s of looks there was no such error.
_LATE = (
    f"status problems: fake alone: port patch-tun-{ownership.suffix('default')} on br-int:"
    " No usable peer"
)


def differences(fake: Outcome, real: Outcome) -> list[str]:
    """Return what one outcome has and the other lacks."""
    found = []
    if fake.error.get("type") != real.error.get("type"):
        found = [f"words: {fake.words or 'none'}: {real.words or 'none'}"]
    for part in ("changes", "status", "error", "machine"):
        found += _differences(part, getattr(fake, part), getattr(real, part))
    return [one for one in found if not one.startswith(_LATE)]


def _differences(where: str, fake: Any, real: Any) -> list[str]:
    if fake == real:
        return []
    if isinstance(fake, dict) and isinstance(real, dict):
        keys = [*fake, *(key for key in real if key not in fake)]
        return [d for k in keys for d in _differences(f"{where} {k}", fake.get(k), real.get(k))]
    if isinstance(fake, list) and isinstance(real, list):
        found = [f"{where}: fake alone: {one}" for one in fake if one not in real]
        found += [f"{where}: real alone: {one}" for one in real if one not in fake]
        if found:
            return found
    return [f"{where}: fake: {fake}: real: {real}"]
