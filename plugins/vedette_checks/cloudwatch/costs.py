"""What an instance asks of CloudWatch and what that costs: for `vedette plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from vedette import Estimate
from vedette_checks.cloudwatch.bill import MONTH, Bill, billed, monthly
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.reading import QUERIES
from vedette_checks.cloudwatch.series import Series


def estimate(config: CloudWatchConfig, series: Sequence[Series]) -> Iterator[Estimate]:
    """Metrics of a run and of a month, requests, and dollars."""
    month = monthly(series, config.interval)
    usd = float(Bill(config.price).cost(round(month)))
    regions = {one.region for one in series}
    calls = sum(ceil(sum(one.queries for one in series if one.region == region) / QUERIES) for region in regions)
    yield Estimate("CloudWatch metrics requested, at most a run", billed(series), "metrics")
    yield Estimate("GetMetricData requests, at most a run", calls, "requests")
    yield Estimate("CloudWatch metrics requested", round(month), "metrics/month")
    hint = f"more than max_monthly_usd ({config.max_monthly_usd:g})" if _over(config, usd) else ""
    yield Estimate("CloudWatch cost", round(usd, 2), "USD/month", hint)
    if config.discover:
        looks = sum(len(job.asked) for job in config.discover) * len(config.places) * MONTH / config.discover_every
        hint = "the first million requests of a month are free" if looks < 1e6 else "a million of a month is free"
        yield Estimate("ListMetrics requests, at least", round(looks), "requests/month", hint)


def _over(config: CloudWatchConfig, usd: float) -> bool:
    return config.max_monthly_usd is not None and usd > config.max_monthly_usd
