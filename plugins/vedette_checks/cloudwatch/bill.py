"""What the requests cost: AWS charges for each metric in each GetMetricData request, not for datapoints.

Source: Amazon CloudWatch pricing, "API": up to five statistics of one metric in a request count as one metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from vedette_checks.cloudwatch.series import Series, Source

MONTH = 730 * 3600
"""Seconds of a month, as AWS counts them."""
_STATISTICS = 5


def billed(series: Iterable[Series]) -> int:
    """How many metrics one request for all of these is charged as."""
    asked: dict[tuple[Source, int], set[str]] = {}
    for one in series:
        for read in one.reads:
            asked.setdefault((read.source, one.period), set()).add(read.statistic)
    return sum(-(-len(statistics) // _STATISTICS) for statistics in asked.values())


def monthly(series: Iterable[Series], interval: float) -> float:
    """Metrics requested in a month, if all goes well: each as often as its period ends, or as the check runs."""
    groups: dict[tuple[str, int], list[Series]] = {}
    for one in series:
        groups.setdefault((one.region, one.period), []).append(one)
    return sum(billed(some) * MONTH / max(period, interval) for (_, period), some in groups.items())


class Bill:
    """Counts what one run asks for.

    Args:
        price: US dollars for a thousand metrics.
    """

    def __init__(self, price: float) -> None:
        self._price = Decimal(str(price)) / 1000
        self.requested: Counter[str] = Counter()
        """Metrics requested, by region."""

    def request(self, region: str, metrics: int) -> None:
        """A request was answered, or sent and never answered, for so many metrics; of several their sum."""
        self.requested[region] += metrics

    def cost(self, metrics: float) -> Decimal:
        """US dollars for so many metrics, exactly."""
        usd = self._price * Decimal(str(metrics))
        return usd.quantize(Decimal(1)) if usd == usd.to_integral_value() else usd.normalize()
