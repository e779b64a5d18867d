"""What runs ask of AWS and what that costs: for `vedette plan`.

Source: Amazon SQS pricing (each request is charged, the first million of a month are free), Amazon CloudWatch pricing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vedette import Estimate
from vedette_checks.sqs.config import SqsConfig
from vedette_checks.sqs.queues import Depth, Survey

_MONTH = 730 * 3600
"""Seconds of a month, as AWS counts them."""
_FREE = 1_000_000


def estimate(config: SqsConfig, surveys: Sequence[Survey]) -> Iterator[Estimate]:
    """Requests of a month to SQS and CloudWatch, and dollars, with the queues that the last run found."""
    read = sum(len(survey.depths) for survey in surveys)
    prefixes = {entry.prefix for entry in config.queues if entry.prefix is not None}
    looks = len(prefixes) * len(surveys) * _MONTH / max(config.discover_every, config.interval)
    requests = round(read * _MONTH / config.interval + looks)
    yield Estimate("SQS requests a run", read, "requests")
    hint = f"the first {_FREE:,} of an account's month are free, which is not counted here"
    yield Estimate("SQS requests", requests, "requests/month", hint)
    yield Estimate("SQS cost, at most", round(requests * config.price / 1e6, 2), "USD/month")
    aged = sum(
        config.wants_age(queue.thresholds) and isinstance(survey.depths.get(queue.url), Depth)
        for survey in surveys
        for queue in survey.queues
    )
    if aged:
        metrics = round(aged * _MONTH / max(config.age_every, config.interval))
        usd = round(metrics * config.cloudwatch_price / 1000, 2)
        yield Estimate("CloudWatch metrics requested for ages, at most", metrics, "metrics/month")
        hint = "queues without messages are not asked for; raise `age_every` to pay less"
        yield Estimate("CloudWatch cost for ages, at most", usd, "USD/month", hint)
