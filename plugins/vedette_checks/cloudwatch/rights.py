"""Which IAM actions a configuration needs.

Source: AWS Service Authorization Reference: GetMetricData, ListMetrics and GetResources know no resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vedette_checks.aws import Grant
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.states import ACTIONS

_KINDS = {
    "rds:DescribeDBInstances": "db",
    "elasticache:DescribeCacheClusters": "cluster",
    "elasticache:DescribeReplicationGroups": "replicationgroup",
}


def grants(
    config: CloudWatchConfig, regions: Iterable[str] = ("*",), account: str = "*", partition: str = "aws"
) -> Iterator[Grant]:
    """What the identity that calls must be allowed.

    Args:
        config: the options.
        regions: where.
        account: number of the account, where it is known.
        partition: of the ARNs, such as `aws` or `aws-cn`.
    """
    yield Grant("cloudwatch:GetMetricData")
    if config.discover:
        yield Grant("cloudwatch:ListMetrics")
    if any(job.tagged for job in config.discover):
        yield Grant("tag:GetResources")
    for preset in config.watched:
        for action in ACTIONS[preset]:
            service, kind = action.partition(":")[0], _KINDS[action]
            yield Grant(action, tuple(f"arn:{partition}:{service}:{one}:{account}:{kind}:*" for one in regions))
