"""One run: in every region at once, what is due of each series; then the states, and the bill."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from vedette import Check, CheckError, Diagnosis, Emit, Estimate, Kind, Metric, Status
from vedette_checks.aws import Account
from vedette_checks.cloudwatch.answer import before_parse
from vedette_checks.cloudwatch.bill import Bill, monthly
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.ledger import LISTED_AFTER, Ledger
from vedette_checks.cloudwatch.place import Harvest, Place, sentence
from vedette_checks.cloudwatch.series import Series, declared
from vedette_checks.cloudwatch.states import ELASTICACHE, RDS

_G, _C = Kind.GAUGE, Kind.COUNT
CONNECT, COMPLETE, COST = "aws.cloudwatch.can_connect", "aws.cloudwatch.complete", "aws.cloudwatch.cost"
_OWN = (
    Metric("aws.cloudwatch.series", _G, "", "Series that are asked for.", ("region",)),
    Metric("aws.cloudwatch.cut", _C, "", "Series left out because of `series_limit`.", ("region",)),
    Metric("aws.cloudwatch.points", _C, "", "Datapoints sent, those that were corrected again.", ("region",)),
    Metric("aws.cloudwatch.metrics_requested", _C, "", "Metrics requested, as AWS charges for them.", ("region",)),
    Metric("aws.cloudwatch.api_calls", _C, "request", "Requests sent to AWS.", ("region", "action")),
    Metric("aws.cloudwatch.estimated_cost_usd", _C, "dollar", "What the metrics requested cost, by `price`."),
    Metric("aws.cloudwatch.estimated_month_usd", _G, "dollar", "What a month costs with the series there are now."),
)
_SHARE = 0.8
"""How much of the deadline is for requests: the rest is for what came back."""
_IN_ONE_GO = 100
"""Series that are sent before the loop gets its turn."""
HOOKS = {"before-parse.cloudwatch.GetMetricData": before_parse}


class CloudWatch(Check[CloudWatchConfig]):
    """Reads metrics of RDS, ElastiCache, SQS and others from CloudWatch, each datapoint with its own time."""

    name = "cloudwatch"
    metrics = _OWN
    statuses = (CONNECT, COMPLETE, COST, RDS, ELASTICACHE)
    keeps_state = True
    host_bound = False

    @classmethod
    def declare(cls, config: CloudWatchConfig) -> Iterable[Metric]:
        """The metrics of the jobs, and the check's own."""
        jobs: dict[str, Metric] = {}
        for metric in declared(config):
            first = jobs.setdefault(metric.name, metric)
            jobs[metric.name] = replace(first, tags=tuple(dict.fromkeys((*first.tags, *metric.tags))))
        return [*_OWN, *jobs.values()]

    @classmethod
    def lint(cls, config: CloudWatchConfig) -> Iterable[str]:
        """Warns of points that are over an hour old when they are sent, and of first points that are not read."""
        if config.delay + config.cadence + config.interval > 3600:
            yield "points will be more than an hour old, which Datadog takes only with historical ingestion switched on"
        if config.discover and config.discover_every + LISTED_AFTER > max(config.catch_up, config.reread):
            yield (
                "a new series is found up to `discover_every` and 15 minutes after its first point, which is more than "
                "`catch_up`: its first points are lost; raise `catch_up`"
            )

    def __init__(self, config: CloudWatchConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._account = Account(config.access, HOOKS)
        self._ledger = Ledger(config, self.state)
        self._places: tuple[Place, ...] = ()
        self._counted: Counter[tuple[str, str]] = Counter()
        self._series: tuple[Series, ...] = ()
        self._monthly = 0.0
        self._last_bill = Bill(config.price)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def close(self) -> None:
        """Drop the connections."""
        await self._account.close()

    async def run(self, emit: Emit) -> None:
        """Bring home what is due.

        Raises:
            CheckError: there is no talking to CloudWatch in a region.
        """
        until = monotonic() + self.config.deadline * _SHARE
        bill = self._last_bill = Bill(self.config.price)
        self._ledger.begin()
        try:
            await self._settle()
            now = self.now()
            harvests = await asyncio.gather(*(one.collect(self._ledger, bill, now, until) for one in self._places))
        except CheckError as error:
            emit.status(CONNECT, Status.CRITICAL, sentence(error))
            await self._account.close()
            raise
        finally:
            self._say_calls(emit, bill)
        series = tuple(one for harvest in harvests for one in harvest.series)
        if series != self._series:
            self._series, self._monthly = series, monthly(series, self.config.interval)
        for harvest in harvests:
            await self._send(harvest, emit)
        unknown = [one.region for one in self._places if not one.discovery.complete]
        self._ledger.conclude(((one, self._ledger.end(one, now)) for one in self._series), emit, unknown)
        if not unknown:  # else it would be the cost of a part
            self._say_cost(emit)
        for place in self._places:
            place.states.say(emit)
        await self._conclude(harvests)

    async def estimate(self) -> Iterable[Estimate]:
        """What the requests will be, and cost, in a month."""
        from vedette_checks.cloudwatch.costs import estimate

        return estimate(self.config, self._series)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The credentials, who they are, each action on its own, and the IAM policy that all of it needs."""
        from vedette_checks.cloudwatch.doctor import diagnose

        await diagnose(self.config, self._account, diagnosis)

    async def _settle(self) -> None:
        """Find the credentials and, where none is given, the region."""
        await self._account.open(self.config.places[0])
        if not self._places:
            regions = [self._account.region(one) for one in self.config.places]
            self._places = tuple(Place(self.config, self._account, region) for region in regions)

    async def _send(self, harvest: Harvest, emit: Emit) -> None:
        sent, tags = 0, (f"region:{harvest.region}",)
        gaps = self._ledger.gaps
        for n, (series, window, answer) in enumerate(harvest.answers):
            if n % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
            complete = answer.status == "Complete"
            for at, value in self._ledger.take(series, answer.points, window, complete=complete):
                emit.gauge(series.name, value, series.tags, at)
                sent += 1
        if harvest.complete:
            emit.gauge("aws.cloudwatch.series", len(harvest.series), tags)
        emit.count("aws.cloudwatch.points", sent, tags)
        emit.count("aws.cloudwatch.cut", harvest.cut, tags)
        if harvest.down is not None:
            emit.status(CONNECT, Status.CRITICAL, sentence(harvest.down), tags)
            return
        emit.status(CONNECT, Status.OK, tags=tags)
        if gaps:
            harvest.wants.append(f"{gaps} series were read last longer ago than `catch_up`: older points are left out")
        emit.status(COMPLETE, Status.WARNING if harvest.wants else Status.OK, "; ".join(harvest.wants), tags)

    def _say_calls(self, emit: Emit, bill: Bill) -> None:
        """What was requested: also of a run that failed, as it is charged."""
        for (action, region), count in (self._account.calls - self._counted).items():
            emit.count("aws.cloudwatch.api_calls", count, (f"region:{region}", f"action:{action}"))
        self._counted = Counter(self._account.calls)
        for place in self._places:
            requested = bill.requested[place.region]
            emit.count("aws.cloudwatch.metrics_requested", requested, (f"region:{place.region}",))
        emit.count("aws.cloudwatch.estimated_cost_usd", bill.cost(bill.requested.total()))

    def _say_cost(self, emit: Emit) -> None:
        month = self._last_bill.cost(round(self._monthly))
        emit.gauge("aws.cloudwatch.estimated_month_usd", month)
        most = self.config.max_monthly_usd
        if most is not None:
            over = month > most
            said = f"about {month:.2f} dollars a month, more than max_monthly_usd ({most:.2f})" if over else ""
            emit.status(COST, Status.WARNING if over else Status.OK, said)

    async def _conclude(self, harvests: Iterable[Harvest]) -> None:
        down = [one.down for one in harvests if one.down is not None]
        if not down:
            return
        if len(down) == len(self._places):
            await self._account.close()  # the next run looks for credentials anew: these may be of yesterday
        raise down[0]
