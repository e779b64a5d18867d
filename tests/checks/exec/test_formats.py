"""JSON, Prometheus text and InfluxDB lines: exact samples, and errors that say where."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from vedette import Kind, Status
from vedette.testing import run_check
from vedette_checks.exec import Exec
from vedette_checks.exec.formats import Printed, read

pytestmark = pytest.mark.anyio


def registry(series: int) -> CollectorRegistry:
    """Counters, gauges, a histogram and a summary, so many series in all."""
    made, chance = CollectorRegistry(), random.Random(7)
    counter = Counter("shop_orders", "Orders.", ["shop"], registry=made)
    gauge = Gauge("shop_stock", "Goods.", ["shop", "good"], registry=made)
    histogram = Histogram("shop_wait_seconds", "Wait.", buckets=(0.1, 1.0), registry=made)
    summary = Summary("shop_size", "Size.", registry=made)
    for number in range((series - 7) // 2):
        counter.labels(f"s{number}").inc(chance.randrange(10**9) + 1)
        gauge.labels(f"s{number}", 'a "b"\\\n,c=d').set(chance.uniform(-1e9, 1e9))
    for value in (0.05, 0.5, 5):
        histogram.observe(value)
        summary.observe(value)
    return made


LINE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")


ESCAPED = re.compile(r"\\.")


def bare(found: re.Match[str]) -> str:
    return {"\\\\": "\\", "\\n": "\n", '\\"': '"'}[found[0]]


def by_other_means(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Lines of the text format, read with one regular expression."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#") or "_created" in line.partition("{")[0].partition(" ")[0]:
            continue
        name, labels, value = LINE.fullmatch(line).groups()  # type: ignore[union-attr]
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
        found[name, tuple(f"{key}:{ESCAPED.sub(bare, value)}" for key, value in pairs)] = float(value)
    return found


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
async def test_5000_series_to_exact_samples(generate: Any, tmp_path: Path) -> None:
    made = registry(5_007)
    (tmp_path / "page").write_bytes(generate(made))
    options = {"name": "x", "command": ["cat", str(tmp_path / "page")], "format": "prometheus", "namespace": "my"}
    run = await run_check(Exec, options)
    assert run.status("exec.status") is Status.OK
    got = {(one.name, one.kind): {} for one in run.batch.samples if one.name.startswith("my.")}
    for one in run.batch.samples:
        if one.name.startswith("my."):
            tags = tuple(tag for tag in one.tags if not tag.startswith("instance:"))
            got[one.name, one.kind][tuple(sorted(tags))] = one.value
    assert set(got) == {
        ("my.shop_orders.count", Kind.COUNTER), ("my.shop_stock", Kind.GAUGE),
        ("my.shop_wait_seconds.bucket", Kind.COUNTER), ("my.shop_wait_seconds.sum", Kind.COUNTER),
        ("my.shop_wait_seconds.count", Kind.COUNTER),
        ("my.shop_size.sum", Kind.COUNTER), ("my.shop_size.count", Kind.COUNTER),
    }  # fmt: skip
    assert sum(map(len, got.values())) == 5_007
    expected = by_other_means(generate_latest(made).decode())
    orders = {tags: value for (name, tags), value in expected.items() if name == "shop_orders_total"}
    assert got["my.shop_orders.count", Kind.COUNTER] == orders
    stock = {
        tuple(sorted(re.sub(r"[\n]+", "_", tag) for tag in tags)): value
        for (name, tags), value in expected.items()
        if name == "shop_stock"
    }
    assert got["my.shop_stock", Kind.GAUGE] == stock
    buckets = {("upper_bound:0.1",): 1, ("upper_bound:1.0",): 2, ("upper_bound:inf",): 3}
    assert got["my.shop_wait_seconds.bucket", Kind.COUNTER] == buckets
    assert got["my.shop_wait_seconds.sum", Kind.COUNTER] == {(): 5.55}


def test_summaries_unknown_types_times_and_nan() -> None:
    text = (
        "# TYPE rpc summary\nrpc{quantile=\"0.5\"} 4.5\nrpc{quantile=\"0.9\"} NaN\nrpc_sum 9\nrpc_count 2\n"
        "loose 7 1700000000123\n# TYPE a:b gauge\na:b +Inf\n"
    )  # fmt: skip
    assert read("prometheus", text.encode()).items == [
        Printed("rpc.quantile", Kind.GAUGE, 4.5, ("quantile:0.5",)),
        Printed("rpc.sum", Kind.COUNTER, 9),
        Printed("rpc.count", Kind.COUNTER, 2),
        Printed("loose", Kind.GAUGE, 7, (), 1700000000.123),
        Printed("a_b", Kind.GAUGE, float("inf")),
    ]


def test_json_objects_and_lists() -> None:
    flat = {"a": {"b": 1.5, "c d": 2}, "up": True, "text": "x", "list": [1], "none": None, "/": 3}
    assert read("json", json.dumps(flat).encode()).items == [
        Printed("a.b", Kind.GAUGE, 1.5),
        Printed("a.c_d", Kind.GAUGE, 2),
        Printed("up", Kind.GAUGE, 1),
        Printed("root", Kind.GAUGE, 3),
    ]
    listed = [
        {"name": "shop.orders", "value": 3, "kind": "count", "tags": {"shop": "a"}, "time": 1.5},
        {"name": "x", "value": 1, "tags": ["a:b", "c"]},
    ]
    assert read("json", json.dumps(listed).encode()).items == [
        Printed("shop.orders", Kind.COUNT, 3, ("shop:a",), 1.5),
        Printed("x", Kind.GAUGE, 1, ("a:b", "c")),
    ]


def test_influx_lines() -> None:
    text = (
        "# a comment\n\n"
        'cpu,host=a\\ b,core=0 idle=97.5,busy=3i,on=true,note="x,y=\\"z\\" w" 1700000000000000000\n'
        "we\\,ird,k\\=ey=v\\,alue f\\ ield=-1e3\n"
        "n u=18446744073709551615u\n"
    )
    assert read("influx", text.encode()).items == [
        Printed("cpu.idle", Kind.GAUGE, 97.5, ("host:a b", "core:0"), 1.7e9),
        Printed("cpu.busy", Kind.GAUGE, 3, ("host:a b", "core:0"), 1.7e9),
        Printed("cpu.on", Kind.GAUGE, 1, ("host:a b", "core:0"), 1.7e9),
        Printed("we_ird.f_ield", Kind.GAUGE, -1000, ("k=ey:v,alue",)),
        Printed("n.u", Kind.GAUGE, 18446744073709551615),
    ]


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("json", '{"a": 1,}', "not JSON: line 1, column "),
        ("json", "7", "neither a JSON object nor a list of metrics"),
        ("json", "[" * 100_000, "JSON that is too deep"),
        ("json", '[{"name": "a", "value": true}]', r"\[0\]: its value is not a number"),
        ("json", '[{"name": "a", "value": 1}, {"value": 1}]', r'\[1\]: not {"name": "…", "value": …}'),
        ("json", '[{"name": "a", "value": 1, "kind": "set"}]', r"\[0\]: kind is one of gauge, count, counter, rate, "),
        ("json", '[{"name": "a", "value": 1, "tags": 3}]', r"\[0\]: tags are an object, or a list of texts"),
        ("json", '[{"name": "a", "value": 1, "time": "now"}]', r"\[0\]: time is not Unix seconds"),
        ("influx", "a b=1\nc d", "line 2 is not InfluxDB line protocol|line 2: 'd' is not a field"),
        ("influx", "a,b c=1", "line 1: 'b' is not a tag"),
        ("influx", "a b=x", "line 1: 'x' is not a value"),
        ("prometheus", 'a{b="x} 1', "not a Prometheus exposition: "),
        ("prometheus", "a one", "not a Prometheus exposition: "),
        ("prometheus", " {} 1\n# EOF", "not a Prometheus exposition: it has lines that are no samples"),
    ],
)
def test_what_is_none_is_said(form: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^(?:{says})"):
        read(form, text.encode())


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}'),
        ("influx", "m a=1,b=2\nm c=3\nm d=4,e=5"),
        ("prometheus", "a 1\nb 2\nc 3\nd 4\ne 5\n"),
        ("nagios", "OK | a=1 b=2 c=3 d=4 e=5"),
    ],
)
async def test_what_is_beyond_max_samples_is_cut_and_counted(
    form: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "page").write_text(text)
    options = {"name": "x", "command": ["cat", str(tmp_path / "page")], "format": form, "namespace": "my"}
    run = await run_check(Exec, {**options, "max_samples": 3})
    assert [one.value for one in run.batch.samples if one.name.startswith("my.")] == [1, 2, 3]
    assert (run.value("exec.cut"), run.status("exec.status")) == (2, Status.OK)
    assert "2 samples beyond max_samples" in caplog.text
    run = await run_check(Exec, {**options, "max_samples": 5})
    assert [one.value for one in run.batch.samples if one.name.startswith("my.")] == [1, 2, 3, 4, 5]
    assert "exec.cut" not in {one.name for one in run.batch.samples}


async def test_a_program_that_fails_is_critical_and_its_output_is_not_read() -> None:
    words = ["sh", "-c", "echo '{\"a\": 1}'; echo no access >&2; exit 3"]
    run = await run_check(Exec, {"name": "x", "command": words, "format": "json"})
    assert (run.status("exec.status"), run.values("exec.x.a")) == (Status.CRITICAL, [])
    assert run.error is not None
    assert run.error.message == "the program ended with status 3: no access"
    run = await run_check(Exec, {"name": "x", "command": ["echo", "{"], "format": "json"})
    assert run.status("exec.status") is Status.UNKNOWN
    assert run.error is not None
    assert run.error.message.startswith("not JSON: line 2, column 1: Expecting property name")
