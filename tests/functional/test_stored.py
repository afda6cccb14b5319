"""An agent that is killed: its service manager has duplicates of the sockets that hold its groups.

h1 (service manager; agent: sockets that are members on eth0) ─ port of the switch ─ l1
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.functional.agents import TWO, assert_true, configuration, write
from tests.functional.embedding import run
from tests.functional.membership_lab import Net, keepers, members
from tests.functional.node import Node
from tests.functional.service import Service
from tests.functional.wire import eventually

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")
pytest_plugins = ("tests.functional.node_fixtures", "tests.functional.membership_fixtures")

GROUPS = {"239.0.0.1", "239.0.0.2"}
OTHER = "connection"  # stored by another program
# Requests to the process that holds the groups, as setup or a program may send.
_JOIN = """
from pathlib import Path
from ovs_mcast.membership.keeper import Keeper
keeper = Keeper(Path("/run/openvswitch"), "default")
for number in range(1, 21):
    keeper.join("{device}", "239.0.9.%d" % number)
"""


def joined(node: Node) -> set[str]:
    """Return the groups of both segments that /proc/net/igmp has for the underlay."""
    return members(node) & GROUPS


def the_name(service: Service) -> str:
    """Return the name of our only stored set."""
    [name] = [name for name in service.stored() if name != OTHER]
    assert name.startswith("ovs-mcast-default-")
    return name


def test_killed_no_group_is_left(net: Net, either: Node) -> None:
    """Neither while no agent runs, nor when the next one discards the stored sockets.

    h1 (agent; kill -9; agent; the store is lost; SIGTERM) ─ port of the switch: no leave
    """
    write(either, configuration(either))
    with net.membership_wire(either) as wire, Service(either) as service:
        service.starts()
        first = the_name(service)
        wire.wait_joined("239.0.0.1")
        wire.wait_joined("239.0.0.2")
        service.put(OTHER)
        service.kill()
        assert keepers(either) == {}
        assert joined(either) == GROUPS
        assert wire.left() == []
        service.starts()
        service.hears("FDSTOREREMOVE=1", first)
        second = the_name(service)
        assert second != first
        stores = [one for one in service.told if one[0].startswith("FDSTORE")]
        assert stores == [("FDSTORE=1", second), ("FDSTOREREMOVE=1", first)]
        service.lose()
        assert joined(either) == GROUPS
        assert_true(either)
        assert service.stop() == 0
        assert len(keepers(either)) == 1
        assert joined(either) == GROUPS
        assert wire.left() == []


def test_what_is_handed_over_goes_no_further(system: Node) -> None:
    """The agent closes its own handed-over sockets, and keeps those of another program.

    h1 (agent; kill -9; agent)
    """
    write(system, configuration(system))
    with Service(system) as service:
        service.starts()
        service.put(OTHER)
        former, other = service.inodes(the_name(service)), service.inodes(OTHER)
        service.kill()
        service.starts()
        opened = set()
        for path in Path(f"/proc/{service.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile: the agent runs
                opened.add(str(path.readlink()))
        assert opened & (former | other) == other
        assert service.inodes(OTHER) == other


def test_a_group_that_is_not_wanted_any_more(net: Net, system: Node) -> None:
    """The next agent wants one group less: only that one is left, once all is applied.

    h1 (agent; kill -9; one segment less; agent) ─ port of the switch: leaves 239.0.0.2
    """
    write(system, configuration(system))
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        wire.wait_joined("239.0.0.2")
        service.kill()
        write(system, configuration(system, TWO[0]))
        assert wire.left() == []
        service.starts()
        assert eventually(lambda: joined(system) == {"239.0.0.1"})
        assert wire.left() == ["239.0.0.2"]
        assert service.stop() == 0


def test_held_until_open_vswitch_is_back(net: Net, system: Node) -> None:
    """An agent that cannot reconcile yet discards nothing; killed again, the groups stay held.

    h1 (agent and ovs-vswitchd; kill -9 of both; agent, twice; ovs-vswitchd) ─ switch: no leave
    """
    write(system, configuration(system))
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        first = the_name(service)
        system.host.stop_vswitchd()
        service.kill()
        for _ in range(2):
            service.start()
            service.hears("STATUS=default: ovs-vswitchd does not run")
            assert service.stored() == {first: 1}
            service.kill()
        system.host.start_vswitchd()
        service.starts()
        service.hears("FDSTOREREMOVE=1", first)
        assert the_name(service) != first
        assert joined(system) == GROUPS
        assert wire.left() == []
        assert service.stop() == 0


def test_a_set_is_stored_before_the_former_is_discarded(net: Net, system: Node) -> None:
    """Twenty groups a socket: a larger set has more sockets; groups held by addresses need none.

    h1 (agent; 25 groups; then autojoin) ─ port of the switch: no leave
    """
    write(system, configuration(system))
    more = [{"vni": 200 + one, "group": f"239.0.1.{one}"} for one in range(1, 24)]
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        first = the_name(service)
        write(system, configuration(system, *TWO, *more))
        service.hears("FDSTOREREMOVE=1", first)
        second = the_name(service)
        assert service.stored() == {second: 2}
        stores = [one for one in service.told if one[0].startswith("FDSTORE")]
        assert stores == [
            ("FDSTORE=1", first),
            ("FDSTORE=1", second),
            ("FDSTOREREMOVE=1", first),
        ]
        assert wire.left() == []
        write(system, configuration(system, membership="repaired"))
        service.hears("FDSTOREREMOVE=1", second)
        assert service.stored() == {}
        assert joined(system) == GROUPS
        assert set(wire.left()) == {one["group"] for one in more}
        assert service.stop() == 0


def test_one_more_socket_is_stored_too(net: Net, system: Node) -> None:
    """A request for more groups than the sockets have room for stores one more socket.

    h1 (agent; 20 groups more, one by one; kill -9; the store is lost) ─ port of the switch
    """
    write(system, configuration(system))
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        name = the_name(service)
        script = _JOIN.format(device=system.host.underlay)
        system.host.run(sys.executable, "-c", script, env={"PYTHONPATH": os.getcwd()})
        assert eventually(lambda: service.stored() == {name: 2})
        all_of_them = members(system)
        assert len(all_of_them) == 22
        service.kill()
        assert members(system) == all_of_them
        assert wire.left() == []
        service.lose()
        assert eventually(lambda: members(system) == set())
        assert set(wire.left()) == all_of_them


def test_released_groups_do_not_stay_in_the_store(net: Net, system: Node) -> None:
    """A keeper takes over at SIGTERM; once it releases the groups, no process holds them.

    h1 (agent; SIGTERM; setup --teardown) ─ port of the switch: leaves both
    """
    write(system, configuration(system))
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        first = the_name(service)
        assert service.stop() == 0
        service.hears("FDSTOREREMOVE=1", first)
        assert service.stored() == {}
        assert wire.left() == []
        system.torn_down()
        assert joined(system) == set()
        assert set(wire.left()) == GROUPS


def test_what_no_keeper_took_over_stays_in_the_store(net: Net, system: Node) -> None:
    """If no keeper can be started, the agent reports that and leaves the groups to the next agent.

    h1 (agent; no Python that can be started; SIGTERM; agent) ─ port of the switch: no leave
    """
    write(system, configuration(system))
    with net.membership_wire(system) as wire, Service(system) as service:
        service.starts()
        first = the_name(service)
        wire.wait_joined("239.0.0.2")
        system.host.run("mount", "--bind", "/dev/null", sys.executable)
        assert service.stop() == 5
        system.host.run("umount", sys.executable)
        assert "no process holds the groups on: default: " in service.said()
        assert "Traceback" not in service.said()
        assert keepers(system) == {}
        assert service.stored() == {first: 1}
        assert joined(system) == GROUPS
        service.starts()
        service.hears("FDSTOREREMOVE=1", first)
        assert joined(system) == GROUPS
        assert wire.left() == []
        assert service.stop() == 0


def test_the_library_stores_nothing(system: Node, tmp_path: Path) -> None:
    """A program that holds groups in-process may be a service: its store stays untouched.

    h1 (service manager; a program with connect(holding="here"))
    """
    wanted = {
        "datapath": system.host.datapath,
        "membership": "socket",
        "underlay": {"device": system.host.underlay},
        "segments": list(TWO),
    }
    environment = {"NOTIFY_SOCKET": "/run/notify"}
    with (
        Service(system) as service,
        run(system, "here", wanted, tmp_path, env=environment) as program,
    ):
        program.says()
        assert joined(system) == GROUPS
        program.end()
        assert service.told == []
