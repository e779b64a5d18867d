"""Against moto's server: what the strategy names, discovery with tags, states, and the smallest policy."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aws import ACCOUNT, REGION, AwsServer, minutes
from vedette.advice import Diagnosis
from vedette.testing import CheckRun, run_check
from vedette_checks.cloudwatch import CloudWatch, CloudWatchConfig

pytestmark = pytest.mark.anyio

STRATEGY = Path(__file__).parents[2] / "data/strategy-metrics.csv"
SEEDED = {
    "aws.rds.cpu_utilization": ("AWS/RDS", "CPUUtilization"),
    "aws.rds.database_connections": ("AWS/RDS", "DatabaseConnections"),
    "aws.rds.read_iops": ("AWS/RDS", "ReadIOPS"),
    "aws.rds.write_iops": ("AWS/RDS", "WriteIOPS"),
    "aws.redis.cpu_utilization": ("AWS/ElastiCache", "CPUUtilization"),
    "aws.redis.memory_utilization": ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"),
    "aws.redis.cache_hits": ("AWS/ElastiCache", "CacheHits"),
    "aws.redis.cache_misses": ("AWS/ElastiCache", "CacheMisses"),
    "aws.sqs.messages_visible": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    "aws.sqs.messages_in_flight": ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"),
}
RESOURCES = {
    "AWS/RDS": {"DBInstanceIdentifier": "payments"},
    "AWS/ElastiCache": {"CacheClusterId": "sessions-001"},
    "AWS/SQS": {"QueueName": "payouts"},
}
TAGS = {
    "AWS/RDS": ("dbinstanceidentifier:payments", "env:prod"),
    "AWS/ElastiCache": ("cacheclusterid:sessions-001",),
    "AWS/SQS": ("env:prod", "queue:payouts", "queuename:payouts"),
}


def options(aws: AwsServer, **more: Any) -> dict[str, Any]:
    return {"name": "prod", "region": REGION, "endpoint_url": aws.url, "timeout": "30s", **more}


def seed(aws: AwsServer) -> list[int]:
    """Some minutes of everything; the value says which metric and minute it is."""
    with aws.making() as client:
        client("rds").create_db_instance(
            DBInstanceIdentifier="payments",
            DBInstanceClass="db.t3.micro",
            Engine="postgres",
            AllocatedStorage=20,
            MasterUsername="vedette",
            MasterUserPassword="long-enough",
            Tags=[{"Key": "env", "Value": "prod"}],
        )
        client("elasticache").create_cache_cluster(
            CacheClusterId="sessions-001", Engine="redis", CacheNodeType="cache.t3.micro", NumCacheNodes=1
        )
        client("sqs").create_queue(QueueName="payouts", tags={"env": "prod"})
    times = minutes(4, ago=150)
    for n, (namespace, metric) in enumerate(SEEDED.values()):
        points = {at: 100.0 * n + k for k, at in enumerate(times)}
        aws.points(namespace, metric, RESOURCES[namespace], points)
    return times


def sent(run: CheckRun, name: str) -> dict[float | None, Any]:
    return {sample.time: sample.value for sample in run.samples if sample.name == name}


async def test_done_means_1_every_metric_of_the_strategy_with_seeded_value_and_time(aws: AwsServer) -> None:
    with STRATEGY.open() as file:
        rows = [row for row in csv.DictReader(file) if row["emitted_by"] == "cloudwatch"]
    assert {row["metric"] for row in rows} == set(SEEDED)
    times = seed(aws)

    run = await run_check(CloudWatch, options(aws, discover=["rds", "elasticache", "sqs"]))

    assert run.error is None
    for n, (name, (namespace, _)) in enumerate(SEEDED.items()):
        assert sent(run, name) == {at: 100.0 * n + k for k, at in enumerate(times)}, name
        tags = {sample.tags for sample in run.samples if sample.name == name}
        assert tags == {tuple(sorted((*TAGS[namespace], "instance:prod", f"region:{REGION}")))}
    for row in rows:
        metric = run.metrics[row["metric"]]
        assert (metric.kind.value, metric.unit.removesuffix("s")) == (row["kind"], row["unit"].removesuffix("s"))
        assert set(filter(None, row["tags"].split(";"))) <= set(metric.tags)
    assert run.batch.host == ""
    assert run.dropped == {}
    assert run.status("aws.cloudwatch.can_connect", region=REGION).name == "OK"
    assert run.message("aws.cloudwatch.complete", region=REGION) == ""
    assert run.value("aws.cloudwatch.metrics_requested", region=REGION) == len(SEEDED)
    assert run.value("aws.cloudwatch.series", region=REGION) == len(SEEDED)


async def test_done_means_4_the_policy_of_doctor_is_what_the_check_calls(aws: AwsServer) -> None:
    seed(aws)
    role = f"arn:aws:iam::{ACCOUNT}:role/vedette"
    wanted = options(aws, discover=["rds", "elasticache", "sqs"], role_arn=role, external_id="of-ours")
    check = CloudWatch(CloudWatchConfig.model_validate(wanted))
    diagnosis = Diagnosis()
    await check.diagnose(diagnosis)
    await check.close()
    asked = aws.actions
    aws.calls.clear()

    await run_check(CloudWatch, wanted)

    policies = [json.loads(each.snippet) for each in diagnosis.symptoms if each.what.startswith("IAM policy")]
    allowed = {action for policy in policies for statement in policy["Statement"] for action in statement["Action"]}
    assert allowed == aws.actions
    assert asked - aws.actions == {"sts:GetCallerIdentity"}, "doctor tries what the check calls, and who it is"
    assert aws.actions <= asked
    resources = {
        action: statement["Resource"] for statement in policies[0]["Statement"] for action in statement["Action"]
    }
    assert resources["cloudwatch:GetMetricData"] == "*"
    assert resources["rds:DescribeDBInstances"] == f"arn:aws:rds:{REGION}:{ACCOUNT}:db:*"
    assert policies[1]["Statement"][0] == {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": role}
    assert {each.grade.value for each in diagnosis.symptoms} == {"ok", "info"}
    assumed = next(call for call in aws.calls if call.action == "sts:AssumeRole")
    assert (assumed.parameters["RoleArn"], assumed.parameters["ExternalId"]) == (role, "of-ours")
    assert {call.key for call in aws.calls if call.action != "sts:AssumeRole"}.isdisjoint({"AKIAVEDETTE"})


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ({"static": [{"namespace": "A", "metric": "B"}]}, {"cloudwatch:GetMetricData"}),
        (
            {"discover": [{"preset": "sqs", "resource_tags": []}]},
            {"cloudwatch:GetMetricData", "cloudwatch:ListMetrics"},
        ),
        (
            {"discover": ["rds"], "state": False},
            {"cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "tag:GetResources"},
        ),
    ],
)
async def test_a_smaller_configuration_needs_less(aws: AwsServer, more: dict[str, Any], allowed: set[str]) -> None:
    for namespace, metric in (SEEDED["aws.rds.cpu_utilization"], SEEDED["aws.sqs.messages_visible"]):
        aws.points(namespace, metric, RESOURCES[namespace], dict.fromkeys(minutes(4, ago=120), 1.0))
    wanted = options(aws, **more)
    check, diagnosis = CloudWatch(CloudWatchConfig.model_validate(wanted)), Diagnosis()
    await check.diagnose(diagnosis)
    await check.close()
    aws.calls.clear()
    await run_check(CloudWatch, wanted)
    (policy,) = [json.loads(each.snippet) for each in diagnosis.symptoms if each.snippet]
    assert {action for statement in policy["Statement"] for action in statement["Action"]} == allowed == aws.actions


async def test_states_of_instances(aws: AwsServer) -> None:
    seed(aws)
    run = await run_check(CloudWatch, options(aws, discover=["rds", "elasticache"]), runs=2)
    assert run.status("aws.rds.state", dbinstanceidentifier="payments", region=REGION, engine="postgres").name == "OK"
    assert run.status("aws.elasticache.state", cacheclusterid="sessions-001").name == "OK"
    assert [call.action for call in aws.calls].count("rds:DescribeDBInstances") == 1, "said twice, asked once"
    with aws.making() as client:
        client("rds").stop_db_instance(DBInstanceIdentifier="payments")
    run = await run_check(CloudWatch, options(aws, discover=["rds"]))
    assert run.status("aws.rds.state", dbinstanceidentifier="payments").name == "WARNING"
    assert run.message("aws.rds.state") == "dbinstanceidentifier:payments is stopped"
    for more, told in (
        ({"match": {"DBInstanceIdentifier": "ledger"}}, 0),
        ({"match_tags": {"env": "test"}}, 0),
        ({"match_tags": {"env": "prod"}, "resource_tags": []}, 1),
    ):
        run = await run_check(CloudWatch, options(aws, discover=[{"preset": "rds", **more}]))
        assert [status.name for status in run.statuses if status.name == "aws.rds.state"] == ["aws.rds.state"] * told


async def test_states_that_could_not_be_read_are_asked_for_again_by_the_next_run(aws: AwsServer) -> None:
    seed(aws)
    aws.refused.append(("rds:DescribeDBInstances", b""))
    run = await run_check(CloudWatch, options(aws, discover=["rds", "elasticache"]), runs=3)
    known = [{one.name for one in batch.statuses} & {"aws.rds.state", "aws.elasticache.state"} for batch in run.batches]
    assert known == [{"aws.elasticache.state"}, *[{"aws.rds.state", "aws.elasticache.state"}] * 2]
    said = [one.message for batch in run.batches for one in batch.statuses if one.name == "aws.cloudwatch.complete"]
    doctor = "`vedette doctor` prints the smallest policy"
    assert said == [f"{REGION}: rds:DescribeDBInstances is refused; allow rds:DescribeDBInstances; {doctor}", "", ""]
    counts = aws.counts
    assert (counts["rds:DescribeDBInstances"], counts["elasticache:DescribeCacheClusters"]) == (2, 1)


async def test_discovery_of_any_namespace_filters_and_prefers(aws: AwsServer) -> None:
    (at,) = minutes(1, ago=180)
    for name, value in (("app/shop/1", 7.0), ("app/shop-test/2", 8.0), ("net/other/3", 9.0)):
        aws.points("AWS/ApplicationELB", "RequestCount", {"LoadBalancer": name}, {at: value})
        zoned = {"LoadBalancer": name, "AvailabilityZone": "eu-central-1a"}
        aws.points("AWS/ApplicationELB", "RequestCount", zoned, {at: value / 2})
    job = {
        "namespace": "AWS/ApplicationELB",
        "metrics": ["RequestCount"],
        "statistics": ["Sum", "Maximum"],
        "dimensions": ["LoadBalancer"],
        "match": {"LoadBalancer": "app/.*"},
        "exclude": {"LoadBalancer": ".*-test/.*"},
        "tags": ["team:shop"],
    }
    run = await run_check(CloudWatch, options(aws, discover=[job]))
    found = {(one.name, one.value, one.time) for one in run.samples if one.name.startswith("aws.applicationelb")}
    assert found == {
        ("aws.applicationelb.request_count.sum", 7.0, at),
        ("aws.applicationelb.request_count.maximum", 7.0, at),
    }
    assert run.values("aws.applicationelb.request_count.sum", loadbalancer="app/shop/1", team="shop") == [7.0]
    assert run.value("aws.cloudwatch.metrics_requested") == 1, "two statistics of one metric cost as one"


async def test_math_and_static(aws: AwsServer) -> None:
    times = minutes(4, ago=120)
    aws.points("AWS/ElastiCache", "CacheHits", {"CacheClusterId": "s"}, dict.fromkeys(times, 30.0))
    static = {"namespace": "AWS/ElastiCache", "metric": "CacheHits", "dimensions": {"CacheClusterId": "s"}}
    gone = {"namespace": "AWS/SQS", "metric": "NumberOfMessagesSent", "dimensions": {"QueueName": "q"}}
    run = await run_check(
        CloudWatch,
        options(
            aws,
            reread="1m",
            static=[
                static,
                {**static, "statistics": ["Average", "SampleCount"], "name": "cache.hits"},
                {**gone, "statistics": ["Sum"], "nil_to_zero": True},
                gone | {"metric": "NumberOfMessagesReceived"},
            ],
            math=[{"name": "cache.hits_twice", "expression": "hits * 2", "metrics": {"hits": static}}],
        ),
    )
    assert set(sent(run, "aws.redis.cache_hits")) <= set(times)
    assert set(run.values("aws.redis.cache_hits", cacheclusterid="s")) == {30.0}
    assert set(run.values("cache.hits", cacheclusterid="s")) == {30.0}
    assert set(run.values("cache.hits.sample_count")) == {1.0}
    assert run.values("aws.sqs.number_of_messages_sent", queue="q") == [0.0, 0.0], "nil_to_zero"
    assert run.values("aws.sqs.number_of_messages_received") == [], "what was not measured is absent"
    queries = next(call.parameters for call in aws.calls if call.action == "cloudwatch:GetMetricData")
    expressions = [value for key, value in queries.items() if key.endswith(".Expression")]
    assert len(expressions) == 1
    assert expressions[0].endswith("_hits * 2")


async def test_vedette_check_shows_the_newest_point_with_its_time(aws: AwsServer, tmp_path: Path) -> None:
    times = minutes(5, ago=120)
    aws.points("Shop", "Orders", {}, {at: float(n) for n, at in enumerate(times)})
    (tmp_path / "conf.d").mkdir()
    wanted = {"instances": [options(aws, static=[{"namespace": "Shop", "metric": "Orders"}])]}
    (tmp_path / "conf.d/cloudwatch.yaml").write_text(json.dumps(wanted))
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vedette", "check", "cloudwatch", cwd=tmp_path, stdout=-1, stderr=-1
    )
    out, _ = await run.communicate()
    (line,) = [line for line in out.decode().splitlines() if line.startswith("aws.shop.orders")]
    clock = time.strftime("%H:%M:%S", time.localtime(times[-1]))
    assert " ".join(line.split()) == f"aws.shop.orders 4 gauge region:{REGION} {clock}, 4 earlier"


async def test_several_regions_and_one_that_refuses(aws: AwsServer) -> None:
    (at,) = minutes(1, ago=180)
    job = {"namespace": "Shop", "metric": "Orders"}
    for region, value in (("eu-central-1", 1.0), ("us-east-1", 2.0)):
        aws.points("Shop", "Orders", {}, {at: value}, region)
    wanted = options(aws, static=[job], regions=["eu-central-1", "us-east-1"])
    del wanted["region"]
    run = await run_check(CloudWatch, wanted)
    assert run.value("aws.shop.orders", region="eu-central-1") == 1.0
    assert run.value("aws.shop.orders", region="us-east-1") == 2.0
    assert {call.region for call in aws.calls} == {"eu-central-1", "us-east-1"}


async def test_the_bill(aws: AwsServer) -> None:
    job = {"namespace": "Shop", "metric": "Orders", "statistics": ["Sum", "p50", "p90", "p95", "p99", "Maximum"]}
    job = job | {"statistics": ["Sum", "Average", "Minimum", "Maximum", "SampleCount"], "period": "5m"}
    wanted = options(aws, static=[job, {"namespace": "Shop", "metric": "Users"}], price=1.5, max_monthly_usd=60)
    run = await run_check(CloudWatch, wanted, runs=2, time=time.time())
    first = {sample.name: sample.value for sample in run.batches[0].samples}
    assert first["aws.cloudwatch.metrics_requested"] == 2
    assert str(first["aws.cloudwatch.estimated_cost_usd"]) == "0.003"
    # 730 hours: once a minute 43,800, every five minutes 8,760
    assert str(first["aws.cloudwatch.estimated_month_usd"]) == "78.84"
    assert run.status("aws.cloudwatch.cost").name == "WARNING"
    assert run.message("aws.cloudwatch.cost") == "about 78.84 dollars a month, more than max_monthly_usd (60.00)"
    assert run.values("aws.cloudwatch.metrics_requested") == [0], "no period has ended since"
    assert [call.action for call in aws.calls] == ["cloudwatch:GetMetricData"]
