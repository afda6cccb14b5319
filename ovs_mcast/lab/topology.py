"""Several hosts on one machine, on one multicast-snooping switch; removed when the lab ends.

workload ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─┐
workload ─ br-int ═ br-mcast ─ vxlan ─ br-phy ─ eth0 ─┤ switch (Linux bridge, snooping)
workload ─ vxlan ──────────────────────────── eth0 ───┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Self, TypeVar

from ..adapters.packet_socket import PacketSocket
from ..core.closeable import Closeable
from ..errors import ConfigurationError
from .capture import Capture
from .namespace import Namespace
from .nodes import LinuxHost, Switch, Workload
from .ovs_host import Kind, OvsHost
from .requirements import check_kernel_datapath, check_requirements

# Addresses are 10.0.0.1 to 10.0.0.250, or fd00::1 to fd00::fa.
HOSTS_MAX = 250
_WORKLOAD_MTU = 1500
# Outer IPv6, UDP, VXLAN and inner Ethernet headers, in bytes.
_VXLAN_OVERHEAD = 70
_T = TypeVar("_T")
_R = TypeVar("_R")
_Machine = TypeVar("_Machine", bound=Namespace)


class Lab(Closeable):
    """The lab, a context that leaves nothing behind.

    ``mtu`` is the underlay's, in bytes; the default lets the overlay carry 1500. ``kind`` is the
    default for hosts. ``family`` is that of the hosts' addresses, 4 or 6; with 6 the switch snoops
    MLD too. The lab ends with this process, by any signal. Entering raises UnavailableError if the
    machine lacks the privilege, a program or the kernel's module.
    """

    switch: Switch

    def __init__(self, *, mtu: int = 1600, kind: Kind = "netdev", family: int = 4) -> None:
        self.mtu = mtu
        self.kind = kind
        self.family = family
        self.hosts: list[OvsHost] = []
        self.linux_hosts: list[LinuxHost] = []
        self.workloads: list[Workload] = []
        self._machines: list[Namespace] = []
        self._host_numbers = count(1)
        self._linux_numbers = count(1)
        self._addresses = count(1)
        self._workload_numbers = count(1)

    def __enter__(self) -> Self:
        check_requirements()
        try:
            self.switch = self._started(Switch(self.mtu, self.family))
            self.switch.wait_until_snooping()
        except BaseException:
            self.close()
            raise
        return self

    def add_host(self, *, kind: Kind | None = None, addresses: Sequence[str] = ()) -> OvsHost:
        """Return a new host with Open vSwitch; ``addresses`` have a prefix length."""
        return self._start_hosts([self._new_host(kind, addresses)])[0]

    def add_hosts(self, number: int, *, kind: Kind | None = None) -> list[OvsHost]:
        """Return several new hosts with Open vSwitch, started at the same time."""
        return self._start_hosts([self._new_host(kind) for _ in range(number)])

    def add_linux_host(self, *, addresses: Sequence[str] = ()) -> LinuxHost:
        """Return a new host without Open vSwitch; ``addresses`` as for `add_host`."""
        name = f"l{next(self._linux_numbers)}"
        host = LinuxHost(name, addresses or self._next_address(), self._new_workload)
        self.linux_hosts.append(self._started(host))
        self.switch.plug([host])
        host.start()
        return host

    def capture(
        self, machine: Namespace, device: str, decode: Callable[[bytes], _T | None]
    ) -> Capture[_T]:
        """Capture the frames of a device, both directions, from now on; return them decoded.

        The switch's port to a host has the host's name. ``decode`` returns None for frames to be
        ignored; `frames.decode_vxlan` decodes VXLAN.
        """
        return Capture(PacketSocket(device, namespace=machine.pid, outgoing=True), decode)

    def close(self) -> None:
        """End every machine of the lab; return once all their processes have ended."""
        for machine in self._machines:
            machine.release()
        while self._machines:
            self._machines.pop().close()

    def _new_host(self, kind: Kind | None, addresses: Sequence[str] = ()) -> OvsHost:
        kind = kind or self.kind
        if kind == "kernel":
            check_kernel_datapath()
        name = f"h{next(self._host_numbers)}"
        host = OvsHost(name, addresses or self._next_address(), self._new_workload, kind=kind)
        self.hosts.append(self._started(host))
        return host

    def _start_hosts(self, hosts: list[OvsHost]) -> list[OvsHost]:
        self.switch.plug(hosts)
        in_parallel(OvsHost.start, hosts)
        return hosts

    def _new_workload(self, host: str, vni: int, mac: str) -> Workload:
        name = f"{host}-{vni}"
        again = sum(w.host == host and w.vni == vni for w in self.workloads)
        workload = self._started(
            Workload(
                f"{name}-{again + 1}" if again else name,
                host=host,
                vni=vni,
                number=next(self._workload_numbers),
                mtu=min(_WORKLOAD_MTU, self.mtu - _VXLAN_OVERHEAD),
                mac=mac,
            )
        )
        self.workloads.append(workload)
        return workload

    def _next_address(self) -> tuple[str]:
        number = next(self._addresses)
        if number > HOSTS_MAX:
            raise ConfigurationError(f"the lab has addresses for {HOSTS_MAX} hosts", field="hosts")
        return (f"10.0.0.{number}/24",) if self.family == 4 else (f"fd00::{number:x}/64",)

    def _started(self, machine: _Machine) -> _Machine:
        self._machines.append(machine)
        return machine


def in_parallel(act: Callable[[_T], _R], on: Iterable[_T]) -> list[_R]:
    """Return the results in order, each from its own thread. The first failure is raised."""
    threads = ThreadPoolExecutor(max_workers=16)
    try:
        return list(threads.map(act, on))
    finally:
        # If cut short, do not wait: commands still running end with their machine.
        threads.shutdown(wait=False, cancel_futures=True)
