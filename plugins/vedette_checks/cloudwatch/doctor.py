"""What an instance needs of AWS, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from time import monotonic
from typing import Any

from vedette import CheckError, Diagnosis
from vedette_checks.aws import Account, identify, print_policy
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.rights import grants
from vedette_checks.cloudwatch.series import Series, fixed

_PATIENCE = 5.0


async def diagnose(config: CloudWatchConfig, account: Account, diagnosis: Diagnosis) -> None:
    """The credentials, who they are, each action in each region, and the smallest policy that allows all of it."""
    who = await identify(account, config.places, diagnosis)
    if not who.known:
        diagnosis.not_reached("permissions")
    for region in who.regions if who.known else ():
        for action, call in probes(config, region):
            await _try(account, region, action, call, diagnosis)
    print_policy(grants(config, who.regions, who.account, who.partition), account, diagnosis)


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
