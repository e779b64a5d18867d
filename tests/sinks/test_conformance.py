"""What Datadog's own DogStatsD parser understands of our packets."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest

from sinks.parts import START, batch, running, sample, until
from vedette import Kind
from vedette.kit import Sketch
from vedette.sinks.dogstatsd import DogstatsdConfig, DogstatsdSink

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="the binary is for Linux"),
]


class Parser:
    """Datadog's parser at work; `output` is its trace log so far."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("datadog_serverless_compat")
        if spec is None or spec.origin is None:
            pytest.skip("datadog-serverless-compat is not installed")
        packed = Path(spec.origin).parent / "bin/linux-amd64/datadog-serverless-compat"
        program = Path(shutil.copy(packed, folder / "parser"))
        program.chmod(0o700)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = folder / "parser.log"
        nowhere = "http://127.0.0.1:1"
        environment = {
            "ASCSVCRT_SPRING__APPLICATION__NAME": "vedette",  # the one cloud that it does not look for
            "DD_API_KEY": "0" * 32,
            "DD_APM_RECEIVER_PORT": "0",
            "DD_DOGSTATSD_PORT": str(self.port),
            "DD_LOG_LEVEL": "trace",
            "DD_PROXY_HTTPS": nowhere,
            "HTTPS_PROXY": nowhere,
            "DD_SITE": "localhost",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program], env=environment, stdout=log, stderr=log)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    async def ready(self) -> None:
        await until(lambda: f"listen on port {self.port}" in self.output, "the parser to listen")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def parser(tmp_path: Path) -> Iterator[Parser]:
    parser = Parser(tmp_path)
    try:
        yield parser
    finally:
        parser.close()


SKETCH = Sketch(bins=((1.0, 1), (2.5, 4), (10.0, 93)), sum=941.0, min=1.0, max=10.0)
TAGS = ("environment:prod", "instance:main", "sp ace:ü")


@pytest.mark.slow
async def test_datadogs_parser_understands_what_was_meant(parser: Parser) -> None:
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
    await until(lambda: {"Sending body", "Sending distributions"} <= set(SENT.findall(parser.output)), "a flush", 30)
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


SENT = re.compile("Sending body|Sending distributions")
TAGS_THERE = {"environment:prod", "instance:main", "sp_ace:ü"}
METRIC = re.compile(
    r'Metric \{ metric: "([^"]+)", points: \[Point \{ timestamp: \d+, value: ([^ ]+) \}\].*?'
    r"kind: (\w+), tags: \[([^\]]*)\]"
)
SKETCHED = re.compile(r'Sketch \{ metric: "([^"]+)".*?tags: \[([^\]]*)\].*?cnt: (\d+), min: ([^,]+), max: ([^,]+),')


def tags_in(text: str) -> set[str]:
    """The tags that we sent, without the two of the parser itself."""
    return {tag for tag in re.findall('"([^"]*)"', text) if "origin:" not in tag}


def series(log: str) -> dict[str, tuple[float, str, set[str]]]:
    return {name: (float(value), kind, tags_in(tags)) for name, value, kind, tags in METRIC.findall(log)}


def sketches(log: str) -> dict[str, tuple[int, float, float, set[str]]]:
    return {
        name: (int(count), float(low), float(high), tags_in(tags))
        for name, tags, count, low, high in SKETCHED.findall(log)
    }


async def test_it_refuses_h_which_only_the_full_agent_takes(parser: Parser) -> None:
    sink = DogstatsdSink(DogstatsdConfig(type="dogstatsd", port=parser.port))
    await parser.ready()
    async with running(sink) as outbox:
        outbox.put(batch(sample("latency", Kind.HISTOGRAM, 12.5)))
    await until(lambda: "Unsupported metric type: latency:12.5|h" in parser.output, "the refusal")
