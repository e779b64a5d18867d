from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from sinks.parts import START, batch, running, sample
from vedette import Batch, Kind, Metric, Status
from vedette.kit import Sketch
from vedette.metrics import Event, LogRecord, ServiceCheck
from vedette.sinks.console import ConsoleConfig, ConsoleSink

pytestmark = pytest.mark.anyio

EVERYTHING = batch(
    sample("redis.mem.used", Kind.GAUGE, 1_048_576, "instance:main", "port:6379"),
    sample("redis.net.input", Kind.RATE, 0.123456789, at=START + 61),
    sample("revenue", Kind.GAUGE, Decimal("1E+2")),
    sample("big", Kind.GAUGE, 12345678.25),
    sample("latency", Kind.HISTOGRAM, Sketch(((1.0, 2), (4.0, 1)), 6.0, 1.0, 4.0)),
    statuses=(
        ServiceCheck("redis.can_connect", Status.OK, tags=("port:6379",)),
        ServiceCheck("redis.can_connect", Status.CRITICAL, "refused\nby it"),
    ),
    events=(Event("Failover", "now", "error"), Event("Quiet", "")),
    logs=(LogRecord("a line", "warning"),),
)


async def printed(*batches: Batch, **options: Any) -> ConsoleSink:
    sink = ConsoleSink(ConsoleConfig(type="console", **options))
    sink.catalog["redis.mem.used"] = Metric("redis.mem.used", Kind.GAUGE, unit="byte")
    sink.catalog["redis.net.input"] = Metric("redis.net.input", Kind.RATE, unit="byte", per="second")
    async with running(sink) as outbox:
        for one in batches:
            outbox.put(one)
    return sink


async def test_a_line_for_each_thing(capsys: pytest.CaptureFixture[str]) -> None:
    sink = await printed(EVERYTHING, batch(closed=True))
    at = "2023-11-14T22:13:20Z redis/main"
    assert capsys.readouterr().out.splitlines() == [
        f"{at} redis.mem.used 1048576 byte  port:6379",
        "2023-11-14T22:14:21Z redis/main redis.net.input 0.123457 byte/second",
        f"{at} revenue 100",
        f"{at} big 12345678.25",
        f"{at} latency n=3 sum=6 min=1 max=4",
        f"{at} redis.can_connect OK  port:6379",
        f"{at} redis.can_connect CRITICAL (refused by it)",
        f"{at} event error Failover: now",
        f"{at} event info Quiet",
        f"{at} log warning a line",
    ]
    assert sink.errors == 0


async def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    await printed(EVERYTHING, format="jsonl")
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["name"], item["kind"]) for item in items] == [
        ("redis.mem.used", "gauge"), ("redis.net.input", "rate"), ("revenue", "gauge"), ("big", "gauge"),
        ("latency", "histogram"), ("redis.can_connect", "status"), ("redis.can_connect", "status"),
        ("Failover", "event"), ("Quiet", "event"), ("log", "log"),
    ]  # fmt: skip
    assert (items[0]["value"], items[2]["value"], items[6]["message"]) == (1_048_576, 100, "refused\nby it")


PROGRAM = """
import asyncio, sys
from vedette import Batch, Kind, Sample
from vedette.outbox import Outbox, supervise
from vedette.sinks.console import ConsoleConfig, ConsoleSink

async def main():
    sink, outbox = ConsoleSink(ConsoleConfig(type="console")), Outbox(100_000)
    task = asyncio.create_task(supervise(sink, outbox))
    for n in range(5_000):
        outbox.put(Batch("a/b", "a", 0.0, samples=(Sample("level", Kind.GAUGE, n),)))
    outbox.close()
    await task
    print(outbox.delivered, sink.errors, repr(sink.trouble), file=sys.stderr)

asyncio.run(main())
"""


def test_a_reader_that_goes_away_is_no_error() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"1970-01-01T00:00:00Z a/b level 0\n"
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == 0
    assert errors == b"5000 0 ''\n"
