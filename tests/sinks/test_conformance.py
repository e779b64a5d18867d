"""What Datadog's own DogStatsD parser understands of our packets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from datadog_parser import DatadogParser, series, sketches
from sinks.parts import START, batch, running, sample, until
from vedette import Kind
from vedette.kit import Sketch
from vedette.sinks.dogstatsd import DogstatsdConfig, DogstatsdSink

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="the binary is for Linux"),
]


@pytest.fixture
def parser(tmp_path: Path) -> Iterator[DatadogParser]:
    parser = DatadogParser(tmp_path)
    try:
        yield parser
    finally:
        parser.close()


TAGS_THERE = {"environment:prod", "instance:main", "sp_ace:ü"}
SKETCH = Sketch(bins=((1.0, 1), (2.5, 4), (10.0, 93)), sum=941.0, min=1.0, max=10.0)
TAGS = ("environment:prod", "instance:main", "sp ace:ü")


@pytest.mark.slow
async def test_datadogs_parser_understands_what_was_meant(parser: DatadogParser) -> None:
    sink = DogstatsdSink(DogstatsdConfig(type="dogstatsd", port=parser.port, histogram_as="d"))
    await parser.ready()
    async with running(sink) as outbox:
        outbox.put(batch(sample("total", Kind.COUNTER, 100, *TAGS), sample("speed", Kind.RATE, 5, *TAGS)))
        outbox.put(
            batch(
                sample("level", Kind.GAUGE, 1.5, *TAGS),
                sample("revenue", Kind.GAUGE, Decimal("1234567.10"), *TAGS),
                sample("tiny", Kind.GAUGE, 1e-7),
                sample("past", Kind.GAUGE, 7, at=START),
                sample("hits", Kind.COUNT, 3, *TAGS),
                sample("total", Kind.COUNTER, 142, *TAGS),
                sample("speed", Kind.RATE, 30, *TAGS),
                sample("latency", Kind.HISTOGRAM, 12.5, *TAGS),
                sample("spread", Kind.DISTRIBUTION, SKETCH, *TAGS),
                at=START + 10,
            )
        )
    assert sink.lost == 0
    await parser.flushed()
    log = parser.output
    assert not [line for line in log.splitlines() if "Failed to parse" in line or "Unsupported metric" in line]
    assert series(log) == {
        "level": (1.5, "Gauge", TAGS_THERE),
        "revenue": (1234567.1, "Gauge", TAGS_THERE),
        "tiny": (1e-7, "Gauge", set()),
        "past": (7.0, "Gauge", set()),
        "hits": (3.0, "Count", TAGS_THERE),
        "total": (42.0, "Count", TAGS_THERE),
        "speed": (2.5, "Gauge", TAGS_THERE),
    }
    assert f'metric: "past", points: [Point {{ timestamp: {START:.0f}, value: 7.0 }}]' in log
    # three lines of `spread`: unlike the full agent, this parser does not multiply by the sample rate
    assert sketches(log) == {"latency": (1, 12.5, 12.5, TAGS_THERE), "spread": (3, 1.0, 10.0, TAGS_THERE)}


async def test_it_refuses_h_which_only_the_full_agent_takes(parser: DatadogParser) -> None:
    sink = DogstatsdSink(DogstatsdConfig(type="dogstatsd", port=parser.port))
    await parser.ready()
    async with running(sink) as outbox:
        outbox.put(batch(sample("latency", Kind.HISTOGRAM, 12.5)))
    await until(lambda: "Unsupported metric type: latency:12.5|h" in parser.output, "the refusal")
