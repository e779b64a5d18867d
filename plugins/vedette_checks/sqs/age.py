"""How long the oldest message of a queue has waited, which only CloudWatch knows.

SQS tells no age. To receive messages and look would count as an attempt to work on them, and move them to the
dead-letter queue in the end.
Source: Amazon CloudWatch API Reference, GetMetricData; Amazon SQS, "Available CloudWatch metrics".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from vedette_checks.aws import Account

_QUERIES = 500
_PERIOD = 60
_WINDOW = 600
"""Seconds to look back: the newest minutes are often not there yet."""


@dataclass(frozen=True, slots=True)
class Age:
    """The newest datapoint of a queue.

    Attributes:
        seconds: how long the oldest message had waited.
        time: the beginning of the minute that it is about, Unix seconds.
    """

    seconds: float
    time: int


@dataclass(frozen=True, slots=True)
class Waits:
    """What is known of the ages of a region's queues, by URL.

    Attributes:
        ages: those that are known.
        failed: queues whose ages could not be asked for.
        foreign: queues of other accounts, of which CloudWatch does not tell.
    """

    ages: Mapping[str, Age]
    failed: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


class Ages:
    """The ages of a region's queues, asked for all at once, and kept until it is time to ask again.

    Args:
        account: AWS.
        region: where.
        every: seconds between two questions.
    """

    def __init__(self, account: Account, region: str, every: float) -> None:
        self._account = account
        self._region = region
        self._every = every
        self._due = -float("inf")
        self._known: dict[str, Age] = {}
        self.requested = 0
        """Metrics requested so far, as AWS charges for them."""
        self.fresh = False
        """Whether the last `of` asked."""

    async def of(self, names: Iterable[str], now: float, until: float) -> dict[str, Age]:
        """The ages of the queues of these names that have one.

        Args:
            names: of queues with messages in them: the others have no oldest one.
            now: Unix seconds.
            until: monotonic seconds after which nothing more is asked.

        Raises:
            CheckError: CloudWatch does not say.
        """
        wanted = sorted(set(names))
        self.fresh = monotonic() >= self._due and bool(wanted)
        if self.fresh:
            self.fresh = False
            known: dict[str, Age] = {}
            for first in range(0, len(wanted), _QUERIES):
                known |= await self._ask(wanted[first : first + _QUERIES], int(now), until)
            self._known, self._due, self.fresh = known, monotonic() + self._every - 1, True
        return {name: self._known[name] for name in wanted if name in self._known}

    def young(self, names: Iterable[str], now: float) -> dict[str, Age]:
        """What is known of these queues from before, as far as a question would still look back.

        Args:
            names: of queues.
            now: Unix seconds.
        """
        known = {name: self._known[name] for name in names if name in self._known}
        return {name: age for name, age in known.items() if age.time > now - _WINDOW}

    async def _ask(self, names: Sequence[str], now: int, until: float) -> dict[str, Age]:
        end = now // _PERIOD * _PERIOD + _PERIOD
        parameters: dict[str, Any] = {
            "MetricDataQueries": [_query(place, name) for place, name in enumerate(names)],
            "StartTime": end - _WINDOW,
            "EndTime": end,
            "ScanBy": "TimestampDescending",
        }
        found: dict[str, Age] = {}
        while True:
            lost: list[str] = []
            try:
                answer = await self._account.call(
                    "cloudwatch", "GetMetricData", self._region, until=until, lost=lost, **parameters
                )
            finally:  # AWS may well have worked on those that it never answered
                self.requested += len(names) * len(lost)
            for result in answer.get("MetricDataResults", ()):
                name = names[int(result["Id"][1:])]
                if name not in found and result.get("Values"):
                    found[name] = Age(float(result["Values"][0]), _seconds(result["Timestamps"][0]))
            if "NextToken" not in parameters:
                self.requested += len(names)
            if not answer.get("NextToken"):
                return found
            parameters["NextToken"] = answer["NextToken"]


def _query(place: int, name: str) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": name}],
    }
    return {"Id": f"q{place}", "MetricStat": {"Metric": metric, "Period": _PERIOD, "Stat": "Maximum"}}


def _seconds(time: Any) -> int:
    return int(time.timestamp()) if isinstance(time, datetime) else int(time)
