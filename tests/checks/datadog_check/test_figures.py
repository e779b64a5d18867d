"""The same check, once with the base's own stub aggregator and once with vedette: the same figures."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from core.parts import Recorder, instance
from vedette import Kind, Status
from vedette.kit import Deltas, Sketch
from vedette.metrics import Batch, Sample
from vedette.runner import Runner
from vedette_checks.datadog_check import DatadogCheck

HERE = Path(__file__).parent
PACKAGE = HERE / "package"
RUNS = 5
INIT_CONFIG: dict[str, Any] = {"service": "shop"}
OPTIONS: dict[str, Any] = {"port": 8080, "tags": ["team:ünits", "role:primary"]}
KINDS = {
    0: Kind.GAUGE, 1: Kind.RATE, 2: Kind.COUNT, 3: Kind.COUNTER, 4: Kind.COUNT, 5: Kind.HISTOGRAM, 6: Kind.HISTOGRAM,
}  # fmt: skip
AGENTS = "datadog.agent.check_status"
MONOTONIC, HISTORATE = 3, 6
Series = tuple[str, tuple[str, ...]]


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    done = subprocess.run(
        [
            sys.executable,
            HERE / "recorded.py",
            "datadog_checks.figures",
            str(RUNS),
            *map(json.dumps, (INIT_CONFIG, OPTIONS)),
        ],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    made: list[dict[str, Any]] = json.loads(done.stdout)
    assert [run["error"] for run in made] == [""] * RUNS
    return made


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return asyncio.run(collected())


async def collected() -> list[Batch]:
    recorder = Recorder()
    made = instance(
        DatadogCheck,
        name="figures",
        module="datadog_checks.figures",
        init_config=INIT_CONFIG,
        instance=OPTIONS,
        environment={"PYTHONPATH": str(PACKAGE)},
        timeout="60s",
        interval="60s",
    )
    runner = Runner(made, recorder.surroundings)
    for _ in range(RUNS):
        await runner.run()
    await runner.stop()
    assert (runner.vitals.failures, dict(runner.vitals.dropped or {})) == (0, {"duplicate": RUNS})
    return recorder.batches


def labels(tags: list[str], hostname: str = "") -> tuple[str, ...]:
    """The check's tags, and what each sample has besides."""
    host = [f"host:{hostname}"] if hostname else []
    return tuple(sorted({*tags, *host, "service:shop", "environment:test", "instance:figures"}))


def own(batch: Batch) -> list[Sample]:
    return [one for one in batch.samples if not one.name.startswith(("datadog_check.", "health_check."))]


def by_series(run: dict[str, Any]) -> dict[Series, list[dict[str, Any]]]:
    found: dict[Series, list[dict[str, Any]]] = defaultdict(list)
    for one in run["metrics"]:
        found[one["name"], labels(one["tags"], one["hostname"])].append(one)
    return found


def test_every_series_and_kind_and_nothing_else(recorded: list[dict[str, Any]], batches: list[Batch]) -> None:
    for number, (run, batch) in enumerate(zip(recorded, batches, strict=True)):
        expected = {(*series, KINDS[ones[0]["type"]]) for series, ones in by_series(run).items()}
        expected |= {(one["name"], labels(one["tags"]), Kind.DISTRIBUTION) for one in run["buckets"] if number > 0}
        assert len(expected) == (17 if number else 16)
        assert {(one.name, one.tags, one.kind) for one in own(batch)} == expected


def test_every_value(recorded: list[dict[str, Any]], batches: list[Batch]) -> None:
    for run, batch in zip(recorded, batches, strict=True):
        for (name, tags), ones in by_series(run).items():
            samples = [one for one in own(batch) if (one.name, one.tags) == (name, tags)]
            values, kind = [one["value"] for one in ones], ones[0]["type"]
            got = [one.value for one in samples]
            if kind == HISTORATE:
                assert len(got) == len(values) - 1
                assert got[0] == 0
                assert isinstance(got[1], float)
                assert (got[1] > 0) == (values[2] > values[1])
            elif kind in (0, 1, MONOTONIC):  # one point: the last one counts, also to the Datadog Agent
                assert [one.value for one in samples if one.time is None] == values[-1:]
            else:
                assert got == values


def test_statuses_and_messages(recorded: list[dict[str, Any]], batches: list[Batch]) -> None:
    for run, batch in zip(recorded, batches, strict=True):
        expected = {
            (one["name"], Status(one["status"]), one["message"], labels(one["tags"], one["hostname"]))
            for one in run["statuses"]
        }
        got = {(one.name, one.status, one.message, one.tags) for one in batch.statuses if one.name != AGENTS}
        assert got == expected
        assert len(expected) == 3
    agents = [one for batch in batches for one in batch.statuses if one.name == AGENTS]
    assert {one.tags for one in agents} == {("check:figures", "environment:test", "instance:figures")}
    assert [one.status for one in agents] == [Status.WARNING, *[Status.OK] * 4]
    assert agents[0].message.count("DEPRECATION NOTICE") == 2  # `device_name` and `increment`, once in its life


def test_events(recorded: list[dict[str, Any]], batches: list[Batch]) -> None:
    for run, batch in zip(recorded, batches, strict=True):
        (event,), (got,) = run["events"], batch.events
        assert (got.title, got.text, got.alert_type, got.aggregation_key, got.time) == (
            event["msg_title"], event["msg_text"], event["alert_type"], event["aggregation_key"], event["timestamp"],
        )  # fmt: skip
        assert got.tags == labels(event["tags"], event["host"])


class Agents:
    """What the Datadog Agent makes of a monotonic count, as its documentation has it.

    Growth between two submissions is added up, a fall adds nothing; with `flush_first_value` what is first, or comes
    after a fall, was counted from zero.
    """

    def __init__(self) -> None:
        self.last: float | None = None

    def grown(self, ones: list[dict[str, Any]]) -> float | None:
        grown, known = 0.0, False
        for one in ones:
            first = one["flush_first_value"]
            if self.last is not None and one["value"] >= self.last:
                grown, known = grown + one["value"] - self.last, True
            elif first:
                grown, known = grown + one["value"], True
            self.last = one["value"]
        return grown if known else None


def test_totals_arrive_at_datadog_as_they_would_from_its_own_agent(
    recorded: list[dict[str, Any]], batches: list[Batch]
) -> None:
    deltas, agents = Deltas(), defaultdict[Series, Agents](Agents)
    seen: dict[str, list[float | None]] = defaultdict(list)
    for run, batch in zip(recorded, batches, strict=True):
        for (name, tags), ones in by_series(run).items():
            if ones[0]["type"] != MONOTONIC:
                continue
            samples = [one for one in own(batch) if (one.name, one.tags) == (name, tags)]
            reported = [one for one in (deltas.reported(batch, sample) for sample in samples) if one is not None]
            assert all(one.kind is Kind.COUNT for one in reported)
            got = sum(one.value for one in reported) if reported else None  # type: ignore[misc]
            expected = agents[name, tags].grown(ones)
            assert (got or 0) == (expected or 0)
            assert len([one for one in reported if one.value]) <= 1  # two at one time would overwrite each other
            seen[name].append(got)
    assert seen["figures.served"] == [None, 30, 0, None, 5]
    assert seen["figures.served.whole"] == [100, 30, 0, 20, 5]
    assert seen["figures.late"] == [None, 30, 0, 20, 5]
    assert seen["figures.served.often"] == [10, 132, 132, 22, 27]


def test_rates_are_per_second_between_two_runs(batches: list[Batch]) -> None:
    deltas, speeds = Deltas(), []
    for batch in batches:
        (sample,) = [one for one in own(batch) if one.name == "figures.bytes"]
        speeds.append(deltas.reported(batch, sample))
    times = [batch.time for batch in batches]
    assert speeds[0] is None
    assert speeds[3] is None  # it fell
    assert speeds[1] is not None
    assert (speeds[1].kind, speeds[1].value) == (Kind.GAUGE, pytest.approx(300 / (times[1] - times[0])))
    assert speeds[4] is not None
    assert speeds[4].value == pytest.approx(50 / (times[4] - times[3]))


def test_buckets_become_a_sketch_of_what_was_new_in_them(batches: list[Batch]) -> None:
    found = [[one.value for one in own(batch) if one.name == "figures.sizes"] for batch in batches]
    assert found[0] == []
    for (sketch,) in found[1:]:
        assert isinstance(sketch, Sketch)
        assert (sketch.count, sum(n for value, n in sketch.bins if value < 0.5)) == (8, 3)
        assert (sketch.min > 0, sketch.max < 1) == (True, True)


def test_its_cache_outlives_it(batches: list[Batch]) -> None:
    assert [one.value for batch in batches for one in own(batch) if one.name == "figures.cached"] == [1, 2, 3, 4, 5]
    (cache,) = dict(batches[-1].commits).values()
    assert list(cache.values()) == ["5"]
