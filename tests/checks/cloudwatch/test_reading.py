"""What it asks and how often: packing, pages, PartialData, throttling, corrected points, and a simulated week."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from aws import clean_environment
from vedette import CheckError
from vedette.emit import Emit
from vedette.metrics import Batch, Kind, Sample
from vedette.testing.checks import channel_of, validated
from vedette_checks.aws import caller
from vedette_checks.cloudwatch import CloudWatch

from .server import FakeCloudWatch, Key, Truth

pytestmark = pytest.mark.anyio

NOW = 1_795_525_500
"""2026-11-24 13:05:00 UTC."""


@pytest.fixture
async def cloudwatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[FakeCloudWatch]:
    clean_environment(monkeypatch, str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVEDETTE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-vedette")
    async with FakeCloudWatch().serving() as server:
        server.now = NOW
        yield server


class _Clocked(CloudWatch):
    """A check whose clock the test sets."""

    server: FakeCloudWatch

    def now(self) -> float:
        return self.server.now


class Instance:
    """The agent's side of an instance, over restarts, with batches that get lost and commits that come to nothing."""

    def __init__(self, server: FakeCloudWatch, **options: Any) -> None:
        wanted = {"name": "prod", "region": "eu-central-1", "endpoint_url": server.url, "timeout": "30s", **options}
        self.config: Any = validated(CloudWatch, wanted)
        self.channel = channel_of(CloudWatch, self.config)
        self.server = server
        self.state: dict[str, Any] = {}
        self.batches: list[Batch] = []
        self.said: Counter[str] = Counter()
        """The sum of each count, lost batches included."""
        self.error: CheckError | None = None
        self.restart()

    def restart(self) -> None:
        self.check = _Clocked(self.config, MappingProxyType(self.state))
        self.check.server = self.server

    async def run(self, *, delivered: bool = True, committed: bool = True) -> Batch:
        emit, self.error = Emit(self.channel, self.server.now), None
        try:
            await self.check.run(emit)
        except CheckError as error:
            self.error = error
        batch = emit.batch()
        for sample in batch.samples:
            if sample.kind is Kind.COUNT:
                self.said[sample.name] += sample.value  # type: ignore[assignment]
        if delivered:
            self.batches.append(batch)
            if committed:
                self.state.update(batch.commits)
        return batch

    async def close(self) -> None:
        await self.check.close()

    def points(self) -> list[Sample]:
        return [one for batch in self.batches for one in batch.samples if not one.name.startswith("aws.cloudwatch")]

    def status(self, name: str) -> tuple[str, str]:
        (found,) = [one for one in self.batches[-1].statuses if one.name == name]
        return found.status.name, found.message

    def total(self, name: str) -> Any:
        return sum((one.value for batch in self.batches for one in batch.samples if one.name == name), start=Decimal(0))


def key(metric: str, queue: str = "") -> Key:
    return ("Shop", metric, (("Queue", queue),) if queue else ())


def steady(server: FakeCloudWatch, at: Key, values: dict[int, float]) -> None:
    """Points that are there from the end of their minute on."""
    server.truth[at] = Truth({time: [(time + 60.0, value)] for time, value in values.items()})


def values(samples: list[Sample]) -> list[tuple[float | None, Any]]:
    return [(one.time, one.value) for one in samples]


async def test_done_means_2_two_thousand_series_cost_four_requests(cloudwatch: FakeCloudWatch) -> None:
    for n in range(500):
        for metric in ("Sent", "Received", "Deleted"):
            steady(cloudwatch, key(metric, f"q{n}"), {NOW - 240: n + 0.5, NOW - 180: n + 1.5})
    jobs = [
        {"namespace": "Shop", "metrics": ["Sent", "Received"], "statistics": ["Sum"]},
        {"namespace": "Shop", "metrics": ["Deleted"], "statistics": ["Average", "p99"], "period": "1m"},
    ]
    instance = Instance(cloudwatch, discover=jobs, max_monthly_usd=1000)
    await instance.run()
    lines = {line.what: (line.value, line.unit) for line in await instance.check.estimate()}
    await instance.close()
    assert lines == {
        "CloudWatch metrics requested, at most a run": (1500, "metrics"),
        "GetMetricData requests, at most a run": (4, "requests"),
        "CloudWatch metrics requested": (1500 * 60 * 730, "metrics/month"),
        "CloudWatch cost": (657.0, "USD/month"),
        "ListMetrics requests, at least": (3 * 6 * 730, "requests/month"),
    }
    asked = [name for name, _ in cloudwatch.requests]
    assert asked.count("GetMetricData") == 4
    assert len(instance.points()) == 4000
    assert {one.name for one in instance.points()} == {
        "aws.shop.sent.sum",
        "aws.shop.received.sum",
        "aws.shop.deleted",
        "aws.shop.deleted.p99",
    }
    assert (NOW - 240.0, 499.5) in values([one for one in instance.points() if "queue:q499" in one.tags])
    assert cloudwatch.charged() == 1500 == instance.total("aws.cloudwatch.metrics_requested")
    assert instance.total("aws.cloudwatch.estimated_cost_usd") == Decimal("0.015")
    assert len(str(instance.state)) < 300, "what all have in common is stored once"
    assert instance.channel.dropped.total() == 0


async def test_periods_are_asked_for_when_they_end(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Fast"), {NOW - 60 * n: float(n) for n in range(-20, 20)})
    cloudwatch.truth[key("Slow")] = Truth({NOW - 300 * n: [(NOW - 300 * n + 300.0, float(n))] for n in range(-5, 5)})
    fast, slow = {"namespace": "Shop", "metric": "Fast"}, {"namespace": "Shop", "metric": "Slow", "period": "5m"}
    instance = Instance(cloudwatch, static=[fast, slow], reread="0s", delay="2m")
    for minute in range(11):
        cloudwatch.now = NOW + 60 * minute + 5
        await instance.run()
    await instance.close()
    assert [len(queries) for queries in cloudwatch.answered] == [2, 1, 2, 1, 1, 1, 1, 2, 1, 1, 1]
    slowly = [one for one in instance.points() if one.name == "aws.shop.slow"]
    # 13:05:05 less the delay is 13:03: 13:00 has not ended; at 13:07 it has
    assert values(slowly) == [(NOW - 600.0, 2.0), (NOW - 300.0, 1.0), (NOW + 0.0, 0.0)]
    quickly = [one for one in instance.points() if one.name == "aws.shop.fast"]
    assert values(quickly) == [(NOW + 60.0 * n, float(-n)) for n in range(-3, 8)]


async def test_pages_and_the_bill_of_them(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent"), {NOW - 60 * n: float(n) for n in range(3, 10)})
    steady(cloudwatch, key("Received"), {NOW - 60 * n: -float(n) for n in range(3, 10)})
    cloudwatch.page = 5
    jobs = [{"namespace": "Shop", "metric": "Sent"}, {"namespace": "Shop", "metric": "Received"}]
    instance = Instance(cloudwatch, static=jobs)
    await instance.run()
    await instance.close()
    assert [parameters.get("NextToken") for _, parameters in cloudwatch.requests] == [None, "token1", "token2"]
    expected = [(NOW - 60.0 * n, float(n)) for n in range(9, 2, -1)]
    assert values([one for one in instance.points() if one.name == "aws.shop.sent"]) == expected
    assert len(instance.points()) == 14
    assert instance.status("aws.cloudwatch.complete") == ("OK", "")
    assert cloudwatch.charged() == 6 == instance.total("aws.cloudwatch.metrics_requested")


async def test_late_and_corrected_points_are_sent_once_more(cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.truth[key("Sent")] = Truth(
        {
            NOW - 240: [(NOW - 180.0, 1.0)],
            NOW - 180: [(NOW - 120.0, 2.0), (NOW + 60.0, 2.5)],  # corrected
            NOW - 120: [(NOW + 120.0, 3.0)],  # late
        }
    )
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}], reread="10m")
    sent = []
    for minute in range(4):
        cloudwatch.now = NOW + 60 * minute
        before = len(instance.points())
        await instance.run()
        sent.append(values(instance.points()[before:]))
    assert sent == [[(NOW - 240, 1.0), (NOW - 180, 2.0)], [(NOW - 180, 2.5)], [(NOW - 120, 3.0)], []]
    await instance.close()


async def test_a_zero_that_was_nil_is_corrected(cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.truth[key("Sent")] = Truth({NOW - 180: [(NOW + 60.0, 4.0)]})
    job = {"namespace": "Shop", "metric": "Sent", "statistics": ["Sum"], "nil_to_zero": True}
    instance = Instance(cloudwatch, static=[job], reread="1m")
    await instance.run()
    cloudwatch.now += 60
    await instance.run()
    await instance.close()
    assert values(instance.points()) == [(NOW - 240, 0.0), (NOW - 180, 0.0), (NOW - 180, 4.0), (NOW - 120, 0.0)]


async def test_partial_data_is_asked_for_again(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent"), {NOW - 60 * n: float(n) for n in range(-30, 30)})
    cloudwatch.partial = lambda: cloudwatch.now < NOW + 900
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}], reread="0s")
    for minute in range(17):
        cloudwatch.now = NOW + 60 * minute
        await instance.run()
        if minute == 2:
            said = "eu-central-1: 1 series are not complete (PartialData), and are asked for again"
            assert instance.status("aws.cloudwatch.complete") == ("WARNING", said)
    await instance.close()
    assert instance.status("aws.cloudwatch.complete") == ("OK", "")
    assert sorted(values(instance.points())) == [(NOW + 60 * n, float(-n)) for n in range(-3, 14)]


async def test_throttling_is_waited_out_and_counted(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent"), {NOW - 180: 1.0})
    errors = [(400, "Throttling", "Rate exceeded"), (503, "ServiceUnavailable", "later")]
    cloudwatch.refuse = lambda: errors.pop() if errors else None
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}])
    await instance.run()
    await instance.close()
    assert values(instance.points()) == [(NOW - 180, 1.0)]
    assert len(cloudwatch.requests) == 3 == instance.total("aws.cloudwatch.api_calls")
    assert cloudwatch.charged() == 1 == instance.total("aws.cloudwatch.metrics_requested")


async def test_what_is_throttled_for_too_long_comes_with_the_next_run(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_FIRST_PAUSE", 1e9)
    monkeypatch.setattr(caller, "_LONGEST_PAUSE", 1e9)
    steady(cloudwatch, key("Sent"), {NOW - 60 * n: float(n) for n in range(-5, 5)})
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}], reread="0s")
    await instance.run()
    cloudwatch.refuse = lambda: (400, "Throttling", "Rate exceeded")
    for _ in range(2):
        cloudwatch.now += 60
        await instance.run()
    assert instance.error is None
    assert instance.status("aws.cloudwatch.can_connect") == ("OK", "")
    hint = "the next run goes on; ask less often, or for less at once"
    throttled = f"eu-central-1: cloudwatch:GetMetricData: throttled by AWS; {hint}"
    assert instance.status("aws.cloudwatch.complete") == ("WARNING", throttled)
    cloudwatch.refuse = lambda: None
    cloudwatch.now += 60
    await instance.run()
    await instance.close()
    assert values(instance.points()) == [(NOW + 60 * n, float(-n)) for n in range(-3, 1)]


async def test_more_series_than_the_limit_are_cut_and_counted(cloudwatch: FakeCloudWatch) -> None:
    for n in range(5):
        steady(cloudwatch, key("Sent", f"q{n}"), {NOW - 180: float(n)})
    job = {"namespace": "Shop", "metrics": ["Sent"]}
    instance = Instance(cloudwatch, discover=[job], series_limit=3)
    await instance.run()
    await instance.close()
    assert [one.value for one in instance.points()] == [0.0, 1.0, 2.0]
    assert instance.total("aws.cloudwatch.cut") == 2
    assert instance.status("aws.cloudwatch.complete")[1] == "eu-central-1: 2 series are left out: see series_limit"


async def test_what_is_not_discovered_yet_after_a_restart_is_caught_up_on(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_FIRST_PAUSE", 1e9)
    monkeypatch.setattr(caller, "_LONGEST_PAUSE", 1e9)
    for metric in ("Sent", "Received"):
        steady(cloudwatch, key(metric), {NOW + 60 * n: float(n) for n in range(-5, 5)})
    jobs = [{"namespace": "Shop", "metrics": ["Sent"]}, {"namespace": "Shop", "metrics": ["Received"]}]
    instance = Instance(cloudwatch, discover=jobs, reread="0s")
    await instance.run()
    await instance.close()
    instance.restart()
    lists = "ListMetrics", "Received"
    cloudwatch.refuse = lambda: (
        (400, "Throttling", "Rate exceeded")
        if (cloudwatch.requests[-1][0], cloudwatch.requests[-1][1].get("MetricName")) == lists
        else None
    )
    for _ in range(3):
        cloudwatch.now += 60
        await instance.run()
    said = instance.status("aws.cloudwatch.complete")
    hint = "the next run goes on; ask less often, or for less at once"
    assert said == ("WARNING", f"eu-central-1: cloudwatch:ListMetrics: throttled by AWS; {hint}")
    cloudwatch.refuse = lambda: None
    cloudwatch.now += 60
    await instance.run()
    await instance.close()
    for name in ("aws.shop.sent", "aws.shop.received"):
        points = {one.time: one.value for one in instance.points() if one.name == name and one.time >= NOW - 180}
        assert sorted(points.items()) == [(NOW + 60 * n, float(n)) for n in range(-3, 2)]


async def test_a_series_that_is_listed_late_is_read_from_its_beginning(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent", "old"), {NOW + 60 * n: float(n) for n in range(-60, 60)})
    steady(cloudwatch, key("Sent", "new"), {NOW + 60 * n: float(n) for n in range(1, 60)})
    cloudwatch.listed[key("Sent", "new")] = NOW + 16 * 60  # 15 minutes after its first point
    job = {"namespace": "Shop", "metrics": ["Sent"]}
    instance = Instance(cloudwatch, discover=[job], discover_every="10m", reread="0s")
    for minute in range(27):
        cloudwatch.now = NOW + 60 * minute
        if minute == 25:
            instance.check._places[0].discovery._next.clear()  # ten minutes have passed since the last look
        await instance.run(delivered=minute != 25)  # and that batch is lost
    await instance.close()
    new = [one for one in instance.points() if "queue:new" in one.tags]
    assert values(new) == [(NOW + 60 * n, float(n)) for n in range(1, 24)]
    old = [one for one in instance.points() if "queue:old" in one.tags]
    assert values(old) == [(NOW + 60 * n, float(n)) for n in range(-3, 24)], "what is known is not read again"


@pytest.mark.parametrize("restarts", [True, False])
async def test_what_fell_silent_during_a_long_downtime_keeps_its_tail(
    cloudwatch: FakeCloudWatch, *, restarts: bool
) -> None:
    hour = 3600
    steady(cloudwatch, key("Sent", "old"), {NOW + 60 * n: float(n) for n in range(-5, 6 * 60)})
    steady(cloudwatch, key("Sent", "gone"), {NOW + 60 * n: float(n) for n in range(-5, 30)})
    job = {"namespace": "Shop", "metrics": ["Sent"]}
    instance = Instance(cloudwatch, discover=[job], reread="0s", catch_up="12h")
    await instance.run()
    if restarts:
        await instance.close()
        instance.restart()
    cloudwatch.now = NOW + 5 * hour  # the other one has been silent for 4.5 hours
    for place in instance.check._places:
        place.discovery._next.clear()
    await instance.run()
    lists = [parameters for name, parameters in cloudwatch.requests if name == "ListMetrics"]
    assert [parameters.get("RecentlyActive") for parameters in lists] == ["PT3H", None]
    cloudwatch.now += 60
    instance.check._places[0].discovery._next.clear()
    await instance.run()
    await instance.close()
    gone = {one.time: one.value for one in instance.points() if "queue:gone" in one.tags}
    assert [gone.get(NOW + 60.0 * n) for n in range(-3, 30)] == [float(n) for n in range(-3, 30)]
    assert [one.get("RecentlyActive") for name, one in cloudwatch.requests if name == "ListMetrics"][2] == "PT3H"
    assert len(cloudwatch.answered[-1]) == 1, "what is silent is not asked for any longer"


def test_lint_warns_of_first_points_that_are_lost() -> None:
    job = {"region": "eu-central-1", "discover": ["sqs"], "reread": "10m"}
    for more, lines in (
        ({}, 0),
        ({"discover_every": "1h", "catch_up": "75m"}, 0),
        ({"discover_every": "1h", "catch_up": "74m"}, 1),
    ):
        said = list(CloudWatch.lint(validated(CloudWatch, {"name": "x", **job, **more})))
        assert len(said) == lines
        assert all("its first points are lost; raise `catch_up`" in one for one in said)


async def test_what_is_found_by_the_second_run_is_read_by_it(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_FIRST_PAUSE", 1e9)
    monkeypatch.setattr(caller, "_LONGEST_PAUSE", 1e9)
    for metric in ("Sent", "Received"):
        steady(cloudwatch, key(metric), {NOW - 180: 1.0})
    instance = Instance(cloudwatch, discover=[{"namespace": "Shop", "metrics": ["Sent", "Received"]}])
    cloudwatch.refuse = lambda: (
        (400, "Throttling", "Rate exceeded") if cloudwatch.requests[-1][1].get("MetricName") == "Received" else None
    )
    await instance.run()
    assert [one.name for one in instance.points()] == ["aws.shop.sent"]
    cloudwatch.refuse = lambda: None
    cloudwatch.now += 5
    await instance.run()
    await instance.close()
    assert [one.name for one in instance.points()] == ["aws.shop.sent", "aws.shop.received"]


async def test_a_mistake_in_an_expression_spoils_nothing_else(cloudwatch: FakeCloudWatch) -> None:
    for n in range(20):
        steady(cloudwatch, key("Sent", f"q{n}"), {NOW + 60 * minute: float(n) for minute in range(-5, 5)})
    sent = {"a": {"namespace": "Shop", "metric": "Sent"}}
    wrong = {"name": "shop.wrong", "expression": "a oops", "metrics": sent}
    instance = Instance(cloudwatch, discover=[{"namespace": "Shop", "metrics": ["Sent"]}], math=[wrong], reread="0s")
    asked = []
    for minute in range(3):
        cloudwatch.now = NOW + 60 * minute
        before = len(cloudwatch.requests)
        await instance.run()
        asked.append(len(cloudwatch.requests) - before)
    await instance.close()
    assert len(instance.points()) == 60
    assert instance.status("aws.cloudwatch.can_connect") == ("OK", "")
    said = "ValidationError: Error in expression 'q1': unexpected token (shop.wrong)"
    assert instance.status("aws.cloudwatch.complete") == (
        "WARNING", f"eu-central-1: cloudwatch:GetMetricData: {said}"
    )  # fmt: skip
    assert asked[0] > 3, "it was looked for"
    assert asked[1:] == [2, 2], "and is asked for alone from then on"
    assert instance.said["aws.cloudwatch.metrics_requested"] == 60


async def test_a_bad_day_of_aws_has_no_lasting_price(cloudwatch: FakeCloudWatch) -> None:
    for n in range(64):
        steady(cloudwatch, key("Sent", f"q{n}"), {NOW + 60 * minute: float(n) for minute in range(-5, 9)})
    instance = Instance(cloudwatch, discover=[{"namespace": "Shop", "metrics": ["Sent"]}], reread="0s")
    cloudwatch.refuse = lambda: (
        (400, "ValidationError", "not today") if cloudwatch.requests[-1][0] == "GetMetricData" else None
    )
    asked = []
    for minute in range(4):
        cloudwatch.now = NOW + 60 * minute
        before = len(cloudwatch.requests)
        await instance.run()
        asked.append(len(cloudwatch.requests) - before)
        cloudwatch.refuse = lambda: None
    await instance.close()
    assert asked[0] <= 1 + 1 + 2 * 40, "a list, the request, and its parts"
    assert asked[2:] == [1, 1], "all of them go together again"
    assert len(instance.points()) == 64 * 6, "what was never read is read from further back"


async def test_a_request_that_is_never_answered_is_charged(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent"), {NOW - 180: 1.0})
    cloudwatch.silent = 1
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}], timeout="1s")
    await instance.run()
    await instance.close()
    assert "no answer in time" in str(instance.error)
    assert len(cloudwatch.requests) == 1 == instance.total("aws.cloudwatch.metrics_requested")


async def test_each_attempt_without_an_answer_is_charged_and_a_refusal_is_not(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_READ_TIMEOUT", 0.5)
    steady(cloudwatch, key("Sent"), {NOW - 180: 1.0})
    cloudwatch.silent = 2
    instance = Instance(cloudwatch, static=[{"namespace": "Shop", "metric": "Sent"}])
    await instance.run()
    assert values(instance.points()) == [(NOW - 180.0, 1.0)]
    assert len(cloudwatch.requests) >= 3
    sent = len(cloudwatch.requests)
    assert sent == instance.said["aws.cloudwatch.metrics_requested"] == instance.said["aws.cloudwatch.api_calls"]
    assert instance.said["aws.cloudwatch.estimated_cost_usd"] == Decimal(sent) / 100_000
    cloudwatch.now += 60
    cloudwatch.refuse = lambda: (403, "AccessDenied", "no")
    await instance.run()
    await instance.close()
    assert instance.said["aws.cloudwatch.api_calls"] == len(cloudwatch.requests) == sent + 1
    assert instance.said["aws.cloudwatch.metrics_requested"] == sent


async def test_the_cost_of_what_is_not_known_is_not_told(cloudwatch: FakeCloudWatch) -> None:
    steady(cloudwatch, key("Sent"), {NOW - 180: 1.0})
    cloudwatch.refuse = lambda: (403, "AccessDenied", "no")
    jobs = [{"namespace": "Shop", "metrics": ["Sent"]}]
    instance = Instance(cloudwatch, discover=jobs, max_monthly_usd=1)
    told = []
    for _ in range(2):
        batch = await instance.run()
        names = {one.name for one in (*batch.samples, *batch.statuses)}
        told.append(names & {"aws.cloudwatch.series", "aws.cloudwatch.estimated_month_usd", "aws.cloudwatch.cost"})
        cloudwatch.refuse = lambda: None
    await instance.close()
    assert told[0] == set()
    assert len(told[1]) == 3


ARN = "arn:aws:elasticache:eu-central-1:123456789012:cluster:"


def clusters(server: FakeCloudWatch) -> dict[str, Any]:
    for name in ("sessions-001", "scratch-001"):
        at = ("AWS/ElastiCache", "CacheHits", (("CacheClusterId", name),))
        steady(server, at, {NOW + 60 * n: 1.0 for n in range(-5, 5)})
    server.tags = {f"{ARN}sessions-001": {"env": "prod", "team": "pay"}, f"{ARN}scratch-001": {"env": "test"}}
    return {"preset": "elasticache", "metrics": ["CacheHits"]}


def tag_sets(instance: Instance) -> set[tuple[str, ...]]:
    common = {"instance:prod", "region:eu-central-1"}
    return {tuple(tag for tag in one.tags if tag not in common) for one in instance.points()}


async def test_tags_of_resources_are_joined_and_filtered_by(cloudwatch: FakeCloudWatch) -> None:
    job = clusters(cloudwatch)
    sessions, scratch = "cacheclusterid:sessions-001", "cacheclusterid:scratch-001"
    for more, expected in (
        ({}, {(sessions, "env:prod", "team:pay"), (scratch, "env:test")}),
        ({"resource_tags": ["team"]}, {(sessions, "team:pay"), (scratch,)}),
        ({"match_tags": {"env": "pro.*"}, "resource_tags": []}, {(sessions,)}),
        ({"resource_tags": []}, {(sessions,), (scratch,)}),
    ):
        cloudwatch.requests.clear()
        instance = Instance(cloudwatch, discover=[job | more], state=False)
        await instance.run()
        await instance.close()
        assert tag_sets(instance) == expected
        asked = [name for name, _ in cloudwatch.requests].count("GetResources")
        assert asked == (0 if more == {"resource_tags": []} else 1)


async def test_without_the_right_to_see_tags_it_goes_on_without(cloudwatch: FakeCloudWatch) -> None:
    job = clusters(cloudwatch)
    cloudwatch.tags = 400
    instance = Instance(cloudwatch, discover=[job], state=False)
    await instance.run()
    await instance.run()
    await instance.close()
    assert tag_sets(instance) == {("cacheclusterid:sessions-001",), ("cacheclusterid:scratch-001",)}
    said = "tag:GetResources is refused; allow tag:GetResources; `vedette doctor` prints the smallest policy"
    assert instance.status("aws.cloudwatch.complete") == ("WARNING", f"eu-central-1: {said}")
    assert [name for name, _ in cloudwatch.requests].count("GetResources") == 1, "a refusal lasts"


async def test_a_series_never_changes_its_tags_because_they_cannot_be_had(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_FIRST_PAUSE", 1e9)
    monkeypatch.setattr(caller, "_LONGEST_PAUSE", 1e9)
    job = clusters(cloudwatch)
    known, cloudwatch.tags = cloudwatch.tags, 500
    instance = Instance(cloudwatch, discover=[job], state=False)
    await instance.run()
    assert instance.points() == [], "better late than as another series"
    cloudwatch.tags = known
    cloudwatch.now += 60
    await instance.run()
    await instance.close()
    expected = {("cacheclusterid:scratch-001", "env:test"), ("cacheclusterid:sessions-001", "env:prod", "team:pay")}
    assert tag_sets(instance) == expected


async def test_a_daily_period_leaves_no_gaps(cloudwatch: FakeCloudWatch) -> None:
    day = 86_400
    first = NOW // day * day
    cloudwatch.truth[key("Size")] = Truth(
        {first + day * n: [(first + day * (n + 1.0), float(n))] for n in range(-3, 4)}
    )
    job = {"namespace": "Shop", "metric": "Size", "period": "1d"}
    instance = Instance(cloudwatch, static=[job], reread="0s", interval="1h")
    for hour in range(60):
        cloudwatch.now = NOW + 3600 * hour
        await instance.run()
        assert instance.status("aws.cloudwatch.complete") == ("OK", "")
    await instance.close()
    assert values(instance.points()) == [(first + day * n, float(n)) for n in range(-1, 3)]
    assert len(cloudwatch.requests) == 4


MINUTE = 60
PERIOD = 300
REREAD = 3600


def a_life(chance: random.Random, start: int, end: int) -> Truth:
    """A week of a series: gaps, points that come late, points that are corrected, some more than once."""
    made = Truth()
    for time in range(start, end, PERIOD):
        if chance.random() < 0.05:
            continue
        ready = time + PERIOD + chance.uniform(0, 120)
        if chance.random() < 0.1:
            ready += chance.uniform(0, REREAD - PERIOD)
        versions = [(ready, round(chance.uniform(0, 100), 3))]
        while chance.random() < 0.1:
            since = chance.uniform(versions[-1][0], time + REREAD)
            versions.append((since, round(chance.uniform(0, 100), 3)))
        made.points[time] = versions
    return made


@pytest.mark.parametrize(
    ("hours", "seed"), [(12, 1), *(pytest.param(7 * 24, seed, marks=pytest.mark.soak) for seed in (2, 3))]
)
async def test_done_means_2_a_week(
    cloudwatch: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch, hours: int, seed: int
) -> None:
    monkeypatch.setattr(caller, "_FIRST_PAUSE", 1e9)  # who is throttled gives up at once: the next run goes on
    monkeypatch.setattr(caller, "_LONGEST_PAUSE", 1e9)
    chance = cloudwatch.chance = random.Random(seed)
    start = NOW // 3600 * 3600
    end = start + hours * 3600
    for n in range(7):
        cloudwatch.truth[key("Sent", f"q{n}")] = a_life(chance, start - 7200, end)
    born = start + (hours // 3) * 3600  # one begins in between, and is listed late
    cloudwatch.truth[key("Sent", "q7")] = a_life(chance, born, end)
    cloudwatch.listed[key("Sent", "q7")] = born + PERIOD + 900
    instance = Instance(
        cloudwatch,
        discover=[{"namespace": "Shop", "metrics": ["Sent"], "period": "5m"}],
        reread="1h",
        catch_up="1d",
        interval="5m",
        delay="2m",
    )
    down = 0.0
    lost = killed = 0
    for cycle in range(hours * 12 + 24):
        cloudwatch.now = start + cycle * PERIOD + 150.0
        storm = cycle < hours * 12
        if storm and cloudwatch.now >= down and chance.random() < 0.01:
            down = cloudwatch.now + chance.uniform(0, 4 * 3600)  # the agent is not there
        if cloudwatch.now < down:
            continue
        cloudwatch.page = chance.choice((0, 0, 20)) if storm else 0
        cloudwatch.partial = lambda storm=storm: storm and chance.random() < 0.05  # type: ignore[misc]
        cloudwatch.refuse = lambda storm=storm: (  # type: ignore[misc]
            (400, "Throttling", "Rate exceeded") if storm and chance.random() < 0.08 else None
        )
        delivered = not storm or chance.random() > 0.03
        lost += not delivered
        for place in instance.check._places if cycle % 2 else ():
            place.discovery._next.clear()  # ten minutes have passed
        await instance.run(delivered=delivered, committed=not storm or chance.random() > 0.05)
        if storm and chance.random() < 0.03:  # a SIGKILL: only what was committed is left
            await instance.close()
            instance.restart()
            killed += 1
    await instance.close()

    last: dict[tuple[str, float | None], Any] = {}
    for sample in instance.points():
        (queue,) = [tag.removeprefix("queue:") for tag in sample.tags if tag.startswith("queue:")]
        last[queue, sample.time] = sample.value
    first = min(time for _, time in last if time is not None)
    expected = {
        (f"q{n}", float(time)): value
        for n in range(8)
        for time, value in cloudwatch.truth[key("Sent", f"q{n}")].final().items()
        if time >= first
    }
    assert len(expected) > hours * 12 * 6
    assert last == expected
    assert len({(one.name, one.tags) for one in instance.points()}) == 8, "no series twice"
    assert len(instance.points()) > len(last), "some were corrected"
    for batch in instance.batches:
        identities = [(one.name, one.tags, one.time) for one in batch.samples]
        assert len(identities) == len(set(identities))
    assert instance.channel.dropped.total() == 0
    assert lost
    assert killed
    assert instance.said["aws.cloudwatch.metrics_requested"] == cloudwatch.charged()
    assert instance.said["aws.cloudwatch.estimated_cost_usd"] == Decimal(cloudwatch.charged()) / 100_000
    assert instance.said["aws.cloudwatch.api_calls"] == len(cloudwatch.requests)
