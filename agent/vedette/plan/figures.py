"""Counts series as Datadog bills them, and what they cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from vedette.cron import next_cron
from vedette.metrics import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vedette.check import CheckConfig
    from vedette.metrics import Batch, Sample, Tags

MONTH = 30 * 86_400.0
"""Seconds of the month that the plan speaks of."""
_WEEK = 7 * 86_400.0
_AGGREGATES = {Kind.HISTOGRAM: 5, Kind.DISTRIBUTION: 5}
"""Custom metrics that one series becomes, where that is not one: `avg`, `count`, `max`, `median`, `95percentile` of a
histogram, `avg`, `count`, `max`, `min`, `sum` of a distribution, whose percentiles are five more if switched on.

Source: Datadog documentation, Account Management, Billing, "Custom Metrics Billing".
"""

Series = tuple[str, "Tags", str]
"""Name, tags and host: what Datadog tells series apart by."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How much something emits.

    Attributes:
        metrics: distinct names.
        series: distinct names with tags and host.
        custom_metrics: what Datadog bills them as.
        integration_names: how many of those have a name of Datadog's own integrations.
        points_per_interval: samples of a run.
        points_per_month: samples in 30 days.
    """

    metrics: int
    series: int
    custom_metrics: int
    integration_names: int
    points_per_interval: int
    points_per_month: int


@lru_cache(maxsize=1)
def integration_names() -> frozenset[str]:
    """The metrics that Datadog lists for its integrations disk, network, postgres, redisdb, system_core and
    kubernetes_state_core.

    Source: metadata.csv of each of them in Datadog's repository integrations-core.
    """
    return frozenset(files("vedette.plan").joinpath("integrations.txt").read_text("utf-8").split())


def series_of(batches: Iterable[Batch]) -> dict[Series, Kind]:
    """Every series in these batches, and its kind."""
    return {(sample.name, sample.tags, batch.host): sample.kind for batch in batches for sample in batch.samples}


def billed(series: Mapping[Series, Kind]) -> int:
    """How many custom metrics Datadog makes of these series."""
    return sum(_AGGREGATES.get(kind, 1) for kind in series.values())


def figures(series: Mapping[Series, Kind], last: Iterable[Sample], runs_a_month: float) -> Figures:
    """The figures of these series.

    Args:
        series: all that were seen.
        last: the samples of one run.
        runs_a_month: how often it runs in 30 days.
    """
    known = integration_names()
    points = sum(1 for _ in last)
    return Figures(
        metrics=len({name for name, _, _ in series}),
        series=len(series),
        custom_metrics=billed(series),
        integration_names=billed({one: kind for one, kind in series.items() if one[0] in known}),
        points_per_interval=points,
        points_per_month=round(points * runs_a_month),
    )


def runs_a_month(config: CheckConfig) -> float:
    """How often an instance runs in 30 days; of a cron schedule, as often as in the coming week."""
    if config.schedule is None:
        return MONTH / config.cadence if config.cadence else 0.0
    now = moment = time.time()
    number = 0
    while (moment := next_cron(config.schedule, config.timezone, moment)) < now + _WEEK:
        number += 1
    return number * MONTH / _WEEK


def usd_a_month(custom_metrics: int, included: int, usd_per_100: float) -> float:
    """What custom metrics cost a month, rounded to cents."""
    return round(max(0, custom_metrics - included) / 100 * usd_per_100, 2)
