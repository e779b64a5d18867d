"""What a metric of CloudWatch is called here: the strategy's names, else snake case in the same families."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER = re.compile(r"[^a-z0-9]+")
_STATISTIC = re.compile(
    r"SampleCount|Average|Sum|Minimum|Maximum|IQM"
    r"|(p|tm|tc|ts|wm)(\d{1,2}(\.\d{1,10})?|100)"
    r"|(PR|TM|TC|TS|WM)\([\d.]*%?:[\d.]*%?\)"
)
COUNTS = frozenset({"Sum", "SampleCount"})
"""Statistics that say how many, so that none can mean 0."""
_FAMILIES = {"AWS/ElastiCache": "aws.redis"}
"""Where the family is not the namespace in lower case."""
_VERBATIM = {
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"): "memory_utilization",
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): "messages_visible",
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): "messages_in_flight",
}
_ALSO = {"QueueName": "queue"}
"""Tag keys of the strategy, beside that of Datadog's integration, by dimension."""


def is_statistic(text: str) -> bool:
    """Whether CloudWatch knows this statistic.

    Source: Amazon CloudWatch User Guide, "CloudWatch statistics definitions".
    """
    return _STATISTIC.fullmatch(text) is not None


def snake(name: str) -> str:
    """`CPUUtilization` as `cpu_utilization`, `ReadIOPS` as `read_iops`."""
    return _OTHER.sub("_", _WORD.sub("_", name).lower()).strip("_")


def family(namespace: str) -> str:
    """`AWS/RDS` as `aws.rds`, `AWS/ElastiCache` as `aws.redis`, `Shop/Orders` as `aws.shop.orders`."""
    parts = [_OTHER.sub("_", part.lower()).strip("_") for part in namespace.split("/")]
    parts = [part for part in parts if part and part != "aws"]
    return _FAMILIES.get(namespace) or ".".join(["aws", *parts])


def metric_name(namespace: str, metric: str, statistic: str, usual: str) -> str:
    """The name to emit: that of the usual statistic has no suffix, others have theirs, such as `.maximum` or `.p99`."""
    name = f"{family(namespace)}.{_VERBATIM.get((namespace, metric)) or snake(metric)}"
    return name if statistic == usual else f"{name}.{snake(statistic)}"


def dimension_keys(keys: Iterable[str]) -> Iterator[str]:
    """The tag keys of dimensions: in lower case as Datadog's AWS integration has them, and the strategy's."""
    for key in keys:
        yield key.lower()
        if key in _ALSO:
            yield _ALSO[key]


def dimension_tags(dimensions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The tags of dimensions."""
    for key, value in dimensions:
        for tag in dimension_keys((key,)):
            yield f"{tag}:{value}"


def resource_tag(key: str, value: str) -> str:
    """A resource's tag: a key cannot have a colon here."""
    clean = key.replace(":", "_")
    return f"{clean}:{value}" if value else clean
