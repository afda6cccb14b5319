"""The happenings of a FakeHost on a real host: one shell script each, under the same names.

A script acts on the first group, route or flow that it finds, as a FakeHost does, whatever is there
at the time; the campaign's faults (tests/functional/campaign) choose theirs by a seed instead.
$device, $own, $vtep, $datapath, $vxlan, $patch and $metric are set.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovs_mcast.testing import Happening

# No link-local address: its route comes some time later, at which Open vSwitch looks at all routes.
QUIET = """
for one in default $device; do echo 1 >/proc/sys/net/ipv6/conf/$one/addr_gen_mode; done
ip -6 address flush dev $device scope link"""
FUNCTIONS = """
readdress() { for one in $own; do case $one in
    *:*) ip address replace $one dev $device nodad;; *) ip address replace $one dev $device;;
esac; done; }
"""
_ON = """
ovs-vsctl br-exists br-mcast || exit 0
flood=$(ovs-ofctl -OOpenFlow14 --no-stats dump-flows br-mcast table=30 | grep -o 'dl_vlan=[0-9]*' \
    | sort | head -n 1)
[ -n "$flood" ] || exit 0
flood=table=30,$flood
ovs-ofctl -OOpenFlow14"""
# Two happenings are no scripts: vswitchd-restarts and keeper-killed.
SCRIPTS: Mapping[Happening, str] = {
    "link-down": "ip link set $device down",
    "link-up": "ip link set $device up; readdress",
    "link-flap": "ip link set $device down; ip link set $device up; readdress",
    "address-deleted": """
        one=$(ip -o address show dev $device | grep -Eo '[0-9.]+ peer 239[^ ]*|(239|ff05)[^ ]*' \
            | sort | head -n 1)
        [ -z "$one" ] || ip address del $one dev $device""",
    "route-deleted": """
        one=$(ip route show dev $device | grep -o '^239[^ ]*' | sort | head -n 1)
        [ -z "$one" ] || ip route del $one dev $device table main
        one=$(ip -6 route show table local dev $device proto 109 | grep -o '^ff05[^ ]*' \
            | sort | head -n 1)
        [ -z "$one" ] || ip -6 route del $one dev $device table local metric $metric""",
    "local-route-back": """
        one=$(ip -o -4 address show dev $device | grep -o 'inet 239[^/]*' | sort | head -n 1)
        [ -z "$one" ] || ip route replace local ${one#inet } dev $device table local \
            proto kernel scope host src ${one#inet }
        one=$(ip -o -6 address show dev $device | grep -o 'inet6 ff05[^/]*' | sort | head -n 1)
        [ -z "$one" ] || ip -6 route replace local ${one#inet6 } dev $device table local \
            proto kernel metric 0""",
    "vtep-deleted": "for one in $own; do ip address del $one dev $device; done",
    "vtep-back": "readdress",
    "flows-deleted": f"{_ON} del-flows br-mcast",
    "flow-deleted": f"{_ON} del-flows br-mcast $flood",
    "flow-changed": f"{_ON} mod-flows br-mcast $flood,actions=drop",
    "port-deleted": "ovs-vsctl --if-exists del-port $vxlan",
    "patch-deleted": "ovs-vsctl --if-exists del-port $patch",
    "bridge-deleted": "ovs-vsctl --if-exists del-br br-mcast",
    "underlay-replaced": """
        if [ $device = eth0 ]; then
            ip link del eth0; ip link add eth0 mtu 1600 type veth peer name far; ip link set far up
        else
            mac=$(cat /sys/class/net/$device/address)
            ovs-vsctl del-br $device
            ovs-vsctl add-br $device -- set bridge $device datapath_type=netdev \
                other-config:hwaddr=\\"$mac\\" -- add-port $device eth0 \
                -- set interface $device mtu_request=1600
        fi
        echo 0 >/proc/sys/net/ipv6/conf/$device/disable_ipv6
        ip link set $device up; readdress""",
}
