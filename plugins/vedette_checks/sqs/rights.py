"""Which IAM actions a configuration needs, and on what.

Source: AWS Service Authorization Reference, "Actions, resources, and condition keys for Amazon SQS".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vedette_checks.aws import Grant
from vedette_checks.sqs.config import QueueConfig, SqsConfig


def grants(
    config: SqsConfig,
    regions: Iterable[str] = ("*",),
    account: str = "*",
    partition: str = "aws",
    dead_letters: Iterable[str] = (),
) -> Iterator[Grant]:
    """What the identity that calls must be allowed.

    Args:
        config: the options.
        regions: where.
        account: number of the account, where it is known.
        partition: of the ARNs, such as `aws` or `aws-cn`.
        dead_letters: ARNs of the queues' dead-letter queues, as far as they are known.
    """
    places = tuple(regions)
    named = [entry for entry in config.queues if entry.name]

    def arns(entries: Iterable[QueueConfig]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arn for entry in entries for arn in _arns(entry, places, account, partition)))

    yield Grant("sqs:GetQueueAttributes", tuple(dict.fromkeys((*arns(config.queues), *dead_letters))))
    if named:
        yield Grant("sqs:GetQueueUrl", arns(named))
    if any(entry.prefix is not None for entry in config.queues):
        yield Grant("sqs:ListQueues")
    if any(config.wants_age(config.thresholds(entry)) for entry in config.queues):
        yield Grant("cloudwatch:GetMetricData")


def _arns(entry: QueueConfig, regions: Iterable[str], account: str, partition: str) -> Iterator[str]:
    name = entry.name or f"{entry.prefix}*"
    if entry.url:
        *_, account, name = entry.url.split("/")
        regions = (entry.region,) if entry.region else regions
    for region in regions:
        yield f"arn:{partition}:sqs:{region}:{account}:{name}"
