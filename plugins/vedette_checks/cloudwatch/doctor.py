"""What an instance needs of AWS, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from time import monotonic
from typing import Any

from vedette import CheckError, Diagnosis
from vedette_checks.aws import Account, Grant, policy
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.rights import grants
from vedette_checks.cloudwatch.series import Series, fixed

_PATIENCE = 5.0


async def diagnose(config: CloudWatchConfig, account: Account, diagnosis: Diagnosis) -> None:
    """The credentials, who they are, each action in each region, and the smallest policy that allows all of it."""
    number, partition, regions = "*", "aws", [one or "*" for one in config.places]
    try:
        await account.open(config.places[0])
        diagnosis.ok("credentials", await account.source() + (", role taken on" if config.role_arn else ""))
        regions = [account.region(one) for one in config.places]
        who = await account.call("sts", "GetCallerIdentity", regions[0], until=monotonic() + _PATIENCE)
        number, partition = str(who["Account"]), str(who["Arn"]).split(":")[1]
        diagnosis.ok("identity", str(who["Arn"]))
    except CheckError as error:
        diagnosis.failed("credentials", error.message, error.hint)
        diagnosis.not_reached("permissions")
    else:
        for region in regions:
            for action, call in probes(config, region):
                await _try(account, region, action, call, diagnosis)
    _print(config, regions, number, partition, diagnosis)


def _print(config: CloudWatchConfig, regions: list[str], number: str, partition: str, diagnosis: Diagnosis) -> None:
    needed = policy(grants(config, regions, number, partition))
    diagnosis.info("IAM policy", "the smallest that this configuration needs", "", needed)
    if config.role_arn:
        base = policy([Grant("sts:AssumeRole", (config.role_arn,))])
        diagnosis.info("IAM policy to take on the role", "of the credentials it is taken on with", "", base)


def probes(config: CloudWatchConfig, region: str) -> Iterator[tuple[str, tuple[str, str, dict[str, Any]]]]:
    """One harmless call of each action that is needed, the smallest there is: service, operation, parameters."""
    now = int(time.time()) // 60 * 60
    series = next(iter(fixed(config, region)), None)
    query = {"Id": "q0", "MetricStat": _stat(series)}
    window = {"StartTime": now - 300, "EndTime": now}
    yield "cloudwatch:GetMetricData", ("cloudwatch", "GetMetricData", {"MetricDataQueries": [query], **window})
    wanted = {grant.action for grant in grants(config)}
    space = config.discover[0].space if config.discover else ""
    others: dict[str, tuple[str, str, dict[str, Any]]] = {
        "cloudwatch:ListMetrics": ("cloudwatch", "ListMetrics", {"Namespace": space, "RecentlyActive": "PT3H"}),
        "tag:GetResources": ("resourcegroupstaggingapi", "GetResources", {"ResourcesPerPage": 1}),
        "rds:DescribeDBInstances": ("rds", "DescribeDBInstances", {"MaxRecords": 20}),
        "elasticache:DescribeCacheClusters": ("elasticache", "DescribeCacheClusters", {"MaxRecords": 20}),
        "elasticache:DescribeReplicationGroups": ("elasticache", "DescribeReplicationGroups", {"MaxRecords": 20}),
    }
    yield from ((action, call) for action, call in others.items() if action in wanted)


def _stat(series: Series | None) -> dict[str, Any]:
    metric: dict[str, Any] = {"Namespace": "AWS/RDS", "MetricName": "CPUUtilization"}
    if series is not None:
        source = series.reads[0].source
        dimensions = [{"Name": key, "Value": value} for key, value in source.dimensions]
        metric = {"Namespace": source.namespace, "MetricName": source.metric, "Dimensions": dimensions}
    return {"Metric": metric, "Period": 60, "Stat": "Average"}


async def _try(
    account: Account, region: str, action: str, call: tuple[str, str, dict[str, Any]], diagnosis: Diagnosis
) -> None:
    service, operation, parameters = call
    try:
        await account.call(service, operation, region, until=monotonic() + _PATIENCE, **parameters)
    except CheckError as error:
        diagnosis.failed(action, error.message, error.hint)
    else:
        diagnosis.ok(action, region)
