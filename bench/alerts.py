"""Alert rules: a week of samples over 500 of them, and what they cost while an agent runs."""

from __future__ import annotations

import gc
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from common import report

from vedette.alerts import AlertEngine
from vedette.alerts.memory import Keeper
from vedette.metrics import Batch, Kind, Sample, ServiceCheck, Status
from vedette.rules import Rule, Rulebook, parse
from vedette.rules.model import RuleConfig, Source

RULES = 500
INSTANCES = 50
MINUTE = 60.0
WEEK = 7 * 24 * 60
CONDITIONS = (
    "avg(m{n}) over 5m > 200",
    "max(m{n}) over 1h > 200",
    "sum(m{n}) over 3h < -1",
    "last(m{n}) > 200 for 2 of 3 runs",
    "change(avg(m{n}) over 5m, 1h) > 900%",
    "sum(m{n}) / count(m{n}) over 15m > 200",
    "max(m{n}) over 5m > 200 by (queue)",
    "status(c/i{i}) == critical for 2 of 3 runs",
    "avg(m{n}) over 10m > 200 or min(m{n}) over 10m < -5",
    "no data(m{n}) for 10m",
)


NEAR = (
    "avg(m{n}) over 5m > 99",
    "avg(m{n}) over 1h < 2",
    "sum(m{n}) over 3h < -1",
    "last(m{n}) > 99 for 2 of 3 runs",
    "change(avg(m{n}) over 5m, 1h) > 900%",
    "sum(m{n}) / count(m{n}) over 15m > 99",
    "avg(m{n}) over 5m > 99 by (queue)",
    "status(c/i{i}) == critical for 2 of 3 runs",
    "avg(m{n}) over 10m > 99 or avg(m{n}) over 10m < 2",
    "no data(m{n}) for 10m",
)
"""Limits that single samples exceed, so that no rule is judged by its largest or smallest sample alone."""


def rules(conditions: tuple[str, ...] = CONDITIONS) -> Rulebook:
    """Ten for each instance, of ten kinds."""
    made = []
    for number in range(RULES):
        instance = number // (RULES // INSTANCES)
        text = conditions[number % len(conditions)].replace("{n}", f".x{number}").replace("{i}", str(instance))
        config = RuleConfig.model_validate({"name": f"rule {number}", "when": text})
        source = (Source(f"c/i{instance}"),)
        sources = {f"m.x{number}": source, f"c/i{instance}": source}
        made.append(Rule(config, parse(text), None, text, sources, {f"m.x{number}": ("gauge", "")}))
    return Rulebook(tuple(made))


def batches(steps: int, interval: float) -> Iterator[list[Batch]]:
    """One of each instance at each step; its samples and one of the status."""
    each = RULES // INSTANCES
    names = [[f"m.x{instance * each + place}" for place in range(each)] for instance in range(INSTANCES)]
    tags = [(f"instance:i{instance}", f"queue:q{instance}") for instance in range(INSTANCES)]
    for step in range(steps):
        made = []
        for instance in range(INSTANCES):
            value = float((step * 7 + instance) % 100 + 1)
            samples = tuple(Sample(name, Kind.GAUGE, value, tags[instance]) for name in names[instance])
            statuses = (ServiceCheck("c.ok", Status.OK, "", tags[instance]),)
            made.append(Batch(f"c/i{instance}", "c", step * interval, interval, samples=samples, statuses=statuses))
        yield made


def seconds(steps: int, interval: float, ticks: int, keeper: Keeper | None, *conditions: str) -> float:
    """Time of this process that evaluating takes; making the batches is no part of it."""
    engine = AlertEngine(keeper, clock=lambda: 0.0)
    engine.configure(rules(conditions or CONDITIONS), 0.0)
    gc.freeze()  # as Agent.run does
    spent = 0.0
    for some in batches(steps, interval):
        begun = time.process_time()
        for tick in range(ticks):
            engine.tick(some[0].time - ticks + tick)
        for batch in some:
            engine.consume(batch, batch.time)
        spent += time.process_time() - begun
    return spent


def keeper() -> Keeper:
    """A store in memory: what is kept is part of what rules cost, but a week's replay keeps nothing."""
    kept: dict[str, dict[str, Any]] = defaultdict(dict)
    keep = lambda instance, key, value: kept[instance].__setitem__(key, value)  # noqa: E731
    return Keeper(lambda instance: kept[instance], keep, keep)


def main() -> None:
    """Print the figures."""
    logging.getLogger("vedette").setLevel(logging.CRITICAL)
    week = seconds(WEEK, MINUTE, 1, None)
    near = seconds(WEEK, MINUTE, 1, None, *NEAR)
    steps = 720
    share = seconds(steps, 10.0, 10, keeper()) / (steps * 10.0)
    report(
        ("a week of 1-minute samples over 500 rules", week, "s", "<= 60 s"),
        ("the same, limits among the samples", near, "s", "<= 60 s"),
        ("500 rules at 10 s intervals, share of a core", share * 100, "%", "<= 2 %"),
    )


if __name__ == "__main__":
    main()
