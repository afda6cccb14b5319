"""host.add and host.remove: change one segment at a cost independent of the others.

h1: br-int ═ br-mcast ─ vxlan ─ eth0 (userspace datapath: br-phy ─ eth0) ─ switch
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.embedding import run
from tests.functional.membership_lab import members
from tests.functional.node import Node, difference, wrapper
from tests.functional.segments import add, changes, overlay

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

_ROOM = {"/proc/sys/net/ipv4/igmp_max_memberships": 8192, "/proc/sys/net/core/optmem_max": 1 << 20}
TARGETS = [
    "add flow VNI 5000 from 239.16.19.136",
    "add flow VNI 5000 → vlan 4090",
    "add flow vlan 4090 → 239.16.19.136",
]


@pytest.fixture
def roomy(either: Node) -> Iterator[Node]:
    """A host of either kind whose kernel holds thousands of autojoin groups."""
    before = {path: either.sh(f"cat {path}").strip() for path in _ROOM}
    either.sh("; ".join(f"echo {value} >{path}" for path, value in _ROOM.items()))
    yield either
    either.torn_down()
    either.sh("; ".join(f"echo {value} >{path}" for path, value in before.items()))


@pytest.mark.parametrize("membership", ["socket", "repaired"])
def test_the_cost_of_a_segment_does_not_depend_on_the_others(
    roomy: Node, tmp_path: Path, membership: str
) -> None:
    """A segment costs as many messages and octets among 4,000 as among 10, without a full dump.

    h1 (program; count what it starts, sends and receives)
    """
    spent: dict[int, list[dict[str, int]]] = {}
    for segments in (10, 4000):
        wanted = overlay(roomy, segments, membership, "239.16.0.0/16")
        with run(roomy, "count", wanted, tmp_path) as program:
            assert program.says() == "ready"
            steps = {
                "add": program.tell(add(5000, vlan=4090)),
                "add one that shares a group": program.tell(
                    add(5001, vlan=4091, group="239.16.0.1")
                ),
                "remove": program.tell("remove 5000"),
                "remove one that shares a group": program.tell("remove 5001"),
            }
            program.end()
        roomy.torn_down()
        for name, step in steps.items():
            print(f"{segments} {name}: {step['ms']} ms, {step['cpu_ms']} ms here, {step['spent']}")
            assert step["status"]["verified"] is True
        assert set(TARGETS) < set(changes(steps["add"]))
        sharing = [name.split()[1] for name in changes(steps["add one that shares a group"])]
        assert sharing == ["bridge", *["flow"] * 3]
        spent[segments] = [step["spent"] for step in steps.values()]
    assert spent[4000] == spent[10]
    for step in spent[10]:
        assert step["transactions"] == 1
        assert step["bundle"] <= (1 if roomy.host.datapath == "system" else 2)
        assert step.get("dump", 0) <= (2 if roomy.host.datapath == "system" else 4)
        assert step["netlink batches"] <= 6
        assert step["netlink datagrams"] <= 9
        assert step["netlink octets"] < 8192
        assert step.get("keeper", 0) + step.get(".ctl", 0) <= 3


@pytest.fixture
def six(either: Node) -> Iterator[Node]:
    """A host of either kind with an IPv6 address on its underlay."""
    device = either.host.underlay
    switch = f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    either.sh(f"echo 0 >{switch}; ip address add fd00::101/64 dev {device} nodad")
    yield either
    either.torn_down()
    either.sh(f"echo 1 >{switch}")


@pytest.mark.parametrize("membership", ["socket", "repaired"])
def test_a_segment_of_ipv6_is_added_and_removed_alone(
    six: Node, tmp_path: Path, membership: str
) -> None:
    """Adding or removing an IPv6 segment reads and changes only its own flows, address and routes.

    h1 (program; count what it sends and receives)
    """
    wanted = overlay(six, 3, membership, "ff05::7:0/112")
    with run(six, "count", wanted, tmp_path) as program:
        assert program.says() == "ready"
        added = program.tell(add(5000, vlan=4090))
        removed = program.tell("remove 5000")
        program.end()
    came, went = changes(added), changes(removed)
    assert added["status"]["verified"] is True
    assert removed["status"]["verified"] is True
    assert "add flow vlan 4090 → ff05::7:1388" in came
    assert "remove flow vlan 4090 → ff05::7:1388" in went
    for step in (added["spent"], removed["spent"]):
        assert step["transactions"] == 1
        assert step.get("dump", 0) <= (2 if six.host.datapath == "system" else 4)


def of(node: Node, *segments: dict[str, Any], membership: str = "socket") -> dict[str, Any]:
    """Return an overlay of these segments."""
    return overlay(node, 0, membership, "239.16.0.0/16") | {"segments": list(segments)}


def setup_of(directory: Path, wanted: dict[str, Any]) -> tuple[str, str]:
    """Return arguments of setup for this overlay."""
    path = directory / "wanted.json"
    path.write_text(json.dumps(wanted))
    return ("--config", str(path))


ONE: dict[str, Any]
TWO: dict[str, Any]
THREE: dict[str, Any]
ONE, TWO, THREE = ({"vni": vni, "vlan": vni, "group": f"239.16.7.{vni}"} for vni in (101, 102, 103))
SHARING: dict[str, Any] = {"vni": 104, "vlan": 104, "group": ONE["group"]}


@pytest.mark.parametrize(
    ("either", "membership"),
    [
        (kind, membership)
        for kind in ("system", "netdev")
        for membership in ("socket", "autojoin", "repaired", "peer")
        if (kind, membership) != ("netdev", "peer")  # the userspace datapath has no peer form
    ],
    indirect=["either"],
)
def test_the_result_equals_that_of_setup(either: Node, tmp_path: Path, membership: str) -> None:
    """Adding and removing segments leaves the host exactly as setup makes it.

    h1 (program: 1 2, then 3, then 4 which shares 1's group, then no 2, no 1; setup of 3 4)
    """
    with run(either, "count", of(either, ONE, TWO, membership=membership), tmp_path) as program:
        program.says()
        for word in (add(**THREE), add(**SHARING), "remove 102", "remove 101"):
            answer = program.tell(word)
            assert answer["status"]["verified"] is True
            assert answer["spent"]["transactions"] == 1
        assert ONE["group"] in members(either)
        assert TWO["group"] not in members(either)
        assert program.tell("reconcile")["status"]["changed"] is False
        before = either.state()
        wanted = setup_of(tmp_path, of(either, THREE, SHARING, membership=membership))
        assert either.built(*wanted).report["changed"] is False
        assert difference(before, either.state()) == []
        program.end()


def test_an_impossible_segment_is_refused(system: Node, tmp_path: Path) -> None:
    """A VLAN in use, another overlay's group or an unknown VNI is refused untouched.

    h1 (program: 1; another overlay with 239.16.7.102)
    """
    other = {"name": "other", "bridge": "br-o", "tunnel_bridge": "br-om"}
    theirs = of(system, TWO) | other
    theirs["underlay"] |= {"udp_port": 4790}
    system.built(*setup_of(tmp_path, theirs))
    with run(system, "count", of(system, ONE), tmp_path) as program:
        program.says()
        before = system.state()
        for word, field in {
            add(9, vlan=101, group="239.16.7.9"): "vlan",
            add(9, vlan=9, group="ff05::9"): "group",
            add(102, vlan=102, group="239.16.7.102"): "segments",
            "remove 9": "vni",
        }.items():
            answer = program.tell(word)
            assert (answer["error"], answer["field"]) == ("ConfigurationError", field), answer
            assert difference(before, system.state()) == []
        assert program.tell(add(**THREE))["status"]["verified"] is True
        program.end()


def test_one_autojoin_group_too_many_is_refused(system: Node, tmp_path: Path) -> None:
    """The kernel holds 20 groups in a namespace: the next is refused before any change.

    h1 (program: 19 groups, one of another user)
    """
    many = overlay(system, 18, "autojoin", "239.16.0.0/16")
    with run(system, "count", many, tmp_path) as program:
        program.says()
        assert program.tell(add(19))["status"]["verified"] is True
        system.sh("ip address add 239.99.0.1/32 dev lo autojoin")
        before = system.state()
        answer = program.tell(add(20))
        assert (answer["error"], answer["field"]) == ("ConfigurationError", "groups"), answer
        assert difference(before, system.state()) == []
        system.sh("ip address del 239.99.0.1/32 dev lo")
        assert program.tell(add(20))["status"]["verified"] is True
        answer = program.tell(add(21))
        assert (answer["error"], answer["field"]) == ("ConfigurationError", "groups"), answer
        program.end()


def test_learned_entries_go_with_their_own_segment(system: Node, tmp_path: Path) -> None:
    """Learned entries outlast other segments' changes and are removed with their own segment.

    h1 (program; entries put in as learn() does)
    """
    with run(system, "count", of(system, ONE, TWO), tmp_path) as program:
        program.says()
        for vlan in (101, 102):
            shown = system.host.ofctl("dump-flows", "br-mcast", f"table=15,tun_id={vlan:#x}")
            cookie = shown.partition("delete_learned,cookie=")[2].partition(",")[0]
            entry = f"cookie={cookie},table=20,priority=1,vlan_tci={vlan}/0xfff,dl_dst=02::{vlan}"
            entry = entry.replace(f"02::{vlan}", f"02:00:00:00:00:{vlan - 100:02x}")
            system.host.ofctl("add-flow", "br-mcast", f"{entry},actions=output:2")
        program.tell(add(**THREE))
        program.tell("remove 103")
        learned = system.host.ofctl("dump-flows", "br-mcast", "table=20")
        assert "02:00:00:00:00:01" in learned
        assert "02:00:00:00:00:02" in learned
        assert program.tell("remove 102")["status"]["verified"] is True
        learned = system.host.ofctl("dump-flows", "br-mcast", "table=20")
        assert "02:00:00:00:00:01" in learned
        assert "02:00:00:00:00:02" not in learned
        program.end()


FAULTS = {
    "a shared flow is missing": "ovs-ofctl -O OpenFlow14 del-flows br-mcast table=20",
    "its route exists": "ip route add 239.16.7.103 dev eth0",
    "the keeper is missing": "kill -9 $(pgrep -x ovs-mcast-keep)",
    "the patch port is missing": "ovs-vsctl del-port $(ovs-vsctl list-ports br-mcast | grep patch)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_deviation_is_repaired(system: Node, tmp_path: Path, fault: str) -> None:
    """If anything else differs, add reconciles the whole overlay and reports it.

    h1 (program; a fault between reconcile and add)
    """
    with run(system, "count", of(system, ONE, TWO), tmp_path) as program:
        program.says()
        system.sh(FAULTS[fault])
        answer = program.tell(add(**THREE))
        assert answer["status"]["verified"] is True, answer
        assert list(answer["status"]["segments"]) == ["103"]
        assert program.tell("reconcile")["status"]["changed"] is False
        assert program.tell("remove 101")["status"]["verified"] is True
        program.end()
    if "route" in fault:
        system.sh("ip route del 239.16.7.103 dev eth0 metric 0 proto boot")


KILLED = [
    (add(**THREE), 1),
    (add(**THREE), 2),
    (add(**THREE), 3),
    ("remove 102", 1),
    ("remove 102", 2),
]


@pytest.mark.parametrize(("word", "nth"), KILLED, ids=lambda value: str(value).partition(" ")[0])
def test_a_run_killed_midway_converges(system: Node, tmp_path: Path, word: str, nth: int) -> None:
    """After kill -9 behind any ovs-ofctl, the next run converges and leaves nothing.

    h1 (program killed; setup of 1 2)
    """
    both = of(system, ONE, TWO)
    path = wrapper(
        tmp_path,
        "ovs-ofctl",
        f"[ ! -e {tmp_path}/armed ] || {{ echo x >>{tmp_path}/n; "
        f'[ "$(wc -l <{tmp_path}/n)" -lt {nth} ] || '
        f'{{ {shutil.which("ovs-ofctl")} "$@"; kill -9 $PPID; exit; }}; }}',
    )
    with run(system, "count", both, tmp_path, env={"PATH": path}) as program:
        program.says()
        (tmp_path / "armed").touch()
        program.dies(word)
    assert system.built(*setup_of(tmp_path, both)).report["changed"] is True
    assert system.built(*setup_of(tmp_path, both)).report["changed"] is False
