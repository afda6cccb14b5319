"""An overlay that version 0.1.0 made is taken over: nothing is lost, only what differs rewritten.

What 0.1.0 leaves on a host is recorded in version_0_1_0/ and made again by Open vSwitch's and
iproute2's own tools; the process that holds the groups is 0.1.0's own program.

h1 (recorded overlay; setup, agent, status, teardown) ─┐
                                                       ├─ switch      VNI 100, VNI 101
l1 (Linux vxlan) ──────────────────────────────────────┘
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ovs_mcast.core import ownership
from ovs_mcast.core.admission import NO_HOST
from ovs_mcast.lab import Host, Kind, Lab, LinuxHost, Workload
from tests.functional.agents import CONFIG, configuration, running, write
from tests.functional.membership_lab import Net, keepers
from tests.functional.node import Node, State, difference
from tests.functional.streams import RATE, Stream
from tests.functional.warm import Warm
from tests.functional.wire import eventually, frame, hears, learned, wait_for_members

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

RECORDINGS = Path(__file__).with_name("version_0_1_0")
PACKAGE = {"PYTHONPATH": str(Path(__file__).parents[2])}
VNIS = (100, 101)
GROUPS = {4: ("239.0.0.1", "239.0.0.2"), 6: ("ff05::7:1", "ff05::7:2")}
MORE = {4: "239.0.0.3", 6: "ff05::7:3"}
# Open vSwitch's durations are rounded to milliseconds.
ROUNDING = 0.01


@dataclass(frozen=True)
class Recording:
    """One of version_0_1_0/*.json, which are named KIND-MEMBERSHIP[-ipv6].json."""

    name: str

    @property
    def kind(self) -> Kind:
        """The kind of host on which it was recorded."""
        return "netdev" if self.name.startswith("netdev") else "dummy"

    @property
    def membership(self) -> str:
        """What `--membership` was."""
        return self.name.split("-")[1]

    @property
    def family(self) -> int:
        """The underlay's, 4 or 6."""
        return 6 if self.name.endswith("ipv6") else 4

    @property
    def has_keeper(self) -> bool:
        """Whether a process holds the groups."""
        return bool(json.loads(self.path.read_text())["keepers"])

    @property
    def path(self) -> Path:
        """The file."""
        return RECORDINGS / f"{self.name}.json"


ALL = [Recording(path.stem) for path in sorted(RECORDINGS.glob("*.json"))]
# Frames pass on the userspace datapath; a dummy one has none, and shows all else.
WITH_FRAMES = [one for one in ALL if one.kind == "netdev"]
WITHOUT_FRAMES = [one for one in ALL if one.kind == "dummy"]
HELD = [one for one in ALL if one.has_keeper]


class Site:
    """A host with a recorded overlay, its state before and after, and a Linux host as observer.

    On a host whose datapath passes frames there is a workload for each VNI, with one at l1.
    """

    def __init__(self, lab: Lab, warm: Warm, recording: Recording) -> None:
        self.lab, self.recording = lab, recording
        self.host: Host = lab.add_host(kind=recording.kind)
        self.peer: LinuxHost = lab.add_linux_host()
        self.node = Node(self.host, warm)
        self.groups = GROUPS[recording.family]
        self.here: list[Workload] = []
        self.there: list[Workload] = []
        for vni, group in zip(VNIS, self.groups, strict=True):
            self.there.append(self.peer.add_segment(vni=vni, group=group))
            if recording.kind == "netdev":
                self.here.append(self.host.add_workload(vlan=vni))
        # By the versions of the switch's queries a host may be silent when it leaves a group of
        # which another has reported to be a member (RFC 2236, 3; RFC 2710, 4).
        of, version = ("ipv6", "mld_version") if recording.family == 6 else ("ipv4", "igmp_version")
        force = f"/proc/sys/net/{of}/conf/{self.host.underlay}/force_{version}"
        self.node.sh(f"echo {2 if of == 'ipv6' else 3} >{force}")
        # The link-local address is not steady before its duplicate address detection.
        assert eventually(lambda: "tentative" not in self.node.sh("ip address"))
        self.before: State = self.node.state()
        self.host.run(
            *(sys.executable, str(RECORDINGS / "recording.py"), "restore", str(recording.path)),
            self.host.underlay,
        )
        for group in self.groups:
            wait_for_members(lab, group, {"h1", "l1"})

    @property
    def segments(self) -> list[dict[str, object]]:
        """The segments of the recorded overlay."""
        return [{"vni": vni, "group": group} for vni, group in zip(VNIS, self.groups, strict=True)]

    def configuration(self, *more: dict[str, object]) -> str:
        """The configuration of the recorded overlay, and further segments."""
        membership = self.recording.membership
        return configuration(self.node, *self.segments, *more, membership=membership)

    def learn(self) -> None:
        """Have h1 learn where l1's workload of VNI 100 is, and l1 where h1's is."""
        here, there = self.here[0], self.there[0]
        with hears(self.lab, there) as heard:
            there.send(frame(there.mac))
            here.send(frame(here.mac))
            assert len(heard.wait(2)) == 2
        assert eventually(lambda: there.mac in learned(self.host, VNIS[0]))

    def flow_stats(self) -> dict[str, tuple[float, int]]:
        """Age and packets of each flow of each bridge."""
        return {
            f"{bridge} {flow}": stats
            for bridge in self.host.vsctl("list-br").split()
            for flow, stats in self.node.flow_stats(bridge).items()
        }

    def holders(self) -> dict[int, set[str]]:
        """The processes that hold groups, and the sockets of each."""
        return {
            process: {str(path.readlink()) for path in (directory / "fd").iterdir()}
            for process, directory in keepers(self.node).items()
        }

    def shown(self) -> dict[str, object]:
        """What `status --json` shows of the one overlay."""
        command = (sys.executable, "-m", "ovs_mcast.status", "--json")
        (one,) = json.loads(self.host.run(*command, env=PACKAGE).stdout)["overlays"]
        return dict(one)

    @contextmanager
    def assert_nothing_rewritten(self, but: Sequence[str] = ()) -> Iterator[None]:
        """Assert that a block leaves each flow, row, address, route and membership as it was.

        Lines that contain one of ``but`` may differ, by one transaction.
        """
        flows, next_cfg, state = self.flow_stats(), self.node.next_cfg(), self.node.state()
        since = time.monotonic()
        yield
        elapsed = time.monotonic() - since
        kept = [flow for flow in flows if not any(part in flow for part in but)]
        now = self.flow_stats()
        younger = [flow for flow in kept if now[flow][0] < flows[flow][0] + elapsed - ROUNDING]
        assert younger == []
        assert [flow for flow in kept if now[flow][1] < flows[flow][1]] == []
        assert self.node.next_cfg() == next_cfg + bool(but)
        changed = difference(state, self.node.state())
        assert [line for line in changed if not any(part in line for part in but)] == []

    @contextmanager
    def assert_no_group_is_left(self) -> Iterator[None]:
        """At its port of the switch the host leaves no group meanwhile."""
        net = Net(self.lab, self.node.warm, self.peer)
        with net.membership_wire(self.node) as wire:
            yield
            assert wire.left() == []


@pytest.fixture
def site(request: pytest.FixtureRequest, warm: Warm) -> Iterator[Site]:
    """A host with the overlay of a recording."""
    recording: Recording = request.param
    with Lab(kind=recording.kind, family=recording.family) as lab:
        yield Site(lab, warm, recording)


def each(recordings: Sequence[Recording]) -> pytest.MarkDecorator:
    """Run a test for each of these recordings."""
    names = [recording.name for recording in recordings]
    return pytest.mark.parametrize("site", recordings, indirect=True, ids=names)


@contextmanager
def assert_each_frame_arrives_once(site: Site) -> Iterator[None]:
    """In both directions, broadcast and unicast apart, each frame is heard exactly once.

    With IPv6 on the userspace datapath a stream may lose one: beside other load, one run in a
    dozen lost a frame of half the streams at one moment, and we do not know why yet.
    """
    allowed = 1 if (site.recording.kind, site.recording.family) == ("netdev", 6) else 0
    pairs = zip(site.here, site.there, strict=True)
    directions = [pair for here, there in pairs for pair in ((here, there), (there, here))]
    with ExitStack() as stack:
        streams = {
            (sender.name, "broadcast" if broadcast else "unicast"): stack.enter_context(
                Stream(sender, hearer, broadcast=broadcast, rate=RATE // 2)
            )
            for sender, hearer in directions
            for broadcast in (False, True)
        }
        yield
        for stream in streams.values():
            stream.stop()
        wrong = {name: stream.not_once() for name, stream in streams.items()}
        assert {
            name: numbers
            for name, numbers in wrong.items()
            if len(numbers) > allowed or any(numbers.values())
        } == {}
        assert min(stream.sent for stream in streams.values()) > RATE


def assert_taken_over(site: Site) -> None:
    """Run setup, status and the agent on a recorded overlay; only what differs is rewritten.

    Since 0.1.0 the patch port floods multicast on a br-int that snoops, which has a guard, tags
    within segments and impossible sources are dropped, and on the userspace datapath the flows of
    the groups deliver by the bridge's own way.
    """
    write(site.node, site.configuration())
    holders = site.holders()
    assert len(holders) == site.recording.has_keeper
    suffix, field = (
        ownership.suffix("default"),
        "ipv6_dst" if site.recording.family == 6 else "nw_dst",
    )
    differs = {
        "update bridge br-mcast": "ovs-mcast-overlay",
        f"update port patch-tun-{suffix} on br-int": "mcast-snooping-flood",
        "add flow VXLAN of workloads to this host → drop": "priority=65535",
    }
    if site.recording.kind == "netdev":
        if site.recording.family == 4:
            differs |= {
                f"add flow fragments to {site.node.host.vtep} → counted": "nw_frag=first",
                "add flow fragments to 224.0.0.0/4 → counted": "nw_frag=first",
                "add flow VXLAN on UDP port 8472 → counted": "tp_dst=8472",
            }
        differs |= {
            f"update flow {group} → the tunnel": f"{field}={group},tp_dst" for group in site.groups
        }
    group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
    differs |= {
        f"remove flow br-mcast table 0 in_port=1,{group}": f"priority=100,in_port=1,{group}",
        "remove flow br-mcast table 0 in_port=1": "priority=90,in_port=1",
        "add flow from workloads → tags": "goto_table:5",
        "add flow with a second tag → drop": "table=5,",
        "add flow with a second tag of type 0x8100 → drop": "table=5,",
        "add flow with a second tag of type 0x88a8 → drop": "table=5,",
        "add flow with one tag → learned, or flood": "table=5,",
    }
    family = site.recording.family
    for network in NO_HOST[family]:
        differs[f"add flow from {network}, which no host has → drop"] = "priority=106,"
    differs["add flow with a tag → drop"] = "priority=105,"
    rewritten = [*differs.values(), "ovs-mcast-segments-"]
    with site.assert_nothing_rewritten(but=rewritten):
        done = site.node.built("--config", CONFIG)
        assert (done.report["changed"], done.changes) == (True, list(differs))
        assert site.holders() == holders
    with site.assert_nothing_rewritten():
        assert site.node.setup("--config", CONFIG, "--dry-run").changes == []
        done = site.node.built("--config", CONFIG)
        assert (done.report["changed"], done.changes) == (False, [])
        shown = site.shown()
        assert (shown["healthy"], shown["problems"]) == (True, [])
        assert site.holders() == holders
    with site.assert_nothing_rewritten():
        with running(site.node, site.configuration()):
            assert site.shown()["healthy"] is True
        assert len(site.holders()) == len(holders)


def assert_torn_down(site: Site) -> None:
    """Tear the overlay down: the host is as it was before there was one."""
    site.node.torn_down()
    assert site.holders() == {}
    assert difference(site.before, site.node.state()) == []


@each(WITH_FRAMES)
def test_no_frame_is_lost_and_nothing_is_rewritten(site: Site) -> None:
    """Setup, status and agent rewrite only what differs, while frames of both VNIs pass.

    h1-100, h1-101 ─ switch ─ l1-100, l1-101      unicast and broadcast, each direction on its own
    """
    site.learn()
    with assert_each_frame_arrives_once(site), site.assert_no_group_is_left():
        assert_taken_over(site)
    assert_torn_down(site)


@each(WITHOUT_FRAMES)
def test_nothing_is_rewritten_where_the_kernel_sends(site: Site) -> None:
    """Setup, status and agent rewrite only what differs, and no group is left.

    h1 (eth0) ─ port of the switch
    """
    with site.assert_no_group_is_left():
        assert_taken_over(site)
    assert_torn_down(site)


@each(HELD)
def test_the_process_that_holds_the_groups_is_taken_over(site: Site) -> None:
    """A segment comes and goes by 0.1.0's process or one in its place; the others' groups stay.

    h1 (VNI 100, 101, then 102, which goes again; teardown) ─ switch: leaves none but 102's group
    """
    more = {"vni": 102, "group": MORE[site.recording.family]}
    net = Net(site.lab, site.node.warm, site.peer)
    with net.membership_wire(site.node) as wire:
        write(site.node, site.configuration(more))
        assert site.node.built("--config", CONFIG).report["changed"] is True
        wire.wait_joined(str(more["group"]))
        assert len(site.holders()) == 1
        write(site.node, site.configuration())
        assert site.node.built("--config", CONFIG).report["changed"] is True
        assert wire.left() == [more["group"]]
        assert len(site.holders()) == 1
        assert_torn_down(site)
        assert sorted(wire.left()) == sorted(site.groups)
