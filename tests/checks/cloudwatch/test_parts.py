"""Names, tags, packing and states: what needs no server."""

from __future__ import annotations

from typing import Any

import pytest

from vedette import Status
from vedette_checks.cloudwatch import CloudWatch, CloudWatchConfig
from vedette_checks.cloudwatch.config import DiscoverConfig
from vedette_checks.cloudwatch.discovery import names_in, preferred
from vedette_checks.cloudwatch.names import family, is_statistic, metric_name, resource_tag, snake
from vedette_checks.cloudwatch.reading import pack
from vedette_checks.cloudwatch.series import Read, Series, Source, make
from vedette_checks.cloudwatch.states import grade


@pytest.mark.parametrize(
    ("name", "snaked"),
    [
        ("CPUUtilization", "cpu_utilization"),
        ("EngineCPUUtilization", "engine_cpu_utilization"),
        ("ReadIOPS", "read_iops"),
        ("FreeStorageSpace", "free_storage_space"),
        ("HTTPCode_Target_5XX_Count", "http_code_target_5xx_count"),
        ("EBSIOBalance%", "ebsio_balance"),
        ("p99.9", "p99_9"),
        ("TM(10%:90%)", "tm_10_90"),
        ("node_cpu_utilization", "node_cpu_utilization"),
    ],
)
def test_snake(name: str, snaked: str) -> None:
    assert snake(name) == snaked


@pytest.mark.parametrize(
    ("namespace", "found"),
    [
        ("AWS/RDS", "aws.rds"),
        ("AWS/ElastiCache", "aws.redis"),
        ("AWS/ApplicationELB", "aws.applicationelb"),
        ("Shop/Orders & Payments", "aws.shop.orders_payments"),
        ("ContainerInsights", "aws.containerinsights"),
    ],
)
def test_family(namespace: str, found: str) -> None:
    assert family(namespace) == found


def test_metric_names() -> None:
    assert metric_name("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "Average", "Average") == (
        "aws.sqs.messages_in_flight"
    )
    assert metric_name("AWS/RDS", "CPUUtilization", "p99", "Average") == "aws.rds.cpu_utilization.p99"
    assert metric_name("AWS/RDS", "CPUUtilization", "SampleCount", "Average") == "aws.rds.cpu_utilization.sample_count"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Average", True), ("p99", True), ("p99.99", True), ("p100", True), ("tm90", True), ("TM(10%:90%)", True),
        ("PR(:300)", True), ("IQM", True), ("average", False), ("p101", False), ("99", False), ("Mean", False),
    ],
)  # fmt: skip
def test_statistics(text: str, known: bool) -> None:
    assert is_statistic(text) is known


def test_resource_tags_and_arns() -> None:
    assert resource_tag("aws:cloudformation:stack-name", "shop") == "aws_cloudformation_stack-name:shop"
    assert resource_tag("critical", "") == "critical"
    assert "payments" in set(names_in("arn:aws:rds:eu-central-1:1:db:payments"))
    assert "payouts" in set(names_in("arn:aws:sqs:eu-central-1:1:payouts"))
    balancer = "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/shop/50dc6c495c0c9188"
    assert "app/shop/50dc6c495c0c9188" in set(names_in(balancer))


def test_of_a_cluster_the_first_set_of_dimensions_counts() -> None:
    job = DiscoverConfig.model_validate({"preset": "elasticache"})
    both, node = (("CacheClusterId", "a"),), (("CacheClusterId", "a"), ("CacheNodeId", "0001"))
    only = (("CacheClusterId", "b"), ("CacheNodeId", "0001"))
    second = (("CacheClusterId", "b"), ("CacheNodeId", "0002"))
    other = (("ReplicationGroupId", "c"),)
    assert preferred(job, [node, only, second, both, other]) == [both, only, second]
    assert preferred(DiscoverConfig.model_validate({"namespace": "A", "metrics": ["B"]}), [other, both]) == [
        both,
        other,
    ]


def series(metric: str, period: int, statistic: str = "Average", expression: str = "") -> Series:
    reads = (Read(Source("Shop", metric), statistic, "a" if expression else ""),)
    return make("eu-central-1", f"shop.{metric}.{statistic}", (), period, reads, expression)


def test_packing() -> None:
    hour = (7200, 10_800)
    minutes = [(series(f"m{n}", 60), hour) for n in range(600)]
    five = [(series(f"f{n}", 300), hour) for n in range(390)]
    daily = [(series(f"d{n}", 86_400), (0, 86_400)) for n in range(10)]
    made = pack([*minutes, *five, *daily])
    assert [(one.queries, one.period) for one in made] == [(10, 86_400), (500, 60), (490, 300)]
    assert all(one.start % one.period == 0 for one in made)

    late = [(one, (7200 - 60 * 240, 10_800)) if n < 300 else (one, window) for n, (one, window) in enumerate(minutes)]
    made = pack(late)
    assert all(one.queries * (one.end - one.start) // 60 <= 100_000 for one in made), "no answer needs pages"
    assert sum(one.queries for one in made) == 600


def test_statistics_of_a_metric_stay_together() -> None:
    window = (7200, 10_800)
    many = [(series(f"m{n}", 60, statistic), window) for statistic in ("Average", "Sum", "p99") for n in range(200)]
    made = pack(many)
    assert [one.queries for one in made] == [498, 102]
    homes: dict[Any, set[int]] = {}
    for place, request in enumerate(made):
        for one, _ in request.series:
            homes.setdefault(one.reads[0].source, set()).add(place)
    assert all(len(places) == 1 for places in homes.values())


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("available", Status.OK), ("backing-up", Status.OK), ("modifying", Status.WARNING),
        ("storage-full", Status.CRITICAL), ("incompatible-parameters", Status.CRITICAL), ("failed", Status.CRITICAL),
        ("levitating", Status.UNKNOWN),
    ],
)  # fmt: skip
def test_states(state: str, status: Status) -> None:
    assert grade(state) is status


def test_declared_and_linted() -> None:
    config = CloudWatchConfig.model_validate(
        {
            "name": "prod",
            "region": "eu-central-1",
            "discover": ["rds"],
            "static": [{"namespace": "AWS/RDS", "metric": "CPUUtilization", "statistics": ["Average", "Maximum"]}],
        }
    )
    declared = {metric.name: metric for metric in CloudWatch.declare(config)}
    assert declared["aws.rds.cpu_utilization"].tags == ("region", "dbinstanceidentifier")
    assert declared["aws.rds.cpu_utilization.maximum"].unit == "percent"
    assert (declared["aws.rds.read_iops"].unit, declared["aws.rds.read_iops"].per) == ("operation", "second")
    assert "aws.redis.cache_hits" not in declared
    assert list(CloudWatch.lint(config)) == []
    hits = {"namespace": "AWS/ElastiCache", "metric": "CacheHits", "nil_to_zero": True}
    assert CloudWatchConfig.model_validate({"name": "x", "static": [hits]}).static[0].nil_to_zero, "its sum is usual"
    slow = config.model_copy(update={"delay": 3600.0})
    assert len(list(CloudWatch.lint(slow))) == 1
    assert (
        CloudWatchConfig.model_validate(
            {"name": "x", "static": [{"namespace": "A", "metric": "B", "period": "5m"}]}
        ).cadence
        == 300
    )
