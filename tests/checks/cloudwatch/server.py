"""CloudWatch as AWS has it where moto does not: late and corrected points, PartialData, throttling, pages.

It speaks the query protocol as recorded of AWS. What is seen of a point depends on the time that the test sets.
"""

from __future__ import annotations

import asyncio
import bisect
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import web

from servers import http_server

NS = "http://monitoring.amazonaws.com/doc/2010-08-01/"
Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, metric, sorted dimensions."""
Parameters = dict[str, str]


@dataclass
class Truth:
    """All values that a series ever has: by the time of the point, (since when, value), in order."""

    points: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def at(self, start: int, end: int, period: int, now: float) -> list[tuple[int, float]]:
        seen = []
        for time in range(start, end, period):
            versions = self.points.get(time, ())
            place = bisect.bisect_right([since for since, _ in versions], now)
            if place:
                seen.append((time, versions[place - 1][1]))
        return seen

    def final(self) -> dict[int, float]:
        return {time: versions[-1][1] for time, versions in self.points.items()}


@dataclass(frozen=True)
class Query:
    """One query of a request."""

    id: str
    key: Key
    statistic: str
    period: int
    returned: bool
    expression: str = ""


class FakeCloudWatch:
    """The server. What it does is set by attributes, and what it was asked is in `requests`."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.truth: dict[Key, Truth] = {}
        self.requests: list[tuple[str, Parameters]] = []
        self.answered: list[list[Query]] = []
        self.page = 0
        """Most datapoints in a page; 0 for all in one."""
        self.partial: Callable[[], bool] = lambda: False
        """Whether an answer is to leave something out."""
        self.refuse: Callable[[], tuple[int, str, str] | None] = lambda: None
        """An error to answer with: HTTP status, code, message."""
        self.listed: dict[Key, float] = {}
        """From when on ListMetrics has a series, where it has not always."""
        self.silent = 0
        """How many of the next requests are never answered."""
        self.skew = 0.0
        self.lasts = 3600.0
        """Seconds that a role is given for."""
        self.keys: list[str] = []
        """Access keys of the requests."""
        self.chance = random.Random(seed)
        self.url = ""
        self.tags: dict[str, dict[str, str]] | int = {}
        """The tags of resources by ARN, or the HTTP status that the tagging API refuses with."""
        self._rest: dict[str, list[tuple[str, list[tuple[int, float]]]]] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeCloudWatch]:
        async with http_server("POST", "/", self._answer) as self.url:
            yield self

    async def _answer(self, request: web.Request) -> web.Response:
        if "X-Amz-Target" in request.headers:
            return self._get_resources()
        parameters = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        self.requests.append((parameters["Action"], parameters))
        self.keys.append(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        if self.silent:
            self.silent -= 1
            await asyncio.sleep(3600)
        date = {"Date": format_datetime(datetime.fromtimestamp(datetime.now(UTC).timestamp() + self.skew, UTC), True)}
        refused = self.refuse() or self._mistake(parameters)
        if refused is not None:
            status, code, message = refused
            body = (
                f'<ErrorResponse xmlns="{NS}"><Error><Type>Sender</Type><Code>{code}</Code>'
                f"<Message>{escape(message)}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
            )
            return web.Response(status=status, text=body, content_type="text/xml", headers=date)
        body = {
            "AssumeRole": self._assume_role,
            "GetMetricData": self._get_metric_data,
            "ListMetrics": self._list_metrics,
        }[parameters["Action"]](parameters)
        return web.Response(text=body, content_type="text/xml", headers=date)

    def _mistake(self, parameters: Parameters) -> tuple[int, str, str] | None:
        """As AWS does, it refuses all of a request for a mistake in one of its expressions."""
        wrong = any("oops" in text for name, text in parameters.items() if name.endswith(".Expression"))
        return (400, "ValidationError", "Error in expression 'q1': unexpected token") if wrong else None

    def _get_resources(self) -> web.Response:
        self.requests.append(("GetResources", {}))
        if isinstance(self.tags, int):
            code = "AccessDeniedException" if self.tags == 400 else "InternalServiceException"
            return web.json_response({"__type": code, "Message": "no"}, status=self.tags)
        found = [
            {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for arn, tags in self.tags.items()
        ]
        return web.json_response({"PaginationToken": "", "ResourceTagMappingList": found})

    def _assume_role(self, parameters: Parameters) -> str:
        until = datetime.fromtimestamp(datetime.now(UTC).timestamp() + self.lasts, UTC)
        return (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            "<AccessKeyId>ASIATAKENON</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata>"
            "<RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
        )

    def _list_metrics(self, parameters: Parameters) -> str:
        members = [
            f"<member><Namespace>{space}</Namespace><MetricName>{metric}</MetricName><Dimensions>"
            + "".join(f"<member><Name>{key}</Name><Value>{value}</Value></member>" for key, value in dimensions)
            + "</Dimensions></member>"
            for space, metric, dimensions in self.truth
            if space == parameters["Namespace"]
            and metric == parameters["MetricName"]
            and self.now >= self.listed.get((space, metric, dimensions), 0.0)
            and ("RecentlyActive" not in parameters or self._active((space, metric, dimensions)))
        ]
        return (
            f'<ListMetricsResponse xmlns="{NS}"><ListMetricsResult><Metrics>{"".join(members)}</Metrics>'
            "</ListMetricsResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></ListMetricsResponse>"
        )

    def _active(self, at: Key) -> bool:
        first = [versions[0][0] for versions in self.truth[at].points.values()]
        return any(self.now - 10800 < since <= self.now for since in first)

    def _get_metric_data(self, parameters: Parameters) -> str:
        queries = list(_queries(parameters))
        self.answered.append(queries)
        token = parameters.get("NextToken")
        results = self._rest.pop(token) if token else self._all(queries, parameters)
        more, members, room = "", [], self.page or 10**9
        for place, (name, points) in enumerate(results):
            if len(points) > room:
                members.append(_result(name, points[:room], "PartialData"))
                more = f"token{len(self.requests)}"
                self._rest[more] = [(name, points[room:]), *results[place + 1 :]]
                break
            room -= len(points)
            kept = points
            if points and self.partial():
                kept = [point for point in points if self.chance.random() < 0.5]
            members.append(_result(name, kept, "Complete" if kept is points else "PartialData"))
        following = f"<NextToken>{more}</NextToken>" if more else ""
        return (
            f'<GetMetricDataResponse xmlns="{NS}"><GetMetricDataResult>{following}'
            f"<MetricDataResults>{''.join(members)}</MetricDataResults></GetMetricDataResult>"
            "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetMetricDataResponse>"
        )

    def _all(self, queries: list[Query], parameters: Parameters) -> list[tuple[str, list[tuple[int, float]]]]:
        start, end = (int(datetime.fromisoformat(parameters[name]).timestamp()) for name in ("StartTime", "EndTime"))
        assert len(queries) <= 500, "more than AWS takes"
        for query in queries:
            assert not start % query.period, "the window does not begin where the period does"
        empty = Truth()
        return [
            (query.id, self.truth.get(query.key, empty).at(start, end, query.period, self.now))
            for query in queries
            if query.returned and not query.expression
        ]

    def charged(self) -> int:
        """Metrics requested, counted from the requests by AWS' rule: five statistics of a metric are one."""
        total = 0
        for queries in self.answered:
            asked: dict[tuple[Key, int], int] = {}
            for query in queries:
                if not query.expression:
                    asked[query.key, query.period] = asked.get((query.key, query.period), 0) + 1
            total += sum((count + 4) // 5 for count in asked.values())
        return total


def _queries(parameters: Parameters) -> Any:
    n = 1
    while (head := f"MetricDataQueries.member.{n}") + ".Id" in parameters:
        stat, m, dimensions = f"{head}.MetricStat", 1, []
        while (one := f"{stat}.Metric.Dimensions.member.{m}") + ".Name" in parameters:
            dimensions.append((parameters[f"{one}.Name"], parameters[f"{one}.Value"]))
            m += 1
        yield Query(
            parameters[f"{head}.Id"],
            (
                parameters.get(f"{stat}.Metric.Namespace", ""),
                parameters.get(f"{stat}.Metric.MetricName", ""),
                tuple(sorted(dimensions)),
            ),
            parameters.get(f"{stat}.Stat", ""),
            int(parameters.get(f"{stat}.Period", 60)),
            parameters.get(f"{head}.ReturnData") != "false",
            parameters.get(f"{head}.Expression", ""),
        )
        n += 1


def _result(name: str, points: list[tuple[int, float]], status: str) -> str:
    times = "".join(f"<member>{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}</member>" for time, _ in points)
    values = "".join(f"<member>{value!r}</member>" for _, value in points)
    return (
        f"<member><Timestamps>{times}</Timestamps><StatusCode>{status}</StatusCode><Values>{values}</Values>"
        f"<Label>{name}</Label><Id>{name}</Id></member>"
    )
