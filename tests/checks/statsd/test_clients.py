"""The packets of two client libraries, every call of them, over each kind of socket."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import aiodogstatsd
import pytest

with_datadog = pytest.importorskip("datadog.dogstatsd.base")

from checks.statsd.parts import Came, Line, came, listening  # noqa: E402

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DD_")]:
        monkeypatch.delenv(name)


def client(**options: Any) -> Any:
    return with_datadog.DogStatsd(
        disable_telemetry=True, disable_background_sender=True, origin_detection_enabled=False, **options
    )


def every_call(statsd: Any) -> None:
    """Each method that sends something."""
    statsd.gauge("gauge", 1.5, tags=["a:1"])
    statsd.gauge_with_timestamp("gauge.past", 7, NOW, tags=["a:1"])
    statsd.count("count", 3)
    statsd.count_with_timestamp("count.past", 4, NOW)
    statsd.increment("up")
    statsd.increment("up", 2, tags=["b"])
    statsd.decrement("down", 5)
    statsd.histogram("histogram", 12.5)
    statsd.histogram("histogram", 12.5, cardinality="high")
    statsd.distribution("distribution", 99)
    statsd.timing("timing", 250)
    statsd.set("set", "user-1")
    statsd.set("set", "user-2")
    with statsd.timed("timed", use_ms=True):
        pass
    with statsd.distributed("distributed"):
        pass
    statsd.event("title: ü", "two\nlines | bar", alert_type="error", aggregation_key="key", source_type_name="nagios",
                 date_happened=NOW, priority="low", tags=["a:1"], hostname="other")  # fmt: skip
    statsd.event("short", "")
    statsd.service_check("check", 2, tags=["a:1"], timestamp=NOW, hostname="other", message="m: two\nlines")
    statsd.service_check("check.ok", 0)
    statsd.flush()


def expect_every_call(found: Came) -> None:
    """What these calls mean."""
    assert len(found.metrics.pop(("histogram", "timed", (), None))) == 1
    assert len(found.metrics.pop(("distribution", "distributed", (), None))) == 1
    assert found.metrics == {
        ("gauge", "gauge", ("a:1",), None): 1.5,
        ("gauge", "gauge.past", ("a:1",), NOW): 7,
        ("count", "count", (), None): 3,
        ("count", "count.past", (), NOW): 4,
        ("count", "up", (), None): 1,
        ("count", "up", ("b",), None): 2,
        ("count", "down", (), None): -5,
        ("histogram", "histogram", (), None): Counter({12.5: 2}),
        ("distribution", "distribution", (), None): Counter({99.0: 1}),
        ("histogram", "timing", (), None): Counter({250.0: 1}),
        ("set", "set", (), None): {"user-1", "user-2"},
    }
    assert found.events[:2] == [
        (
            "title: ü",
            "two\nlines | bar",
            "error",
            "key",
            ("a:1", "host:other", "priority:low", "source_type:nagios"),
            NOW,
        ),
        ("short", "", "info", "", (), None),
    ]
    assert found.statuses[:2] == [
        ("check", 2, "m: two\nlines", ("a:1", "host:other"), NOW),
        ("check.ok", 0, "", (), None),
    ]
    assert found.own["malformed"] == 0


async def test_every_call_of_the_datadog_library_over_udp() -> None:
    async with listening() as line:
        statsd = client(host="127.0.0.1", port=line.serving.check.port)
        await asyncio.to_thread(every_call, statsd)
        found = await _whole(line, 13, events=2)
        statsd.stop()
    expect_every_call(found)


@pytest.mark.parametrize(("option", "scheme"), [("socket", "unixgram"), ("stream_socket", "unixstream")])
async def test_and_over_unix_sockets(option: str, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    async with listening(listen=None, **{option: str(path)}) as line:
        statsd = client(socket_path=f"{scheme}://{path}")
        statsd.set_socket_timeout(10)  # a unix socket may have room for ten datagrams only
        await asyncio.to_thread(every_call, statsd)
        found = await _whole(line, 13, events=2)
        await asyncio.to_thread(statsd.stop)
    expect_every_call(found)
    assert found.own[f"packets listener:{scheme}"] > 0


async def test_the_library_may_aggregate_and_pack_itself() -> None:
    async with listening() as line:
        statsd = client(host="127.0.0.1", port=line.serving.check.port)
        statsd.enable_aggregation(max_samples_per_context=10)
        for number in range(100):
            statsd.increment("hits", tags=["a:1"])
            statsd.histogram("latency", number % 5)
            statsd.set("users", f"u-{number % 7}")
        statsd.disable_aggregation()
        statsd.flush()
        statsd.stop()
        found = await _whole(line, 3)
    assert found.value("hits") == 100
    assert found.value("users") == {f"u-{number}" for number in range(7)}
    kept = found.value("latency")
    assert 5 <= kept.total() <= 110  # the client keeps ten of them, and says how many they stand for
    assert set(kept) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert found.own["malformed"] == 0


async def test_constant_tags_namespace_rates_and_telemetry_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_ENV", "prod")
    monkeypatch.setenv("DD_SERVICE", "pay")
    async with listening() as line:
        statsd = with_datadog.DogStatsd(
            host="127.0.0.1", port=line.serving.check.port, namespace="shop", constant_tags=["team:x"],
            container_id="0123abc", disable_background_sender=True, telemetry_min_flush_interval=0,
        )  # fmt: skip
        for _ in range(50):
            statsd.increment("hits", sample_rate=1)
        statsd.flush()
        statsd.increment("last")
        statsd.flush()
        statsd.stop()
        found = await _whole(line, 3)
    assert found.metrics["count", "shop.hits", ("env:prod", "service:pay", "team:x"), None] == 50
    assert any(name.startswith("datadog.dogstatsd.client.") for name in found.names())
    assert found.own["malformed"] == 0


async def test_every_call_of_aiodogstatsd() -> None:
    async with listening() as line:
        async with aiodogstatsd.Client(
            host="127.0.0.1",
            port=line.serving.check.port,
            namespace="shop",
            constant_tags={"team": "x"},
            read_timeout=0.01,
        ) as statsd:
            statsd.gauge("gauge", value=1.5, tags={"a": "1"})
            statsd.increment("up")
            statsd.increment("up", value=2)
            statsd.decrement("down", value=5)
            statsd.histogram("histogram", value=12.5)
            statsd.distribution("distribution", value=99)
            statsd.timing("timing", value=250)
            with statsd.timeit("timeit"):
                pass
        found = await _whole(line, 7)
    assert len(found.metrics.pop(("histogram", "shop.timeit", ("team:x",), None))) == 1
    assert found.metrics == {
        ("gauge", "shop.gauge", ("a:1", "team:x"), None): 1.5,
        ("count", "shop.up", ("team:x",), None): 3,
        ("count", "shop.down", ("team:x",), None): -5,
        ("histogram", "shop.histogram", ("team:x",), None): Counter({12.5: 1}),
        ("distribution", "shop.distribution", ("team:x",), None): Counter({99.0: 1}),
        ("histogram", "shop.timing", ("team:x",), None): Counter({250.0: 1}),
    }
    assert found.own["malformed"] == 0


async def _whole(line: Line, series: int, events: int = 0) -> Came:
    """What came, once so many series and events have; more would be a mistake, which what comes next shows."""

    def there(_: Any) -> bool:
        found = came(line.serving.batches)
        return len(found.metrics) >= series and len(found.events) >= events

    await line.serving.wait_for(there, 20)
    return await line.all(0)
