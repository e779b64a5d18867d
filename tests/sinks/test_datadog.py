"""The `datadog` sink against an intake that behaves as Datadog's does."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from servers import Certificates, free_port
from sinks.datadog_models import parsed
from sinks.intake import APP_KEY, HOUR, KEY, Intake, http_proxy, intake
from sinks.parts import HERE, batch, running, sample, until
from vedette import Batch, Diagnosis, Kind, Metric, Status
from vedette import outbox as outbox_module
from vedette.kit import Outcome, Sketch, Spool, retry_after
from vedette.metrics import Event, LogRecord, ServiceCheck
from vedette.outbox import Outbox, Receipt, supervise
from vedette.sink import Home
from vedette.sinks import datadog
from vedette.sinks.datadog import DatadogConfig, DatadogSink, breaker, clock, handover, lanes
from vedette.sinks.datadog.breaker import Breaker
from vedette.sinks.datadog.cut import Items
from vedette.sinks.datadog.queue import Queue
from vedette.spool.segment import Segment

pytestmark = pytest.mark.anyio
GAUGE, COUNT = Kind.GAUGE, Kind.COUNT
NOW = int(time.time()) - 60


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 50 ms instead of a second, pauses of at most 50 ms instead of a minute."""
    monkeypatch.setattr(datadog, "_GROUP", 0.05)
    monkeypatch.setattr(breaker, "_FIRST", 0.05)
    monkeypatch.setattr(breaker, "_LONGEST", 0.05)


@pytest.fixture
async def there() -> AsyncIterator[Intake]:
    async with intake() as made:
        yield made


def make(there: Intake | str, folder: Path | None, **options: Any) -> DatadogSink:
    url = there if isinstance(there, str) else there.url
    known = {"type": "datadog", "api_key": KEY, "base_url": url, "flush": 0.05, "timeout": 5, **options}
    sink = DatadogSink(DatadogConfig.model_validate(known))
    sink.home = Home(folder, HERE)
    return sink


async def send(sink: DatadogSink, *batches: Batch) -> None:
    async with running(sink) as outbox:
        for one in batches:
            outbox.put(one)


def said_by_sink(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("vedette")]


def level(number: int, at: float = NOW) -> Batch:
    return batch(sample("level", GAUGE, number), at=at)


def spooled(folder: Path, name: str = "datadog") -> tuple[int, Counter[Outcome]]:
    spool = Spool(folder / "spool" / name, 10**9)
    spool.open()
    try:
        return spool.left, Counter(spool.tally)
    finally:
        spool.close()


# What is sent


async def test_every_kind_in_its_place_as_the_api_describes_it(there: Intake, tmp_path: Path) -> None:
    now = int(time.time()) - 60  # of the last ten minutes: service checks are refused later
    sink = make(there, tmp_path)
    sink.catalog["mem"] = Metric("mem", GAUGE, "byte")
    sketch = Sketch(bins=((1.0, 1), (2.5, 4), (10.0, 95)), sum=961.0, min=1.0, max=10.5)
    logs = (LogRecord("paid", "warning", ("service:shop",), now + 0.25, {"amount": Decimal("12.30"), "status": 200}),)
    await send(
        sink,
        batch(sample("total", Kind.COUNTER, 100, "a:b"), sample("speed", Kind.RATE, 5), at=now),
        batch(
            sample("mem", GAUGE, 1024, "port:1"),
            sample("money", GAUGE, Decimal("12345678901234567890.10")),
            sample("hits", COUNT, 3),
            sample("total", Kind.COUNTER, 142, "a:b"),
            sample("speed", Kind.RATE, 30),
            sample("took", Kind.HISTOGRAM, 3.0),
            sample("took", Kind.HISTOGRAM, 5.0),
            sample("spread", Kind.HISTOGRAM, sketch),
            sample("latency", Kind.DISTRIBUTION, 12.5, "host:other"),
            sample("latency", Kind.DISTRIBUTION, 3, "host:other"),
            sample("users", Kind.SET, "anna"),
            sample("users", Kind.SET, "bob"),
            sample("users", Kind.SET, "anna"),
            sample("mem", GAUGE, 7, "port:1", at=now - 300.0),
            statuses=(ServiceCheck("redis.can_connect", Status.CRITICAL, "refused", ("port:1",)),),
            events=(Event("Failover", "x" * 5000, "error", "key", ("a:b",)),),
            logs=logs,
            at=now + 10,
        ),
    )
    for one in there.taken:
        parsed(one.path, one.body)
    key = "host", HERE
    found = {
        (one["metric"], one["type"], one["points"][0]["timestamp"] - now): one["points"][0]["value"]
        for body in there.bodies("series")
        for one in body["series"]
    }
    assert found == {
        ("mem", 3, 10): 1024, ("mem", 3, -300): 7, ("money", 3, 10): 1.2345678901234567e19, ("hits", 1, 10): 3,
        ("total", 1, 10): 42, ("speed", 3, 10): 2.5, ("users", 3, 10): 2,
        ("took.avg", 3, 10): 4, ("took.median", 3, 10): 3, ("took.95percentile", 3, 10): 5, ("took.max", 3, 10): 5,
        ("took.count", 1, 10): 2,
        ("spread.avg", 3, 10): 9.61, ("spread.median", 3, 10): 10, ("spread.95percentile", 3, 10): 10,
        ("spread.max", 3, 10): 10.5, ("spread.count", 1, 10): 100,
    }  # fmt: skip
    mem = there.series("mem")[0]
    assert (mem["unit"], mem["tags"], mem["resources"]) == ("byte", ["port:1"], [{"name": HERE, "type": key[0]}])
    assert there.series("hits")[0]["interval"] == there.series("total")[0]["interval"] == 10
    assert b'"value":12345678901234567890.10}' in b"".join(there.raw_seen)
    (spread,) = there.bodies("distribution_points")
    assert [(one["metric"], one["host"], one["points"]) for one in spread["series"]] == [
        ("latency", "other", [[now + 10, [3, 12.5]]])
    ]
    assert there.bodies("check_run") == [
        [{"check": "redis.can_connect", "status": 2, "host_name": HERE, "timestamp": now + 10, "message": "refused",
          "tags": ["port:1"]}]
    ]  # fmt: skip
    (event,) = there.bodies("events")
    assert (event["title"], len(event["text"]), event["alert_type"]) == ("Failover", 4000, "error")
    assert (event["aggregation_key"], event["date_happened"], event["host"]) == ("key", now + 10, HERE)
    assert there.bodies("logs") == [
        [{"message": "paid", "status": "warning", "service": "shop", "ddsource": "redis", "ddtags": "service:shop",
          "hostname": HERE, "timestamp": now * 1000 + 250, "amount": 12.30, "attributes": {"status": 200}}]
    ]  # fmt: skip
    codings = {one.path.rpartition("/")[2]: one.headers.get("Content-Encoding") for one in there.taken}
    assert codings == {
        "series": "zstd", "distribution_points": "deflate", "logs": "gzip", "check_run": None, "events": None
    }  # fmt: skip
    assert (sink.lost, sink.held, sink.errors, sink.trouble) == (0, 0, 0, "")


async def test_without_a_host_none_is_named(there: Intake, tmp_path: Path) -> None:
    logs = (LogRecord("line", attributes={"service": "a", "source": "nginx", "hostname": "pod-1"}), LogRecord("other"))
    await send(make(there, tmp_path), batch(sample("level", GAUGE, 1), logs=logs, host="", at=NOW))
    assert "resources" not in there.series("level")[0]
    first, second = there.bodies("logs")[0]
    assert (first["service"], first["ddsource"], first["hostname"]) == ("a", "nginx", "pod-1")
    assert "hostname" not in second


async def test_histograms_as_distributions_keep_every_observation(there: Intake, tmp_path: Path) -> None:
    sketch = Sketch(bins=((1.0, 7_000), (2.0, 5_500)), sum=18_000.0, min=1.0, max=2.0)
    await send(
        make(there, tmp_path, histogram_as="distribution"), batch(sample("took", Kind.HISTOGRAM, sketch), at=NOW)
    )
    points = [one["points"][0][1] for body in there.bodies("distribution_points") for one in body["series"]]
    assert [len(one) for one in points] == [5000, 5000, 2500]
    assert Counter(value for one in points for value in one) == {1.0: 7000, 2.0: 5500}


async def test_counts_of_one_second_are_one_point_and_no_point_replaces_another(there: Intake, tmp_path: Path) -> None:
    def hits(number: int, at: float | None = None) -> Batch:
        return batch(sample("hits", COUNT, number, at=at), at=NOW + 0.2, interval=0)

    sink = make(there, tmp_path)
    async with running(sink) as outbox:
        outbox.put(hits(1))
        outbox.put(hits(2))
        outbox.put(hits(10, NOW - 30))
        await until(lambda: sum(there.values("hits").values()) == 13, "the first group")
        outbox.put(hits(4))  # the same second, in a later group
        outbox.put(hits(11, NOW - 30))  # the corrected value of a point with a time of its own
    assert there.values("hits") == {NOW: 3, NOW + 1: 4, NOW - 30: 11}
    assert there.series("hits")[0]["interval"] == 10


async def test_no_count_replaces_another_of_its_series_and_second(there: Intake, tmp_path: Path) -> None:
    def hits(number: int, instance: str, interval: float, at: float | None = None) -> Batch:
        return batch(sample("hits", COUNT, number, at=at), at=NOW + 0.2, instance=instance, interval=interval)

    first, second, third = (make(there, tmp_path) for _ in range(3))
    async with running(first) as outbox:
        outbox.put(hits(1, "a/one", 10))
        outbox.put(hits(2, "a/two", 15))  # another instance and interval, but the same series
        outbox.put(hits(4, "a/two", 15, at=NOW))
        await until(lambda: there.values("hits") == {NOW: 7}, "the first group")
        outbox.put(hits(8, "a/two", 15))
        await until(lambda: there.values("hits") == {NOW: 7, NOW + 1: 8}, "the second group")
    second.succeed(first)  # a reload
    await send(second, hits(16, "a/one", 10))
    await send(third, hits(32, "a/one", 10))  # another process, as after a kill
    assert there.values("hits") == {NOW: 7, NOW + 1: 8, NOW + 2: 16, NOW + 3: 32}


@pytest.mark.parametrize(
    ("name", "kept"), [("a-b.c/d", "a_b.c_d"), ("9.lives", "lives"), ("ümlaut", "mlaut"), ("x" * 300, "x" * 200)]
)
async def test_names_become_what_datadog_keeps(there: Intake, tmp_path: Path, name: str, kept: str) -> None:
    await send(make(there, tmp_path), batch(sample(name, GAUGE, 1, "naïve:ü", "\udc80"), at=NOW))
    (one,) = there.bodies("series")[0]["series"]
    assert (one["metric"], one["tags"]) == (kept, ["naïve:ü", "?"])


@pytest.mark.parametrize(
    ("message", "attributes"),
    [("x" * 2_000_000, {}), ('"\n' * 1_000_000, {"a": 1}), ("ü" * 9, {"big": "y" * 1_500_000})],
)
async def test_a_log_beyond_a_megabyte_is_cut_and_stays_json(
    there: Intake, tmp_path: Path, message: str, attributes: Any
) -> None:
    await send(make(there, tmp_path), batch(logs=(LogRecord(message, attributes=attributes),), at=NOW))
    (log,) = there.bodies("logs")[0]
    assert message.startswith(log["message"])
    assert log["truncated"] is True
    assert len(json.dumps(log, ensure_ascii=False, separators=(",", ":"))) <= 1_000_000
    assert len(log["message"]) >= min(len(message), 450_000)


async def test_a_closed_instance_is_forgotten_and_a_successor_knows_the_totals(there: Intake, tmp_path: Path) -> None:
    first, second = make(there, tmp_path), make(there, tmp_path)
    total = [batch(sample("total", Kind.COUNTER, n), at=NOW + n) for n in (1, 5, 20)]
    await send(first, total[0])
    second.succeed(first)
    await send(second, total[1], batch(at=NOW + 6, closed=True), total[2])
    assert there.values("total") == {NOW + 5: 4}


# Requests and their limits


async def test_payloads_are_split_by_count_and_bytes(there: Intake, tmp_path: Path) -> None:
    logs = tuple(LogRecord(f"line {n}") for n in range(2_500))
    many = tuple(sample(f"metric.number_{n}", GAUGE, n, *(f"tag{t}:{n}{t}" for t in range(20))) for n in range(5_000))
    await send(make(there, tmp_path), batch(*many, logs=logs, at=NOW))
    assert max(len(body) for body in there.bodies("logs")) <= 1_000
    assert sorted(one["message"] for body in there.bodies("logs") for one in body) == sorted(
        f"line {n}" for n in range(2500)
    )
    assert len(there.bodies("series")) >= 2
    assert {int(key[0].rpartition("_")[2]): value for key, value in there.points.items()} == {
        n: n for n in range(5_000)
    }
    assert {status for _, status in there.statuses} == {200, 202}


async def test_too_large_is_halved_until_it_fits_and_one_that_never_fits_is_given_up(
    there: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there.most = 600
    sink = make(there, tmp_path)
    small = [sample(f"level{n}", GAUGE, n) for n in range(100)]
    large = sample("large", GAUGE, 1, *(f"{hash(str(n))}{n * 7919}" for n in range(150)))
    await send(sink, batch(*small, large, at=NOW))
    assert len(there.points) == 100
    assert sum(status == 413 for _, status in there.statuses) > 3
    assert (sink.lost, sink.held) == (1, 0)
    assert "series: 1 given up, the intake refuses them, among them large" in caplog.messages


async def test_what_is_refused_is_given_up_and_named(
    there: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make(there, tmp_path)
    await send(sink, batch(sample("bad.one", GAUGE, 1, "token:s3cret"), sample("bad.two", GAUGE, 2), at=NOW), level(1))
    assert there.points == {}
    assert sink.lost == 3
    assert "series: 3 given up, the intake refuses them, among them bad.one, bad.two, level" in caplog.messages
    assert "s3cret" not in caplog.text
    assert spooled(tmp_path) == (0, Counter({Outcome.REFUSED: 3}))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ((503, {}), "series: the intake answered 503: it has trouble"),
        ((429, {}), "series: the intake answered 429: it is asked too often"),
        ((404, {}), "series: the intake answered 404: there is no such address"),
        ((408, {}), "series: the intake answered 408: it waited too long for the request"),
        ((302, {"Location": "http://evil.invalid/"}), "series: the intake answered 302: an answer that makes no sense"),
        ("reset", "series: the connection broke"),
        ("hang", "series: no answer within 0.3s"),
        ("drip", "series: no answer within 0.3s"),
    ],
)
async def test_trouble_is_said_once_and_nothing_is_lost(
    there: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: Any, said: str
) -> None:
    caplog.set_level(logging.INFO)
    there.answer = lambda path: trouble if path.endswith("series") else None
    sink = make(there, tmp_path, **({"timeout": 0.3} if "within" in said else {}))
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: sink.errors >= 2, "a second try")
        assert sink.held == 1
        assert sink.trouble == f"{there.url.removeprefix('http://')}: {said}"
        there.answer = lambda path: None
        outbox.put(level(2, NOW + 1))
        await until(lambda: len(there.points) == 2, "both")
    assert there.values("level") == {NOW: 1, NOW + 1: 2}
    told = said_by_sink(caplog)
    times = len(told) // 2 if "within" in said else 1  # a machine that stands still makes it late once more
    assert told == [f"{there.url.removeprefix('http://')}: {said}", "sending again"] * times != []
    assert (sink.lost, sink.held, sink.trouble) == (0, 0, "")


async def test_nobody_is_there_and_what_was_queued_waits_for_the_next_process(tmp_path: Path) -> None:
    port = free_port()
    sink = make(f"http://127.0.0.1:{port}", tmp_path)
    async with running(sink) as outbox:
        for number in range(5):
            outbox.put(level(number, NOW + number))
            await until(lambda: sink.held > number, "a record of its own")  # noqa: B023
        await until(lambda: sink.errors > 1, "a failure")
        assert sink.trouble == f"127.0.0.1:{port}: series: nothing takes connections there"
    assert (outbox.dropped, sink.lost, sink.held) == (0, 0, 5)
    async with intake(port) as there:
        again = make(there, tmp_path)
        await send(again)
        assert there.values("level") == {NOW + n: n for n in range(5)}
        assert [one["points"][0]["value"] for one in there.bodies("series")[0]["series"]] == [4, 3, 2, 1, 0]
        assert (again.sent, again.held, again.lost) == (5, 0, 0)


def test_pauses_have_full_jitter_and_heed_what_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    drawn: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: drawn.append((low, high)) or high)  # type: ignore[func-returns-value]
    one = Breaker()
    assert [one.failed() for _ in range(7)] == [2, 4, 8, 16, 32, 64, 64]
    assert {low for low, _ in drawn} == {0}  # type: ignore[misc]
    assert (one.failed(asked=90), one.failed(asked=86_400), one.probing) == (90, 600, True)
    one.worked()
    assert (one.probing, one.failed()) == (False, 2)
    assert [retry_after(text) for text in ("7", "-3", "soon", "", None)] == [7, 0, None, None, None]
    assert retry_after("Thu, 26 Nov 2026 10:00:30 GMT", 1_795_687_200.0) == 30


@pytest.mark.parametrize(
    "odd",
    [
        "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        ",",
        "nan",
        "inf",
    ],
)
async def test_an_odd_date_is_none_and_what_came_with_it_is_sent_once(there: Intake, tmp_path: Path, odd: str) -> None:
    there.answer = lambda path: (None, {"Date": odd, "Retry-After": odd})
    sink = make(there, tmp_path)
    await send(sink, level(1))
    assert retry_after(odd) in (None, 0)
    assert there.statuses.count(("/api/v2/series", 202)) == 1
    assert (sink.sent, sink.held, sink.errors, sink.trouble) == (1, 0, 0, "")


async def test_retry_after_is_waited_for(there: Intake, tmp_path: Path) -> None:
    times: list[float] = []

    def answer(path: str) -> Any:
        if not path.endswith("series"):
            return None
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}) if len(times) == 1 else None

    there.answer = answer
    sink = make(there, tmp_path)
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: len(there.points) == 1, "the second try")
    assert times[1] - times[0] >= 1.0


async def test_an_encoding_that_is_not_taken_is_not_tried_again(there: Intake, tmp_path: Path) -> None:
    there.encodings = {"deflate"}
    sink = make(there, tmp_path)
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: len(there.points) == 1, "the point")
        outbox.put(level(2, NOW + 1))
    assert [status for path, status in there.statuses if path.endswith("series")] == [415, 415, 202, 202]
    assert sink.lost == 0


# Keys


async def test_a_refused_key_is_asked_for_anew_and_nothing_is_lost(
    there: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    there.keys = {"another"}
    sink = make(there, tmp_path)
    sink.home = Home(tmp_path, HERE, (), lambda: asked.append(1))
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: ("/api/v2/series", 403) in there.statuses, "a refusal")
        assert asked
        assert sink.held == 1
        assert sink.trouble.endswith(
            "the API key is refused (403): see api_key, and whether its account is on this site"
        )
        there.keys.add(KEY)
        await until(lambda: len(there.points) == 1, "the point")
    assert (sink.lost, sink.trouble) == (0, "")
    assert KEY not in caplog.text


async def test_the_key_is_checked_at_the_start_and_that_fails_open(there: Intake, tmp_path: Path) -> None:
    there.answer = lambda path: (500, {}) if path.endswith("validate") else None
    sink = make(there, tmp_path)
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: len(there.points) == 1, "the point")
    assert there.statuses[0] == ("/api/v1/validate", 500)
    assert sink.trouble == ""


# Old points


async def test_what_is_too_old_is_counted_but_for_metrics_with_historical_ingestion(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datadog, "_HOUSEKEEPING", 0.05)
    now = int(time.time())  # that of the module is minutes old when this runs late
    old = now - HOUR - 60
    sink = make(there, tmp_path, late={"metrics": ["business.*"], "max_age": "2h"})
    everything = batch(
        sample("level", GAUGE, 1, at=old),
        sample("level", GAUGE, 2),
        sample("level", GAUGE, 3, at=now + 800),
        sample("business.revenue", GAUGE, 4, at=old),
        sample("business.revenue", GAUGE, 5, at=now - 3 * HOUR),
        statuses=(ServiceCheck("old", Status.OK, time=now - 700), ServiceCheck("new", Status.OK)),
        logs=(LogRecord("old", time=now - 19 * HOUR), LogRecord("new")),
        at=now,
    )
    async with running(sink) as outbox:
        outbox.put(everything)
        await until(lambda: sink.lost == 4 and not sink.held, "everything to be sent or given up", 60)
        await until(lambda: sum("unrecoverable" in one or "ahead" in one for one in caplog.messages) == 2, "a word")
    assert there.values("level") == {now: 2}
    assert [(one["points"][0]["value"]) for one in there.series("business.revenue")] == [4]
    assert [one["check"] for one in there.bodies("check_run")[0]] == ["new"]
    assert [one["message"] for one in there.bodies("logs")[0]] == ["old", "new"]
    assert sink.figures["vedette.sink.unrecoverable"] == 3
    assert sink.figures["vedette.sink.refused"] == 1
    assert "3 points unrecoverable: too old for Datadog by now, 3 in all" in caplog.messages
    assert "1 given up: their time is too far ahead for Datadog, 1 refused in all" in caplog.messages
    left, tally = spooled(tmp_path)
    assert (left, tally[Outcome.EXPIRED], tally[Outcome.REFUSED], tally[Outcome.SENT]) == (0, 3, 1, 5)


async def test_a_log_whose_own_time_datadog_would_not_take_comes_with_the_time_of_reading(
    there: Intake, tmp_path: Path
) -> None:
    ages = {"fine": 17 * HOUR, "old": 19 * HOUR, "ahead": -8 * HOUR, "odd": -1e15}
    logs = tuple(LogRecord(name, time=NOW - age, attributes={"logged_at": "x"}) for name, age in ages.items())
    sink = make(there, tmp_path)
    await send(sink, batch(logs=logs, at=NOW))
    assert {one["message"]: (one["timestamp"] / 1000 - NOW, one["logged_at"]) for one in there.bodies("logs")[0]} == {
        "fine": (-17 * HOUR, "x"),
        "old": (0, datetime.fromtimestamp(NOW - 19 * HOUR, UTC).isoformat(timespec="milliseconds")),
        "ahead": (0, datetime.fromtimestamp(NOW + 8 * HOUR, UTC).isoformat(timespec="milliseconds")),
        "odd": (0, NOW + 1e15),
    }
    assert [one.get("attributes") for one in there.bodies("logs")[0]] == [None] + [{"logged_at": "x"}] * 3
    assert (sink.sent, sink.lost) == (4, 0)


class Shifted:
    """The module `time` with a clock that can be set."""

    def __init__(self) -> None:
        self.ahead = self.passed = 0.0

    def time(self) -> float:
        return time.time() + self.ahead + self.passed

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


async def test_nothing_is_given_up_by_a_clock_that_is_wrong_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted, now, series = Shifted(), int(time.time()), lanes.LANES[0]
    monkeypatch.setattr(clock, "time", shifted)
    queue = Queue(None, 0, 0.0, "gzip")
    await queue.open()

    async def put(*ages: int) -> None:
        items = Items(lanes.Kind.SERIES)
        for age in ages:
            items.add(b'{"metric":"m","points":[{"timestamp":%d,"value":1}]}' % (now - age), now - age)
        await queue.put(items.take())

    async def sendable() -> int:
        request = await queue.next(series)
        if request is not None:
            queue.back(request)
        return request.count if request is not None else 0

    await put(*range(100))
    for shifted.ahead, takes in ((7_200.0, 0), (-1_200.0, 0), (0.0, 100)):
        await queue.sweep()
        assert (queue.standing.left, await sendable()) == (100, takes)
        assert ((queue.standing.waiting or {})["series"] > 0) == (takes > 0)
    queue.clock.measured(0.5, 0.5)
    shifted.ahead = 7_200.0
    await queue.sweep()
    shifted.passed = 100.0
    await queue.sweep()
    assert (queue.standing.left, await sendable()) == (100, 100)  # the intake told the time before
    shifted.ahead = 0.0
    await put(-300, -2_000, 5_000)
    await queue.sweep()
    assert (queue.standing.left, await sendable()) == (103, 101)  # it has just jumped back: nothing is sure
    shifted.passed = 200.0
    await queue.sweep()
    assert (queue.standing.left, await sendable()) == (
        103,
        101,
    )  # nor before the intake has told the time since
    queue.clock.measured(0.5, 0.5)
    await queue.sweep()
    assert queue.standing.tally == {Outcome.EXPIRED: 1, Outcome.REFUSED: 1}
    queue.close()


async def test_a_clock_that_is_wrong_at_the_start_gives_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted, now = Shifted(), int(time.time())
    shifted.ahead = 7_200.0
    monkeypatch.setattr(clock, "time", shifted)
    queue = Queue(None, 0, 0.0, "gzip")
    await queue.open()
    items = Items(lanes.Kind.SERIES)
    for at in (now, now + 6_900, now + 10_800):
        items.add(b'{"metric":"m","points":[{"timestamp":%d,"value":1}]}' % at, at)
    await queue.put(items.take())
    for shifted.passed in (0.0, 70.0, 3_500.0):
        await queue.sweep()
        assert queue.standing.left == 3
    shifted.passed = 3_700.0  # nobody has told otherwise for an hour
    await queue.sweep()
    assert queue.standing.tally == {Outcome.EXPIRED: 2}
    queue.close()


# The queue


async def test_a_commit_waits_until_what_it_stands_for_is_on_disk(there: Intake, tmp_path: Path) -> None:
    there.answer = lambda path: "hang"
    sink, settled = make(there, tmp_path, timeout=0.2), list[int]()
    outbox = Outbox(1000, durable=True)
    task = asyncio.create_task(supervise(sink, outbox))
    outbox.put(level(1), Receipt(1, lambda: settled.append(1)))
    await until(lambda: bool(settled), "the receipt")
    task.cancel()  # as good as a kill: nothing is flushed
    await asyncio.wait([task])
    assert spooled(tmp_path)[0] == 1


async def test_many_log_lines_are_queued_before_the_second_is_over_and_nothing_else_is(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datadog, "_GROUP", 10.0**9)
    sink, outbox, settled = make(there, tmp_path), Outbox(10_000, durable=True), list[str]()
    task = asyncio.create_task(supervise(sink, outbox))

    def put(what: str, one: Batch) -> None:
        outbox.put(one, Receipt(1, lambda: settled.append(what)))

    put("count", batch(sample("hits", COUNT, 1), at=NOW))
    for number in range(3):  # as a listener does: the next lines once these are safe
        lines = tuple(LogRecord(f"{number} {place} {'x' * 1000}", "info", (), NOW) for place in range(100))
        put(f"logs {number}", batch(logs=lines, at=NOW))
        await until(lambda number=number: f"logs {number}" in settled, "lines that are on disk")  # type: ignore[misc]
    put("both", batch(sample("hits", COUNT, 2), logs=lines, at=NOW))
    await until(lambda: sink._queue.standing.left + (sink.sent or 0) == 400, "the lines of the last one")
    assert settled == ["logs 0", "logs 1", "logs 2"]  # the counts wait for others of their second
    outbox.close()
    async with asyncio.timeout(30):
        await task
    assert settled[3:] == ["count", "both"]
    assert there.values("hits") == {NOW: 3}
    assert sum(map(len, there.bodies("logs"))) == 400


async def test_while_the_disk_refuses_it_works_in_memory_and_says_so(there: Intake, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    there.answer = lambda path: "hang"
    sink, settled = make(there, tmp_path, timeout=0.2, memory=1), list[int]()
    outbox = Outbox(5, durable=True)
    task = asyncio.create_task(supervise(sink, outbox))
    outbox.put(level(1), Receipt(1, lambda: settled.append(1)))
    await until(lambda: "in memory only" in sink.trouble, "trouble")
    for number in range(2, 20):
        outbox.put(level(number, NOW + number))
    assert (outbox.dropped > 0, settled) == (True, [])  # memory is full: the agent's own queue drops, and counts
    (tmp_path / "spool").unlink()
    await until(lambda: bool(settled), "the receipt, once it is on disk")
    there.answer = lambda path: None
    await until(lambda: len(there.points) == 19 - outbox.dropped, "the rest")
    outbox.close()
    await task
    assert (sink.trouble, sink.lost) == ("", 0)


class FullDisk:
    """Lets no queue write while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        append = Segment.append

        def refuse(segment: Segment, *rest: Any) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(segment, *rest)

        monkeypatch.setattr(Segment, "append", refuse)


@pytest.mark.parametrize("heir", ["successor", "restart", "none", "none after a failure"])
async def test_what_is_in_memory_is_taken_over_and_who_waits_for_it_does_not_wait_for_ever(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heir: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datadog, "_HOUSEKEEPING", 0.05)
    monkeypatch.setattr(handover, "HEIRLESS", 0.0 if heir == "none" else 0.05)
    monkeypatch.setattr(outbox_module, "_FIRST_PAUSE", 100.0 if heir == "none after a failure" else 0.01)
    disk, settled = FullDisk(monkeypatch), list[int]()
    there.answer = lambda path: (503, {})
    first, second = make(there, tmp_path), make(there, tmp_path)
    outbox = Outbox(1000, durable=True)
    task = asyncio.create_task(supervise(first, outbox))
    outbox.put(level(1), Receipt(1, lambda: settled.append(1)))
    await until(lambda: first.held == 1, "the queue")
    if heir == "none after a failure":
        monkeypatch.setattr(first, "_tell_losses", lambda before: 1 / 0)
        await until(lambda: "ZeroDivisionError" in caplog.text, "a failure")
        looks, look = list[None](), first._handover.wait_for_an_heir
        monkeypatch.setattr(first._handover, "wait_for_an_heir", lambda one: looks.append(look(one)))  # type: ignore[func-returns-value]
        await until(
            lambda: len(looks) > 2, "three looks"
        )  # it may be started again, as long as nobody closes its queue
        assert settled == []
        outbox.close(goes_on=True)
    elif heir == "restart":
        monkeypatch.setattr(first, "_tell_losses", lambda before: 1 / 0)
        await until(lambda: "ZeroDivisionError" in caplog.text, "a failure")
        monkeypatch.setattr(first, "_tell_losses", lambda before: None)
        disk.full = False
        there.answer = lambda path: None
        await until(lambda: len(there.points) == 1, "the point")
        outbox.close()
    else:
        outbox.close(goes_on=True)
    await task
    if heir == "successor":
        second.succeed(first)
        async with running(second):
            await until(lambda: second.held == 1, "what was handed over")
            assert settled == []
            disk.full = False
            await until(lambda: bool(settled), "the receipt, once it is on disk")
            there.answer = lambda path: None
            await until(lambda: len(there.points) == 1, "the point")
    await until(lambda: settled == [1], "the receipt")
    assert there.values("level") == ({} if heir.startswith("none") else {NOW: 1})
    assert (first.lost, second.lost) == (int(heir.startswith("none")), 0)
    assert ("1 samples that were in memory only are lost" in caplog.messages) == heir.startswith("none")


async def test_a_sink_that_is_cancelled_while_it_opens_lets_go_of_its_queue(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, opened = asyncio.Event(), Queue.open

    async def slow(queue: Queue) -> None:
        await opened(queue)
        opening.set()
        await asyncio.sleep(600)

    monkeypatch.setattr(Queue, "open", slow)
    task = asyncio.create_task(supervise(make(there, tmp_path), Outbox(10, durable=True)))
    await opening.wait()
    task.cancel()
    await asyncio.wait([task])
    assert spooled(tmp_path) == (0, Counter())  # which another process could not open


async def test_a_folder_that_another_process_had_is_taken_once_it_is_free(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datadog, "_HOUSEKEEPING", 0.05)
    await send(make(there, tmp_path), level(1))
    there.answer = lambda path: (503, {})
    holder, settled = Spool(tmp_path / "spool/datadog", 10**9), list[int]()
    holder.open()
    sink, outbox = make(there, tmp_path), Outbox(1000, durable=True)
    task = asyncio.create_task(supervise(sink, outbox))
    outbox.put(level(2), Receipt(1, lambda: settled.append(1)))
    await until(lambda: sink.held == 1, "the queue")
    assert "another process uses the queue on disk: this one is in memory only until that ends" in caplog.messages
    assert settled == []
    holder.close()
    await until(lambda: bool(settled), "the receipt, once it is on disk")
    assert (sink.sent, sink.lost, sink.held) == (0, 0, 1)  # what the other one sent is not of this one
    outbox.close()
    await task
    assert spooled(tmp_path) == (1, Counter({Outcome.SENT: 1}))


async def test_disk_0_keeps_it_all_in_memory(there: Intake, tmp_path: Path) -> None:
    sink = make(there, tmp_path, disk=0)
    assert sink.durable is False
    await send(sink, level(1))
    assert len(there.points) == 1
    assert not (tmp_path / "spool").exists()


async def test_several_intakes_have_a_queue_each(there: Intake, tmp_path: Path) -> None:
    async with intake() as other:
        there.answer = lambda path: (503, {})
        one, two = make(there, tmp_path, name="eu"), make(other, tmp_path, name="us")
        async with running(one) as outbox, running(two) as second:
            for box in (outbox, second):
                box.put(level(1))
            await until(lambda: len(other.points) == 1 and one.errors > 0 and not two.held, "the one that works")
            assert (one.held, two.held) == (1, 0)
        assert spooled(tmp_path, "eu")[0] == 1
        assert spooled(tmp_path, "us")[0] == 0


async def test_points_that_a_source_hands_over_once_more_after_a_kill_are_queued_once(
    there: Intake, tmp_path: Path
) -> None:
    there.answer = lambda path: (503, {})
    await send(make(there, tmp_path), level(1), batch(logs=(LogRecord("line"),), at=NOW))
    again = make(there, tmp_path)
    await send(again, level(1), level(2, NOW + 1), batch(logs=(LogRecord("line"),), at=NOW))
    assert again.held == 4  # two points, and two log lines, which may well be alike


# Beside sending


async def test_metadata_and_host_tags_are_pushed_once(there: Intake, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vedette.sinks.datadog.errands._FIRST_ROUND", 0.0)
    monkeypatch.setattr("vedette.sinks.datadog.errands._BETWEEN", 0.0)

    async def once(mem: Metric) -> list[tuple[str, str, Any]]:
        there.managed.clear()
        sink = make(there, tmp_path, app_key=APP_KEY, host_tags=["team:payments"])
        sink.catalog.update(
            {"mem": mem, "took": Metric("took", Kind.HISTOGRAM, "second"), "plain": Metric("plain", COUNT)}
        )
        async with running(sink) as outbox:
            outbox.put(level(1))
            await until(lambda: len(there.points) > 0 and (tmp_path / "spool/datadog/metadata.json").exists(), "both")
            known = json.loads((tmp_path / "spool/datadog/metadata.json").read_text())
            await until(lambda: len(there.managed) == 2 or len(known) == 2, "the pushes")
        return list(there.managed)

    mem = Metric("mem", Kind.RATE, "byte", "Memory.", per="second")
    body = {"type": "gauge", "description": "Memory.", "unit": "byte", "per_unit": "second"}
    tags = ("POST", f"/api/v1/tags/hosts/{HERE}", {"host": HERE, "tags": ["team:payments"]})
    assert await once(mem) == [tags, ("PUT", "/api/v1/metrics/mem", body)]
    parsed("/api/v1/metrics/mem", body)
    assert await once(mem) == []
    assert APP_KEY not in (tmp_path / "spool/datadog/metadata.json").read_text()


async def test_a_clock_that_is_off_is_measured_and_said_once(
    there: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there.ahead = 45.0
    sink = make(there, tmp_path)
    await send(sink, level(1), level(2))
    assert sink.figures["vedette.sink.clock_offset"] == pytest.approx(45, abs=2)
    (line,) = [one for one in caplog.messages if "clock" in one]
    assert line.startswith("this machine's clock is 4")
    assert line.endswith(" s behind the intake's: points get lost or misplaced; set it by NTP")


# Proxies


async def test_a_proxy_is_used_with_its_password_and_no_proxy_is_heeded(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_proxy() as proxy:
        monkeypatch.setenv("NO_PROXY", "example.com")
        url = proxy.url.replace("http://", "http://agent:pr0xy-secret@")
        await send(make(there, tmp_path / "a", proxy=url), level(1))
        assert f"POST {there.url}/api/v2/series" in proxy.asked
        assert set(proxy.credentials) == {"Proxy-Authorization: Basic YWdlbnQ6cHIweHktc2VjcmV0"}
        before = len(proxy.asked)
        await send(make(there, tmp_path / "b", proxy=url, no_proxy=["127.0.0.1"]), level(2))
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        await send(make(there, tmp_path / "c", proxy=url), level(3))
        assert len(proxy.asked) == before
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", proxy.url)
        await send(make(there, tmp_path / "d"), level(4))
        assert len(proxy.asked) > before
    assert there.values("level") == {NOW: 4}
    assert len(there.bodies("series")) == 4


async def test_tls_through_a_proxy(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "ca")
    async with intake(tls=certificates.server_side()) as there, http_proxy() as proxy:
        await send(make(there, tmp_path, proxy=proxy.url, ca_file=certificates.ca), level(1))
        assert set(proxy.asked) == {f"CONNECT {there.url.removeprefix('https://')}"}
        assert len(there.points) == 1
        sink = make(there, tmp_path)
        async with running(sink) as outbox:
            outbox.put(level(2))
            await until(lambda: sink.errors > 0, "a failure")
            assert sink.trouble.endswith("series: its certificate is not valid")


@pytest.mark.parametrize("proxy", ["socks5://u:hunter2secret@127.0.0.1:1", "http://u:hunter2secret@127.0.0.1:port"])
async def test_a_proxy_of_the_environment_that_cannot_be_used_is_said_without_its_password(
    there: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    sink, outbox = make(there, tmp_path), Outbox(10)
    outbox.close()
    await supervise(sink, outbox)
    assert sink.trouble.startswith("a proxy must be http://host:port or https://host:port")
    told = Diagnosis()
    await sink.diagnose(told)
    assert [(one.what, one.grade) for one in told.symptoms] == [("queue", "ok"), ("proxy", "failed")]
    assert "hunter2secret" not in caplog.text + repr(told.symptoms)


# Options


def options(**given: Any) -> DatadogConfig:
    return DatadogConfig.model_validate({"type": "datadog", "api_key": KEY, **given})


@pytest.mark.parametrize("site", ["datadoghq.com", "us5.datadoghq.com", "datadoghq.eu", "ddog-gov.com"])
def test_addresses_follow_from_the_site(site: str) -> None:
    made = options(site=site)
    assert (made.api, made.logs) == (f"https://api.{site}", f"https://http-intake.logs.{site}")


def test_addresses_of_ones_own() -> None:
    made = options(base_url="https://relay.internal:8443/")
    assert (made.api, made.logs, made.place) == ("https://relay.internal:8443",) * 2 + ("relay.internal:8443",)
    assert options(base_url="https://a", logs_url="https://b").logs == "https://b"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"api_key": " "}, "is empty: give a key as Datadog shows it"),
        ({"api_key": "a\nb"}, "must be a key as Datadog shows it"),
        ({"site": "datadog.com"}, "datadoghq.com"),
        ({"base_url": "relay:80"}, "must be an address such as"),
        ({"base_url": "https://u:p@relay"}, "must be an address such as"),
        ({"disk": "1KB"}, "must be 0 or at least 1MB"),
        ({"host_tags": ["a:b"]}, "host_tags needs app_key"),
        ({"proxy": "ftp://proxy"}, "must be the URL of a proxy"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as caught:
        options(**given)
    assert KEY not in str(caught.value)


def test_the_numbers_of_kinds_are_in_files() -> None:
    assert {kind.name: int(kind) for kind in lanes.Kind} == {
        "SERIES": 1, "LATE": 2, "DISTRIBUTION": 3, "STATUS": 4, "EVENT": 5, "LOG": 6
    }  # fmt: skip
