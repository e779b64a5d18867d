"""Fetches series with as few requests as can be: 500 queries in each, in windows that begin where periods do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import Any

from vedette import CheckError
from vedette_checks.aws import Account
from vedette_checks.aws.findings import Invalid
from vedette_checks.cloudwatch.answer import points_of
from vedette_checks.cloudwatch.bill import Bill, billed
from vedette_checks.cloudwatch.series import Series

QUERIES = 500
"""Most queries in a request."""
_DATAPOINTS = 100_000
"""Most datapoints in an answer, a little less than AWS' 100,800: what is more comes in pages, each of them charged."""
_COMMON = 900
"""Periods go together in a request if their windows begin at the same time at least so often, seconds."""
_AT_ONCE = 4
_SPLITS = 40
"""How often a run cuts a refused request in two: enough for some mistakes among 500, not for a bad day of AWS."""
_NAME = re.compile(r"\"[^\"]*\"|'[^']*'|[A-Za-z_]\w*")
"""A name in an expression, or a text that is none."""

Window = tuple[int, int]


@dataclass(slots=True)
class Request:
    """What goes into one request.

    Attributes:
        start: of the window, Unix seconds, where all the periods begin.
        end: of the window, exclusive.
        period: the least common multiple of the periods.
        shortest: the shortest period.
        series: what is asked, each with the window that it is read for.
        queries: how many of the 500 it takes.
    """

    start: int
    end: int
    period: int
    shortest: int
    series: list[tuple[Series, Window]] = field(default_factory=list)
    queries: int = 0

    def admits(self, queries: int, period: int, window: Window) -> bool:
        """Whether so many queries of this period and window fit in as well."""
        common = self.period if self.period % period == 0 else lcm(self.period, period)
        if self.queries + queries > QUERIES or (common > _COMMON and period != self.period):
            return False
        start = min(self.start, window[0]) // common * common
        span = max(self.end, window[1]) - start
        return (self.queries + queries) * span // min(self.shortest, period) <= _DATAPOINTS

    def add(self, series: list[tuple[Series, Window]], queries: int, period: int, window: Window) -> None:
        """Take them in."""
        self.period, self.shortest = lcm(self.period, period), min(self.shortest, period)
        self.start = min(self.start, window[0]) // self.period * self.period
        self.end = max(self.end, window[1])
        self.series += series
        self.queries += queries


def pack(series: Iterable[tuple[Series, Window]]) -> list[Request]:
    """As few requests as can be, the longest behind first. The statistics of a metric stay together."""
    units: dict[Any, list[tuple[Series, Window]]] = {}
    for one, window in series:
        whole = one.key if one.expression else (one.reads[0].source, one.period)
        units.setdefault(whole, []).append((one, window))
    made: list[Request] = []
    for unit in sorted(units.values(), key=lambda unit: (unit[0][1][0], unit[0][0].period)):
        for n in range(0, len(unit), QUERIES):  # no metric has so many statistics, but a request must not be too large
            part = unit[n : n + QUERIES]
            queries, period = sum(one.queries for one, _ in part), part[0][0].period
            window = (min(each[0] for _, each in part), max(each[1] for _, each in part))
            fitting = next((one for one in made if one.queries < QUERIES and one.admits(queries, period, window)), None)
            if fitting is None:
                fitting = Request(window[0], window[1], period, period)
                made.append(fitting)
            fitting.add(part, queries, period, window)
    return made


@dataclass(slots=True)
class Answer:
    """What came back of one series.

    Attributes:
        points: values by time.
        status: CloudWatch's word: Complete, PartialData, InternalError, Forbidden; empty if there was none.
    """

    points: dict[int, float] = field(default_factory=dict)
    status: str = ""


class Reader:
    """Sends requests.

    Args:
        account: AWS.
        region: where.
        bill: counts.
        refused: keys of series that AWS does not take, such as for a mistake in an expression: they are asked for each
            alone, lest they spoil the request for others. Those that are found out are added.
    """

    def __init__(self, account: Account, region: str, bill: Bill, refused: set[str]) -> None:
        self._account = account
        self._region = region
        self._bill = bill
        self._refused = refused
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._splits = _SPLITS
        self.problem: CheckError | None = None
        """Why a request was not answered; the last one's."""

    async def fetch(self, due: Sequence[tuple[Series, Window]], until: float) -> list[tuple[Series, Window, Answer]]:
        """What came back, of all series that were asked for; of those without an answer nothing is in it."""
        requests = pack(each for each in due if each[0].key not in self._refused)
        for each in due:
            if each[0].key in self._refused:
                requests += pack([each])
        return await self._all(requests, until)

    async def _all(self, requests: Iterable[Request], until: float) -> list[tuple[Series, Window, Answer]]:
        answered = await asyncio.gather(*(self._one(request, until) for request in requests))
        return [each for some in answered for each in some]

    async def _one(self, request: Request, until: float) -> list[tuple[Series, Window, Answer]]:
        queries, names = _queries(request)
        answers: dict[str, Answer] = {name: Answer() for name in names}
        try:
            async with self._room:
                await self._pages(request, queries, answers, until)
        except Invalid as error:
            half = len(request.series) // 2
            if half and self._splits > 0:  # find out whose fault it is
                self._splits -= 1
                return await self._all([*pack(request.series[:half]), *pack(request.series[half:])], until)
            self.problem = error
            if not half:
                self._refused.add(request.series[0][0].key)
                self.problem = Invalid(f"{error.message} ({request.series[0][0].name})", hint=error.hint)
        except CheckError as error:
            self.problem = error
            for answer in answers.values():
                answer.status = ""  # the pages that are missing may hold more of any of them
        else:
            self._refused.difference_update(series.key for series, _ in request.series)  # it was another's fault
        return [(*request.series[names[name]], answer) for name, answer in answers.items()]

    async def _pages(
        self, request: Request, queries: list[dict[str, Any]], answers: dict[str, Answer], until: float
    ) -> None:
        metrics, more = billed(series for series, _ in request.series), dict[str, str]()
        while True:
            lost: list[str] = []
            try:
                page = await self._account.call(
                    "cloudwatch",
                    "GetMetricData",
                    self._region,
                    until=until,
                    lost=lost,
                    MetricDataQueries=queries,
                    StartTime=request.start,
                    EndTime=request.end,
                    ScanBy="TimestampAscending",
                    **more,
                )
            finally:  # AWS may well have worked on those that it never answered
                self._bill.request(self._region, metrics * len(lost))
            self._bill.request(self._region, metrics)
            _merge(page, answers)
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}


def _merge(page: Any, answers: dict[str, Answer]) -> None:
    for result in page.get("MetricDataResults", ()):
        answer = answers.get(result["Id"])
        if answer is not None:
            answer.status = result.get("StatusCode", "")
            answer.points.update(points_of(result))


def _queries(request: Request) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The queries, and which series each returned one is, by its id."""
    queries: list[dict[str, Any]] = []
    names: dict[str, int] = {}
    for n, (series, _) in enumerate(request.series):
        name = f"q{n}"
        names[name] = n
        if not series.expression:
            queries.append(_stat(name, series, 0))
            continue
        inner = {read.id: f"{name}_{read.id}" for read in series.reads}
        for place, read in enumerate(series.reads):
            queries.append({**_stat(inner[read.id], series, place), "ReturnData": False})
        expression = _renamed(series.expression, inner)
        queries.append({"Id": name, "Expression": expression, "Period": series.period})
    return queries, names


def _stat(name: str, series: Series, place: int) -> dict[str, Any]:
    read = series.reads[place]
    metric = {
        "Namespace": read.source.namespace,
        "MetricName": read.source.metric,
        "Dimensions": [{"Name": key, "Value": value} for key, value in read.source.dimensions],
    }
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": series.period, "Stat": read.statistic}}


def _renamed(expression: str, names: dict[str, str]) -> str:
    """The expression with the names of this request: two expressions may both have a `hits`."""
    return _NAME.sub(lambda found: names.get(found[0], found[0]), expression)
