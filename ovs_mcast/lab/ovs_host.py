"""A host of the lab with an Open vSwitch of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal, NamedTuple

from .namespace import RUNDIR, Namespace, link_batch, patient, wait_until
from .nodes import NIC, NewWorkload, Workload, add_addresses

# netdev: the userspace datapath, which every machine has. kernel: that of openvswitch.ko. dummy:
# ovs-vswitchd runs with --enable-dummy=system, and its ports carry no frames.
Kind = Literal["netdev", "kernel", "dummy"]

UNDERLAY_BRIDGE = "br-phy"
INTEGRATION_BRIDGE = "br-int"

# The checkout or site-packages that this module came from, so that hosts run the same code.
_SETUP_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

_TIMEOUT = patient(20)
_START_VSWITCHD = "ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:err"
_START_OVSDB = (
    f"ovsdb-server --remote=punix:{RUNDIR}/db.sock --pidfile --detach --no-chdir --log-file"
    " -vconsole:err"
)
_HOST_SCRIPT = f"""
ovsdb-tool create
{_START_OVSDB}
ovs-vsctl --no-wait --timeout={_TIMEOUT:.0f} init
"""


class SetupRun(NamedTuple):
    """The outcome of `setup` on a host; ``report`` is its JSON document, {} if it printed none."""

    status: int
    report: Any
    stderr: str


class OvsHost(Namespace):
    """A host with its own ovsdb-server and ovs-vswitchd.

    The underlay address is on eth0; with the userspace datapath on br-phy, which holds eth0.
    """

    def __init__(
        self, name: str, addresses: Sequence[str], new_workload: NewWorkload, *, kind: Kind
    ) -> None:
        dummy = " --enable-dummy=system" if kind == "dummy" else ""
        self._start_vswitchd = f"{_START_VSWITCHD}{dummy}"
        super().__init__(name, f"{_HOST_SCRIPT}{self._start_vswitchd}")
        self._new_workload = new_workload
        self.addresses = tuple(addresses)
        self.kind = kind
        self.datapath = "netdev" if kind == "netdev" else "system"
        self.underlay = UNDERLAY_BRIDGE if kind == "netdev" else NIC

    @property
    def vtep(self) -> str:
        """Return the first address of the underlay device, without its prefix length."""
        return self.addresses[0].partition("/")[0]

    def start(self) -> None:
        """Configure the NIC: on br-phy if the datapath is in userspace, else as it is."""
        self.run("sh", "-ec", f"ethtool -K {NIC} tx off >/dev/null; ip link set {NIC} up")
        if self.kind == "netdev":
            # The NIC's own stack must not answer ARP for br-phy's address: see README.
            self.run("sh", "-ec", f"echo 1 >/proc/sys/net/ipv4/conf/{NIC}/arp_ignore")
            mtu = self.path(f"/sys/class/net/{NIC}/mtu").read_text().strip()
            self.vsctl(
                *f"add-br {UNDERLAY_BRIDGE} -- set bridge {UNDERLAY_BRIDGE} datapath_type=netdev"
                f" -- add-port {UNDERLAY_BRIDGE} {NIC}"
                f" -- set interface {UNDERLAY_BRIDGE} mtu_request={mtu}".split()
            )
        self._address_underlay()

    def setup(self, *arguments: str, timeout: float = 120.0) -> SetupRun:
        """Run `setup` on this host with these arguments and ``--json``, to its end.

        The host's ``--underlay`` and ``--datapath`` are added unless the arguments have
        ``--underlay``, ``--config`` or ``--teardown``.
        """
        command = self._setup_command(arguments)
        done = self.run(*command, env=_SETUP_ENVIRONMENT, timeout=timeout, check=False)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            report = {}
        return SetupRun(done.returncode, report, done.stderr)

    def start_setup(self, *arguments: str) -> Popen[str]:
        """Start `setup` with these arguments; for tests that end it, or run two at once."""
        return self.popen(*self._setup_command(arguments), env=_SETUP_ENVIRONMENT)

    def vsctl(self, *arguments: str) -> str:
        """Return the output of ovs-vsctl; raise UnavailableError with its message if it fails."""
        return self.run("ovs-vsctl", f"--timeout={_TIMEOUT:.0f}", *arguments).stdout

    def ofctl(self, *arguments: str) -> str:
        """Return the output of ovs-ofctl, speaking OpenFlow 1.4."""
        return self.run("ovs-ofctl", "--protocols=OpenFlow14", *arguments).stdout

    def appctl(self, *arguments: str) -> str:
        """Return the answer of ovs-vswitchd to a command of ovs-appctl."""
        return self.run("ovs-appctl", f"--timeout={_TIMEOUT:.0f}", *arguments).stdout

    def stop_vswitchd(self, signal: str = "KILL") -> None:
        """End ovs-vswitchd by ``signal``, and wait until the process is gone."""
        self._stop("ovs-vswitchd", signal)

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd again, and restore the underlay's addresses."""
        self.run("sh", "-ec", self._start_vswitchd)
        self._address_underlay()

    def stop_ovsdb(self, signal: str = "KILL") -> None:
        """End ovsdb-server by ``signal``, and wait until the process is gone."""
        self._stop("ovsdb-server", signal)

    def start_ovsdb(self) -> None:
        """Start ovsdb-server again, with its old database."""
        self.run("sh", "-ec", _START_OVSDB)

    def add_workload(
        self, *, vlan: int | None = None, vni: int | None = None, mac: str = ""
    ) -> Workload:
        """Plug a new workload into br-int, created if missing, as an access port of the VLAN.

        Without a VLAN its port is a trunk. ``vni`` is its segment, by default the VLAN's number.
        """
        workload = self._new_workload(self.name, vlan or 0 if vni is None else vni, mac)
        link_batch(
            [
                f"link add {workload.port} type veth peer name {NIC} address {workload.mac}"
                f" netns {workload.pid}",
                f"link set {workload.port} mtu {workload.mtu} up",
            ],
            within=self,
        )
        workload.start()
        self.vsctl(
            *f"--may-exist add-br {INTEGRATION_BRIDGE}"
            f" -- set bridge {INTEGRATION_BRIDGE} datapath_type={self.datapath}"
            f" -- add-port {INTEGRATION_BRIDGE} {workload.port}"
            f"{'' if vlan is None else f' tag={vlan}'}".split()
        )
        return workload

    def _address_underlay(self) -> None:
        device = self.underlay
        if self.kind == "netdev":
            self.run("sh", "-ec", f"ethtool -K {device} tx off >/dev/null")
        add_addresses(self, device, self.addresses)

    def _stop(self, daemon: str, signal: str) -> None:
        process = self.path(f"{RUNDIR}/{daemon}.pid").read_text().strip()
        self.run("kill", f"-{signal}", process)
        alive = self.path(f"/proc/{process}")
        wait_until(lambda: not alive.exists(), f"{self.name}: {daemon} still runs", timeout=20)

    def _setup_command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        own = {"--underlay", "--config", "--teardown"} & {part.split("=")[0] for part in arguments}
        given = () if own else ("--underlay", self.underlay, "--datapath", self.datapath)
        return (sys.executable, "-P", "-m", "ovs_mcast.setup", *given, *arguments, "--json")
