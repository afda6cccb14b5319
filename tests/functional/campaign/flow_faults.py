"""Damage to flows: all, of one table, one, changed, added, taken by another."""

from __future__ import annotations

from collections.abc import Iterator

from tests.functional.campaign.fault import Fault, scripted, userspace


def flow_faults() -> Iterator[Fault]:
    """`{cookie}` is all of ours."""
    for table in (0, 10, 15, 20, 30):
        script = f"ovs-ofctl {{flow}} del-flows br-mcast table={table}"
        yield scripted(f"flows of table {table} deleted", script)
    for table, match in (
        (0, "in_port=2"), (0, "in_port=1"), (10, "tun_id={vni}"), (15, "tun_id={vni}"),
        (30, "dl_vlan={vni}"),
    ):  # fmt: skip
        script = f"ovs-ofctl {{flow}} del-flows br-mcast table={table},{match}"
        yield scripted("flow deleted", script)
    yield scripted("all flows deleted", "ovs-ofctl {flow} del-flows br-mcast")
    for table, match in ((10, "tun_id={vni}"), (15, "tun_id={vni}"), (30, "dl_vlan={vni}")):
        script = f"ovs-ofctl {{flow}} mod-flows br-mcast table={table},{match},actions=drop"
        yield scripted("flow changed", script)
    yield scripted("flow changed", "ovs-ofctl {flow} mod-flows br-mcast table=0,actions=output:1")
    yield scripted(
        "flow of ours too many",
        "ovs-ofctl {flow} add-flow br-mcast"
        " cookie={own},table=30,priority=9,dl_vlan={vni},actions=drop",
    )
    yield scripted(
        "flow replaced by another's",
        "ovs-ofctl {flow} add-flow br-mcast"
        " cookie=0x5,table=30,priority=1,dl_vlan={vni},actions=drop",
    )
    yield scripted(
        "flows of the underlay bridge deleted",
        "ovs-ofctl {flow} del-flows {device} cookie={cookie}",
        on=userspace,
    )
    yield scripted(
        "all flows of the underlay bridge deleted",
        "ovs-ofctl {flow} del-flows {device};"
        " ovs-ofctl {flow} add-flow {device} priority=0,actions=NORMAL",
        on=userspace,
        replant=True,
    )
    yield scripted(
        "flow of the underlay bridge changed",
        "ovs-ofctl {flow} mod-flows {device} cookie={cookie},udp,nw_dst={group},actions=drop",
        on=userspace,
    )
