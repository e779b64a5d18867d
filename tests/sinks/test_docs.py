"""docs/sinks.md says what is so: its tables, its JSON, its printed lines. The README's test loads its YAML."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sinks.parts import START
from vedette import Batch, Kind, Metric, Sample, Status
from vedette.kit import json_objects
from vedette.metrics import ServiceCheck
from vedette.plugins import Registry
from vedette.render.tables import options_table
from vedette.sinks.console import text_lines

PAGE = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
OPTIONS = dict(re.findall(r"<!-- options: (\w+) -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL))


def test_every_sink_has_its_chapter() -> None:
    assert sorted(OPTIONS) == sorted(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == Registry().names("sinks")


@pytest.mark.parametrize("name", ["console", "datadog", "dogstatsd", "file", "prometheus"])
def test_the_tables_are_those_of_the_options(name: str) -> None:
    assert OPTIONS[name] == options_table(Registry().load("sinks", name)).strip()


def test_every_kind_is_in_the_table() -> None:
    kinds = re.findall(r"^\| (\w+) \| .* \| .* \| .* \| .* \|$", PAGE, re.MULTILINE)
    assert {kind.value for kind in Kind} | {"kind", "status", "event", "log"} == set(kinds)


def test_the_examples_of_what_is_written() -> None:
    mem = Sample("redis.mem.used", Kind.GAUGE, 1_048_576, ("instance:main",))
    status = ServiceCheck("redis.can_connect", Status.OK, tags=("instance:main",))
    written = Batch("redis/main", "redis", START, host="node-7", samples=(mem,), statuses=(status,))
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    ours = [json.loads(json.dumps(item)) for item in json_objects(written)]
    assert [json.loads(line) for line in block.splitlines()] == ours

    tags = ("instance:main", "port:6379")
    printed = Batch(
        "redis/main", "redis", START, samples=(mem._replace(tags=tags),),
        statuses=(ServiceCheck("redis.can_connect", Status.OK, tags=tags),),
    )  # fmt: skip
    catalog = {"redis.mem.used": Metric("redis.mem.used", Kind.GAUGE, unit="byte")}
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block.splitlines() == list(text_lines(printed, catalog))
