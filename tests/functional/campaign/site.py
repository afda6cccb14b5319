"""A host on trial: its overlay, foreign things on it, its observer, and its peers.

near ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─ switch ─ eth0 ─ vxlan ─ far      (twice)

With the kernel's datapath there is no br-phy. A host of the dummy datapath has the same without
frames: state alone is looked at.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from select import select
from typing import Any

from ovs_mcast.adapters.packet_socket import PacketSocket
from ovs_mcast.core import ownership
from ovs_mcast.core.closeable import Closeable
from ovs_mcast.core.frames import BROADCAST, ETHERTYPE_EXPERIMENTAL
from ovs_mcast.lab import Host, Kind, Lab, LinuxHost, Workload
from tests.functional.campaign import observer
from tests.functional.campaign.observer import Sections
from tests.functional.node import difference
from tests.functional.wire import frame

FAR = ("10.0.2.1/16", "fd00::2:1/64")  # the addresses of the plain Linux host
NAME = "tenants"
SUFFIX, METRIC = ownership.suffix(NAME), ownership.metric(NAME)
COOKIE = f"{ownership.cookie(NAME):#x}/{ownership.OVERLAY_MASK:#x}"
PATCH_INT, PATCH_TUN, VXLAN = f"patch-int-{SUFFIX}", f"patch-tun-{SUFFIX}", f"vxlan-{SUFFIX}"
_PATIENCE = 60.0  # for an answer of the observer

# Neighbours in everything: each stays as it is whatever happens to ours.
_FOREIGN_ROWS = (
    "ovs-vsctl --timeout=20 add-br br-foreign -- set bridge br-foreign datapath_type={datapath}"
    " -- set bridge br-foreign external_ids:owner=somebody"
    " -- add-port br-foreign foreign0 -- set port foreign0 external_ids:owner=somebody"
    " -- set interface foreign0 type=gre options:remote_ip=10.0.0.249"
)
_FOREIGN_FLOWS = "cookie=0x77,table=0,priority=7,dl_type=0x9999,actions=drop"
_FOREIGN_KERNEL = """
ip address replace 10.99.0.9/32 dev {device}
ip address show dev {device} | grep -q 239.99.0.9/ ||
    ip address add 239.99.0.9/32 dev {device} scope host autojoin
ip route replace 239.99.0.8/32 dev {device} metric 77
ip route replace 10.98.0.0/16 dev {device} metric 77
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """The variant on trial: kind of host, membership, address family; a dummy carries no frames."""

    kind: Kind
    membership: str
    family: int = 4

    def __str__(self) -> str:
        return f"{self.kind} {self.membership} IPv{self.family}"

    @property
    def userspace(self) -> bool:
        """Whether the underlay device is the LOCAL port of a bridge."""
        return self.kind == "netdev"

    @property
    def has_frames(self) -> bool:
        """Return whether the host carries traffic."""
        return self.kind != "dummy"


class ScriptError(Exception):
    """An operator's command failed."""


class Site(Closeable):
    """One host on trial. ``number`` gives it VNIs and groups of its own."""

    def __init__(self, lab: Lab, shape: Shape, number: int, far: LinuxHost) -> None:
        self.lab, self.shape, self.number = lab, shape, number
        addresses = (f"fd00::{number}/64",) if shape.family == 6 else (f"10.0.1.{number}/16",)
        self.host: Host = lab.add_host(kind=shape.kind, addresses=addresses)
        self.device = self.host.underlay
        prefix = f"ff05::{number}:" if shape.family == 6 else f"239.{number}.0."
        self.segments = {10 * number + n: f"{prefix}{n}" for n in (1, 2)}  # VNI → group
        self.talks: list[Talk] = []
        self._observer = self.host.popen(
            sys.executable, "-I", "-S", observer.__file__, self.device, piped=True
        )
        for vni, group in self.segments.items() if shape.has_frames else ():
            near = self.host.add_workload(vlan=vni)
            self.talks.append(Talk(near, far.add_segment(vni=vni, group=group)))
        # A device that is removed takes its autojoin addresses along, and not their slots.
        self.sh("echo 200 >/proc/sys/net/ipv4/igmp_max_memberships")
        self.sh(_FOREIGN_ROWS.format(datapath=self.host.datapath))
        self.replant()
        self.pristine = self.look()

    def close(self) -> None:
        """End the observer and the sockets; the host ends with its lab."""
        for talk in self.talks:
            talk.close()
        for pipe in (self._observer.stdin, self._observer.stdout, self._observer.stderr):
            if pipe is not None:
                pipe.close()
        self._observer.wait(20)

    def __str__(self) -> str:
        return f"{self.host.name} ({self.shape})"

    @property
    def groups(self) -> list[str]:
        """The groups of the overlay."""
        return list(self.segments.values())

    @property
    def owns_bridge(self) -> bool:
        """Whether br-int was made by the overlay: nobody plugged a workload in before."""
        return not self.talks

    def configuration(self, directory: Path) -> Path:
        """The file that setup and the agent read."""
        wanted = {
            "name": NAME,
            "datapath": self.host.datapath,
            "membership": self.shape.membership,
            "underlay": {"device": self.device, "vtep": self.host.vtep},
            "segments": [
                {"vni": vni, "vlan": vni, "group": group} for vni, group in self.segments.items()
            ],
        }
        path = directory / f"{self.host.name}.json"
        path.write_text(json.dumps(wanted))
        return path

    def ask(self, **question: Any) -> Any:
        """One question to the observer."""
        given, said = self._observer.stdin, self._observer.stdout
        assert given is not None
        assert said is not None
        given.write(json.dumps(question) + "\n")
        given.flush()
        assert select([said], [], [], _PATIENCE)[0], f"{self}: the observer is silent"
        line = said.readline()
        assert line, f"{self}: the observer has ended"
        return json.loads(line)

    def look(self, sections: Sequence[str] | None = None) -> Sections:
        """The host as ip and the tools of Open vSwitch show it."""
        seen: Sections = self.ask(look=None if sections is None else list(sections))
        return seen

    def sh(self, script: str) -> str:
        """Run a shell script on the host, as an operator would; it must succeed."""
        status, said = self.ask(sh=script)
        if status:
            raise ScriptError(f"{self}: {script}: {said}")
        return str(said)

    def replant(self) -> None:
        """Restore what the operator's own tools restore after Open vSwitch or a link came back."""
        bridges = ["br-foreign", *([] if self.owns_bridge else ["br-int"])]
        bridges += [self.device] if self.shape.userspace else []
        flows = "\n".join(f"ovs-ofctl add-flow {bridge} {_FOREIGN_FLOWS}" for bridge in bridges)
        self.sh(_FOREIGN_KERNEL.format(device=self.device) + flows)
        self.ask(join=["239.99.0.7", self.device])


class Talk(Closeable):
    """Two workloads of one segment, one on the host on trial and one on a plain Linux host."""

    def __init__(self, near: Workload, far: Workload) -> None:
        self.near, self.far = near, far
        self._sockets = {one: one.listen(ethertype=ETHERTYPE_EXPERIMENTAL) for one in (near, far)}

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets.values():
            one.close()

    def failures(self, end: float) -> list[str]:
        """Return the frames lost before ``end``, or doubled; broadcasts come first."""
        return list(self._failures(end))

    def _failures(self, end: float) -> Iterator[str]:
        near, far = self.near, self.far
        for sender, hearer in ((near, far), (far, near)):
            yield from self._passes("broadcast", sender, hearer, BROADCAST, end)
        for sender, hearer in ((near, far), (far, near)):
            yield from self._passes("unicast", sender, hearer, hearer.mac, end)

    def _passes(
        self, kind: str, sender: Workload, hearer: Workload, destination: str, end: float
    ) -> Iterator[str]:
        """A frame a try, each unlike all others; a late one counts as well."""
        sent: list[bytes] = []
        heard: list[bytes] = []
        wait = 0.05
        while not heard and (not sent or time.monotonic() < end):
            sent.append(frame(sender.mac, destination))
            self._sockets[sender].send(sent[-1])
            heard = self._heard(hearer, sent, wait)
            wait = min(2 * wait, 0.4)
        heard += self._heard(hearer, sent, 0.0)
        where = f"{kind} {sender.name} → {hearer.name}"
        if not heard:
            yield f"{where}: none of {len(sent)} heard"
        for one in set(heard):
            if heard.count(one) > 1:
                yield f"{where}: heard {heard.count(one)} times"

    def _heard(self, hearer: Workload, sent: list[bytes], seconds: float) -> list[bytes]:
        packets = self._sockets[hearer]
        first = self._wait(packets, sent, seconds)
        return first + [whole for whole in packets.frames() if whole in sent] if first else []

    @staticmethod
    def _wait(packets: PacketSocket, sent: list[bytes], seconds: float) -> list[bytes]:
        end = time.monotonic() + seconds
        while (got := packets.receive(max(0.0, end - time.monotonic()))) is not None:
            if got in sent:
                return [got]
        return []


@dataclass(frozen=True, slots=True)
class Repair:
    """The end of one fault: seconds until state and traffic were as before, or what is not."""

    state: float
    traffic: float
    left: tuple[str, ...] = ()


def wait_until_as_before(site: Site, before: Sections, deadline: float, rng: Random) -> Repair:
    """Wait until the state is as before, then until traffic passes; ``deadline`` in seconds.

    Only what still differs is looked at again, and all of it once more at the end.
    """
    begun = time.monotonic()
    end = begun + deadline
    pending: list[str] | None = None
    while True:
        looked = time.monotonic()
        seen = site.look(pending)
        names = before.keys() | seen.keys() if pending is None else set(pending)
        differing = sorted(name for name in names if seen.get(name) != before.get(name))
        if not differing and pending is None:
            break
        if time.monotonic() > end:
            left = difference(
                {name: before.get(name, []) for name in differing},
                {name: seen.get(name, []) for name in differing},
            )
            return Repair(time.monotonic() - begun, 0, tuple(left))
        pending = differing or None
        if pending:
            # Between two looks, not for anything to happen: half of the time is the repair's.
            time.sleep(max(rng.uniform(0.01, 0.04), time.monotonic() - looked))
    as_before = time.monotonic() - begun
    failures = [line for talk in site.talks for line in talk.failures(end)]
    return Repair(as_before, time.monotonic() - begun - as_before, tuple(failures))
