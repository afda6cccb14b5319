"""The agent's metrics, scraped over HTTP, and its log for programs; with the unit's privileges.

h1 (Open vSwitch, agent; h1-100) ─ switch ─ l1 (Linux vxlan; l1-100)
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ovs_mcast.core.frames import decode_udp
from ovs_mcast.lab import Host, Lab
from ovs_mcast.probe.protocol import Kind, parse

from .test_operating import service
from .wire import eventually, frame

pytestmark = pytest.mark.needs("root", "ovs-vswitchd", "ovsdb-server", "ip", "ethtool", "nsenter")

_PACKAGE = {"PYTHONPATH": str(Path(__file__).parents[2])}
_COMMAND = (sys.executable, "-m", "ovs_mcast.agent")
_WHERE = "127.0.0.1:9417"
_SCRAPE = (
    "import sys, urllib.request as r;"
    "sys.stdout.buffer.write(r.urlopen(f'http://{sys.argv[1]}/metrics', timeout=20).read())"
)
_TAKEN = (
    "import socket, subprocess, sys;"
    "taken = socket.create_server(('127.0.0.1', 9417));"
    "sys.exit(subprocess.run(sys.argv[1:]).returncode)"
)


def configured(host: Host, directory: Path, ttl: int = 64) -> str:
    """A file that wants two segments."""
    wanted = {
        "datapath": host.datapath,
        "underlay": {"device": host.underlay, "ttl": ttl},
        "segments": [{"vni": 100, "group": "239.0.0.1"}, {"vni": 101, "group": "239.0.0.2"}],
    }
    path = directory / "overlay.json"
    path.write_text(json.dumps(wanted))
    return str(path)


def scraped(host: Host, where: str = _WHERE) -> dict[str, float]:
    """Each sample by its name and labels, less `overlay`; empty without a server."""
    done = host.run(sys.executable, "-c", _SCRAPE, where, check=False)
    samples = {}
    for family in text_string_to_metric_families(done.stdout):
        for sample in family.samples:
            labels = sorted(item for item in sample.labels.items() if item[0] != "overlay")
            text = ",".join("=".join(item) for item in labels)
            samples[f"{sample.name.removeprefix('ovs_mcast_')}{{{text}}}"] = sample.value
    return samples


def comes_to(host: Host, **wanted: float) -> bool:
    """Return True once samples without labels have these values."""

    def there() -> bool:
        seen = scraped(host)
        return all(seen.get(f"{name}{{}}") == value for name, value in wanted.items())

    return eventually(there, seconds=40)


@contextmanager
def agent(host: Host, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """An agent, until SIGTERM, which ends it with status 0; then the lines that it wrote."""
    wrote: list[str] = []
    process = host.popen(*before, *_COMMAND, *arguments, env=_PACKAGE)
    try:
        yield wrote
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        wrote += process.communicate(timeout=30)[1].splitlines()
        assert process.returncode == 0, wrote
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.timeout(240)
def test_a_scrape_shows_what_is_kept_also_without_open_vswitch(lab: Lab, tmp_path: Path) -> None:
    """Counters are those of the frames that were sent; without ovs-vswitchd the rest is answered.

    h1 (agent --metrics; h1-100 broadcasts 3) ─ switch ─ l1 (l1-100 broadcasts 5)
    """
    host, linux = lab.add_host(), lab.add_linux_host()
    mine, theirs = host.add_workload(vlan=100), linux.add_segment(vni=100, group="239.0.0.1")
    log = ("--log", "json")
    with agent(host, "--config", configured(host, tmp_path), "--metrics", _WHERE, *log) as wrote:
        assert comes_to(host, healthy=1, segments_wanted=2, segments_in_place=2)
        for sender, frames in ((mine, 3), (theirs, 5)):
            for _ in range(frames):
                sender.send(frame(sender.mac))
        sent, received = (
            f"bum_packets_total{{direction={way},vni=100}}" for way in ("sent", "received")
        )

        def counted() -> bool:
            seen = scraped(host)
            return (seen[sent], seen[received], seen["learned_macs{vni=100}"]) == (3, 5, 1)

        assert eventually(counted), scraped(host)
        assert scraped(host)["received_bytes_total{vni=100}"] == 5 * 60
        host.stop_vswitchd()
        assert comes_to(host, healthy=0, open_vswitch_up=0, segments_wanted=2, segments_in_place=0)
        host.start_vswitchd()
        assert comes_to(host, healthy=1, open_vswitch_up=1, segments_in_place=2)
        assert scraped(host)["failures_total{error=UnavailableError}"] >= 1
    assert scraped(host) == {}, "it serves on after its end"
    records: list[dict[str, Any]] = [json.loads(line) for line in wrote]
    assert (records[0]["event"], records[-1]["event"]) == ("configured", "ended")
    assert {"failed", "reconciled"} <= {one["event"] for one in records}
    failures = [one["message"] for one in records if one["event"] == "failed"]
    assert len(failures) < 10, failures


def test_where_it_cannot_serve_it_reports_that_and_touches_nothing(
    lab: Lab, tmp_path: Path
) -> None:
    """An invalid address: 2, with the option's name; a taken port: 5.

    h1 (agent --metrics)
    """
    host = lab.add_host(kind="dummy")
    config = configured(host, tmp_path)
    for where, status in (("localhost:1", 2), ("127.0.0.1", 2), ("192.0.2.1:9417", 5)):
        done = host.run(
            *_COMMAND, "--config", config, "--metrics", where, env=_PACKAGE, check=False
        )
        assert (done.returncode, "--metrics" in done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr
    taken = host.run(
        sys.executable, "-c", _TAKEN, *_COMMAND, "--config", config, "--metrics", _WHERE,
        env=_PACKAGE, check=False,
    )  # fmt: skip
    assert taken.returncode == 5, taken.stderr
    assert f"--metrics {_WHERE}: another program listens there: choose" in taken.stderr
    assert "br-mcast" not in host.vsctl("list-br")


def test_it_serves_ipv6(lab: Lab, tmp_path: Path) -> None:
    """An address in brackets is served, and no IPv4 address with it; it ends with the agent.

    h1 (agent --metrics [::1]:9417)
    """
    host = lab.add_host(kind="dummy")
    given = ("--config", configured(host, tmp_path), "--metrics", "[::1]:9417")
    with agent(host, *given):
        assert eventually(lambda: scraped(host, "[::1]:9417").get("healthy{}") == 1, seconds=40)
        assert scraped(host) == {}
    assert scraped(host, "[::1]:9417") == {}


def test_the_agent_needs_no_more_than_the_unit_gives_it(lab: Lab, tmp_path: Path) -> None:
    """With the capabilities of the systemd unit the agent builds an overlay and repairs it.

    h1 (agent in a bounding set)
    """
    host = lab.add_host()
    names = service()["CapabilityBoundingSet"].split()
    bounds = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    within = ("setpriv", f"--bounding-set=-all,{bounds}", "--no-new-privs", "--")
    given = ("--config", configured(host, tmp_path), "--metrics", _WHERE)
    with agent(host, *given, before=within):
        assert comes_to(host, healthy=1, segments_in_place=2)
        host.ofctl("del-flows", "br-mcast", "table=30")
        host.run("ip", "route", "del", "239.0.0.1", "dev", host.underlay)
        assert eventually(lambda: "changes_total{action=add,kind=route}" in scraped(host))
        assert comes_to(host, healthy=1, segments_in_place=2)


def test_probes_tell_loss_from_absence(lab: Lab, tmp_path: Path) -> None:
    """A host that answers has a round-trip time and no loss; after its end questions are lost.

    Questions to the group have the overlay's TTL.

    h1 (agent --probe) ─ switch ─ l1 (probe respond)
    """
    host, linux = lab.add_host(kind="dummy"), lab.add_linux_host()
    labels = f"group=239.0.0.1,responder={linux.vtep}"

    def value(name: str) -> float:
        return scraped(host).get(f"{name}{{{labels}}}", 0.0)

    def question(seen: bytes) -> int | None:
        datagram = decode_udp(seen)
        if datagram is None or datagram.destination != "239.0.0.1":
            return None
        message = parse(datagram.payload)
        return datagram.ttl if message is not None and message.kind == Kind.QUESTION else None

    given = ("--config", configured(host, tmp_path, 3), "--metrics", _WHERE, "--probe", "0.2")
    responding = ("respond", "--device", "eth0", "--group", "239.0.0.1")
    with agent(host, *given), lab.capture(linux, "eth0", question) as ttls:
        probe = linux.popen(sys.executable, "-m", "ovs_mcast.probe", *responding, env=_PACKAGE)
        try:
            assert eventually(lambda: value("probe_round_trip_seconds") > 0, seconds=40)
        finally:
            os.killpg(probe.pid, signal.SIGKILL)
            probe.communicate()
        assert set(ttls.seen()) == {3}
        before = value("probes_lost_total")
        assert eventually(lambda: value("probes_lost_total") > before, seconds=40)
    refused = host.run(*_COMMAND, *given[:2], "--probe", "5", env=_PACKAGE, check=False)
    assert (refused.returncode, "--probe" in refused.stderr) == (2, True), refused.stderr
