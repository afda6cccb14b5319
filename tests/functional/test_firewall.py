"""A host whose nftables drops the overlay's packets: a warning names the rule or the policy.

h1 (nftables; setup) ─ switch ─ l1 (Linux vxlan)
"""

from __future__ import annotations

import pytest

from ovs_mcast.lab import Host, Kind, Lab, Workload
from tests.functional.wire import GROUP_1, frame, hears, wait_for_members

pytestmark = [
    pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter", "nft"),
    pytest.mark.either_datapath,
]

SEGMENT = f"--segment=100,group={GROUP_1}"


def arrives(lab: Lab, sender: Workload, hearer: Workload) -> bool:
    """Whether a broadcast is heard."""
    sent = frame(sender.mac)
    with hears(lab, hearer) as heard:
        sender.send(sent)
        return sent in heard.wait(1, timeout=1)


def nft(host: Host, *lines: str) -> None:
    """Replace the rule set."""
    host.run("nft", "-f", "-", stdin="flush ruleset\n" + "\n".join(lines))


def warned(host: Host) -> list[str]:
    """The warnings about the filter; they leave the overlay verified."""
    done = host.setup(SEGMENT)
    assert (done.status, done.report["changed"]) == (0, False), done.stderr
    return [one for one in done.report["problems"] if "nftables" in one]


def test_a_filter_that_drops_the_tunnels_packets_is_named(lab: Lab, kind: Kind) -> None:
    """Each way apart, by a rule and by a policy; the userspace datapath passes the filter by.

    h1 (w, nftables) ─ switch ─ l1 (w broadcasts, and hears)
    """
    host, peer = lab.add_host(), lab.add_linux_host()
    here, there = host.add_workload(vlan=100), peer.add_segment(vni=100, group=GROUP_1)
    assert host.setup(SEGMENT).status == 0
    wait_for_members(lab, GROUP_1, {"h1", "l1"})
    affected = kind == "kernel"
    base = "add table inet t"
    into = "add chain inet t input { type filter hook input priority 0; policy accept; }"
    closed = "add chain inet t input { type filter hook input priority 0; policy drop; }"
    out = "add chain inet t output { type filter hook output priority 0; }"
    for lines, said, heard in (
        ((base, into, out), "", (True, True)),
        ((base, into, "add rule inet t input udp dport 4789 drop"),
         f"nftables drops VXLAN to {GROUP_1} and VXLAN to {host.vtep}: rule", (False, True)),
        ((base, out, "add rule inet t output ip daddr 239.0.0.0/8 drop"),
         f"nftables drops VXLAN from this host to {GROUP_1}: rule", (True, False)),
        ((base, closed, "add rule inet t input ip protocol igmp accept",
          "add rule inet t input tcp dport 22 accept"),
         f"nftables drops VXLAN to {GROUP_1} and VXLAN to {host.vtep}: the policy of chain input",
         (False, True)),
        ((base, closed, "add rule inet t input ip protocol igmp accept",
          "add rule inet t input udp dport 4789 accept"), "", (True, True)),
    ):  # fmt: skip
        nft(host, *lines)
        found = warned(host)
        assert [one.startswith(said) for one in found] == [True] * (bool(said) and affected), found
        ways = (arrives(lab, there, here), arrives(lab, here, there))
        assert ways == (heard if affected else (True, True))


def test_a_filter_that_drops_igmp_is_named(lab: Lab) -> None:
    """The switch hears no report, and its port has no member; the rule is named.

    h1 (nftables drops IGMP) ─ switch (snoops)
    """
    host = lab.add_host()
    nft(
        host, "add table ip t", "add chain ip t output { type filter hook output priority 0; }",
        "add rule ip t output ip protocol igmp drop",
    )  # fmt: skip
    done = host.setup(SEGMENT)
    assert done.status == 0
    [said] = [one for one in done.report["problems"] if "nftables" in one]
    assert said.startswith("nftables drops IGMP reports: rule")
    assert "chain output in table ip t" in said
    assert lab.switch.members(GROUP_1) == set()
