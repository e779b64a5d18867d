"""Datadog's own DogStatsD parser, as a program that says what it understood."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from sinks.parts import until

SENT = re.compile("Sending body|Sending distributions")
METRIC = re.compile(
    r'Metric \{ metric: "([^"]+)", points: \[Point \{ timestamp: \d+, value: ([^ ]+) \}\].*?'
    r"kind: (\w+), tags: \[([^\]]*)\]"
)
SKETCHED = re.compile(r'Sketch \{ metric: "([^"]+)".*?tags: \[([^\]]*)\].*?cnt: (\d+), min: ([^,]+), max: ([^,]+),')


class DatadogParser:
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

    async def flushed(self) -> None:
        """Wait for it to say what it would send, every 10 s."""
        await until(lambda: {"Sending body", "Sending distributions"} <= set(SENT.findall(self.output)), "a flush", 30)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


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
