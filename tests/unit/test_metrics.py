"""The agent's notifications become metrics, by Prometheus' conventions, served over HTTP."""

from __future__ import annotations

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ovs_mcast.agent import metrics_server
from ovs_mcast.agent.flow_metrics import FlowMetrics
from ovs_mcast.agent.metrics import Metrics
from ovs_mcast.agent.metrics_server import MetricsServer, parse_address
from ovs_mcast.agent.observer import FailureStreak
from ovs_mcast.core import ownership
from ovs_mcast.core.changes import Change
from ovs_mcast.core.items import Bridge, Route
from ovs_mcast.core.model import Overlay, Segment
from ovs_mcast.core.status import SegmentStatus, Status
from ovs_mcast.errors import ConfigurationError, UnavailableError
from ovs_mcast.probe.reachability import Delivery, Reachability, Responder, RoundTrip
from tests.functional.wire import eventually

LOOPBACK = ("127.0.0.1", 0)
OVERLAY = Overlay(
    underlay={"device": "eth0"},
    segments=[Segment(vni=100, group="239.0.0.1"), Segment(vni=101, group="239.0.0.2")],
)
STATUS = Status(
    "default",
    verified=True,
    segments={
        100: SegmentStatus(100, "239.0.0.1", "socket", "wire"),
        101: SegmentStatus(101, "239.0.0.2", "socket", "wire"),
    },
)
_INFO = "group=239.0.0.2,joined_by=socket,send_path=wire,vlan=101,vni=101"
CHANGES = (
    Change("add", Bridge("br-mcast", "system"), "missing"),
    Change("add", Route("eth0", "239.0.0.1", None), "missing"),
    Change("add", Route("eth0", "239.0.0.2", None), "missing"),
)


def _line(vni: int, table: int, packets: int) -> str:
    cookie = ownership.cookie("default", vlan=vni, vni=vni)
    return (
        f" cookie={cookie:#x}, duration=1s, table={table}, n_packets={packets}, "
        f"n_bytes={packets * 60}, priority=1 actions=drop"
    )


_FROM_US = (
    f" cookie={ownership.cookie('default'):#x}, duration=1s, table=0, n_packets=7, n_bytes=700,"
    " priority=100,tun_src=10.0.0.1,in_port=2 actions=drop"
)


@dataclass
class Switch:
    """Flows as ovs-ofctl would print them; None where Open vSwitch is away."""

    lines: list[str] | None = field(
        default_factory=lambda: (
            [_line(vni, table, table + vni) for vni in (100, 101) for table in (10, 15, 30)]
            + [_FROM_US]
        )
    )
    dumps: int = 0

    def dump(self, overlay: Overlay) -> list[str] | None:
        self.dumps += 1
        return self.lines


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def metrics(switch: Switch) -> Iterator[Metrics]:
    flows = FlowMetrics(switch.dump, lambda device: frozenset({"239.0.0.1", "239.0.0.2"}))
    with_server = Metrics(LOOPBACK, flows)
    with_server.configured(OVERLAY)
    yield with_server
    with_server.ended()


def scraped(metrics: Metrics) -> dict[str, float]:
    """Each sample as `name{labels}`, the labels less `overlay`, without the process's own."""
    assert metrics._server is not None
    url = f"http://127.0.0.1:{metrics._server.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = {}
    for family in families:
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "overlay"}
            text = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
            samples[f"{sample.name}{{{text}}}"] = sample.value
    return samples


def test_a_successful_reconcile_is_counted(metrics: Metrics) -> None:
    metrics.event("link")
    metrics.reconciled(STATUS, 0.2, CHANGES)
    metrics.reconciled(STATUS, 0.1, ())
    seen = scraped(metrics)
    expected = {
        "ovs_mcast_segments_wanted{}": 2,
        "ovs_mcast_healthy{}": 1,
        "ovs_mcast_reconciles_total{result=changed}": 1,
        "ovs_mcast_reconciles_total{result=unchanged}": 1,
        "ovs_mcast_reconciles_total{result=failed}": 0,
        "ovs_mcast_changes_total{action=add,kind=bridge}": 1,
        "ovs_mcast_changes_total{action=add,kind=route}": 2,
        "ovs_mcast_events_total{kind=link}": 1,
        "ovs_mcast_segments{joined_by=socket,send_path=wire}": 2,
        "ovs_mcast_reconcile_duration_seconds_count{}": 2,
        "ovs_mcast_reconcile_duration_seconds_bucket{le=0.1}": 1,
    }
    assert {name: seen[name] for name in expected} == expected
    assert seen["ovs_mcast_last_success_timestamp_seconds{}"] > 1.7e9


def test_a_failed_reconcile_is_counted_by_its_class(metrics: Metrics) -> None:
    metrics.reconciled(STATUS, 0.1, ())
    metrics.failed(UnavailableError("Open vSwitch is away"), 0.5, FailureStreak(1, 0.5, 0.1))
    metrics.refused(ConfigurationError("no"))
    seen = scraped(metrics)
    assert seen["ovs_mcast_healthy{}"] == 0
    assert seen["ovs_mcast_failures_total{error=UnavailableError}"] == 1
    assert seen["ovs_mcast_reconciles_total{result=failed}"] == 1
    assert seen["ovs_mcast_configurations_refused_total{}"] == 1


def test_flows_are_counted_by_segment_and_direction(metrics: Metrics) -> None:
    metrics.reconciled(STATUS, 0.1, ())
    seen = scraped(metrics)
    expected = {
        "ovs_mcast_open_vswitch_up{}": 1,
        "ovs_mcast_segments_in_place{}": 2,
        "ovs_mcast_own_vtep_packets_total{}": 7,
        "ovs_mcast_bum_packets_total{direction=sent,vni=100}": 130,
        "ovs_mcast_bum_packets_total{direction=received,vni=100}": 110,
        "ovs_mcast_bum_bytes_total{direction=sent,vni=101}": 131 * 60,
        "ovs_mcast_received_packets_total{vni=101}": 116,
        "ovs_mcast_learned_macs{vni=100}": 0,
        "ovs_mcast_peers{vni=100}": 0,
        f"ovs_mcast_segment_info{{{_INFO}}}": 1,
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected


def test_a_segment_that_lacks_a_flow_or_its_group_is_not_in_place(switch: Switch) -> None:
    assert switch.lines is not None
    switch.lines = [line for line in switch.lines if "table=30" not in line or "65," not in line]
    flows = FlowMetrics(switch.dump, lambda device: frozenset({"239.0.0.1", "239.0.0.2"}))
    flows.wanted = OVERLAY
    found = {family.name: family.samples[0].value for family in flows.collect() if family.samples}
    assert found["ovs_mcast_segments_in_place"] == 1
    joined_no_group = FlowMetrics(switch.dump, lambda device: frozenset())
    joined_no_group.wanted = OVERLAY
    found = {one.name: one.samples[0].value for one in joined_no_group.collect() if one.samples}
    assert found["ovs_mcast_segments_in_place"] == 0


def test_a_scrape_without_open_vswitch_says_so(metrics: Metrics, switch: Switch) -> None:
    switch.lines = None
    seen = scraped(metrics)
    assert seen["ovs_mcast_open_vswitch_up{}"] == 0
    assert seen["ovs_mcast_segments_in_place{}"] == 0
    assert seen["ovs_mcast_segments_wanted{}"] == 2
    assert not [name for name in seen if "bum" in name]


def test_scrapes_at_once_take_one_dump(metrics: Metrics, switch: Switch) -> None:
    threads = [threading.Thread(target=scraped, args=(metrics,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert switch.dumps == 1


def test_probes_are_counted_for_a_bounded_number_of_responders(metrics: Metrics) -> None:
    trip = RoundTrip(1.0, 2.0, 3.0)
    for number in range(300):
        one = Responder(f"10.0.{number}.1", Delivery(5, 4, round_trip=trip), Delivery(5))
        metrics.probed(Reachability("239.0.0.1", "eth0", "10.0.0.1", "raw", 5, {one.address: one}))
    seen = scraped(metrics)
    sent = {name: value for name, value in seen.items() if "probes_sent_total" in name}
    assert len(sent) == 257
    assert sum(sent.values()) == 1500
    first = "{group=239.0.0.1,responder=10.0.0.1}"
    assert seen[f"ovs_mcast_probes_lost_total{first}"] == 1
    assert seen[f"ovs_mcast_probe_round_trip_seconds{first}"] == 0.002


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    """One prefix; a counter ends in _total; no unit but seconds and bytes; nothing unasked."""
    metrics.reconciled(STATUS, 0.2, CHANGES)
    for family in metrics.registry.collect():
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"ovs_mcast_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|kilobytes|count|total)$", family.name)
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith(("_total", "_created"))
            if family.name != "ovs_mcast_build":
                assert sample.labels["overlay"] == "default"


def test_two_in_one_process_do_not_meet(metrics: Metrics, switch: Switch) -> None:
    other = Metrics(None, FlowMetrics(switch.dump))
    other.event("link")
    assert "ovs_mcast_events_total{kind=link}" not in scraped(metrics)


def test_no_thread_and_no_socket_is_left(switch: Switch) -> None:
    """The end does not wait for a silent client; its thread ends with its connection."""
    before = set(threading.enumerate())  # a scrape of the test before may end meanwhile

    def added() -> set[threading.Thread]:
        return set(threading.enumerate()) - before

    with Metrics(LOOPBACK, FlowMetrics(switch.dump)) as served:
        assert served._server is not None
        port = served._server.port
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.send(b"GET ")
            assert eventually(lambda: len(added()) == 2)
            served.ended()
            assert len(added()) == 1
        assert eventually(lambda: not added(), seconds=4)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_taken_port_is_reported(switch: Switch) -> None:
    flows = FlowMetrics(switch.dump)
    with MetricsServer(LOOPBACK, Metrics(None, flows).registry) as first:
        with pytest.raises(UnavailableError, match=rf"--metrics 127.0.0.1:{first.port}: another"):
            Metrics(("127.0.0.1", first.port), flows)
        with pytest.raises(UnavailableError, match="no device has the address"):
            Metrics(("203.0.113.1", first.port), flows)


def test_it_listens_on_ipv6(switch: Switch) -> None:
    registry = Metrics(None, FlowMetrics(switch.dump)).registry
    with (
        MetricsServer(("::1", 0), registry) as server,
        urllib.request.urlopen(f"http://[::1]:{server.port}/", timeout=10) as answer,
    ):
        assert b"ovs_mcast_build_info" in answer.read()


def test_all_ipv6_addresses_are_not_those_of_ipv4(switch: Switch) -> None:
    """[::] serves IPv6 alone: 0.0.0.0 is another address to choose."""
    registry = Metrics(None, FlowMetrics(switch.dump)).registry
    with MetricsServer(("::", 0), registry) as server:
        address = ("127.0.0.1", server.port)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(address):
            pass


def test_idle_it_does_not_wake(switch: Switch) -> None:
    """The thread of an idle server does not run."""
    with MetricsServer(LOOPBACK, Metrics(None, FlowMetrics(switch.dump)).registry) as server:
        task = next(t for t in threading.enumerate() if t.name == "metrics").native_id
        url = f"http://127.0.0.1:{server.port}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
        assert eventually(lambda: rests(task))


def rests(task: int | None) -> bool:
    """Return True if a thread did not run for a second and a half."""
    status = Path(f"/proc/self/task/{task}/status")

    def switches() -> str:
        return next(one for one in status.read_text().splitlines() if one.startswith("voluntary"))

    before = switches()
    time.sleep(1.5)  # the time that is measured
    return switches() == before


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9417", ("127.0.0.1", 9417)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9417", ("::1", 9417)),
        ("[::]:65535", ("::", 65535)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "9417", ":9417", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
     "127.0.0.1:99999999999", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:٣", "::1:9417",
     "[127.0.0.1]:9417", "[::1:9417", "localhost:9417", "10.0.0.256:9417"],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_the_name_of_the_option(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--metrics: "):
        parse_address(text)


SLOW = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: "


def test_slow_clients_hold_few_threads_and_keep_nobody_out(switch: Switch) -> None:
    """Of a hundred that never end their request some stay, and a scrape passes."""
    registry = Metrics(None, FlowMetrics(switch.dump)).registry
    with MetricsServer(LOOPBACK, registry) as server, ExitStack() as stack:
        before = threading.active_count()
        for _ in range(100):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(SLOW)
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"ovs_mcast_healthy" in answer.read()
        assert threading.active_count() - before <= 16


def test_a_request_has_a_deadline(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends an octet now and then is left at the deadline for the whole request."""
    monkeypatch.setattr(metrics_server, "_TIMEOUT", 0.3)
    registry = Metrics(None, FlowMetrics(switch.dump)).registry
    with (
        MetricsServer(LOOPBACK, registry) as server,
        socket.create_connection(("127.0.0.1", server.port)) as slow,
    ):
        slow.settimeout(0.05)
        slow.sendall(SLOW)

        def is_left() -> bool:
            with suppress(TimeoutError):
                return slow.recv(1) == b""
            with suppress(OSError):
                slow.sendall(b"x")
                return False
            return True

        assert eventually(is_left)
