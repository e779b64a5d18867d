"""What is worth knowing of RDS, ElastiCache and SQS: metrics, their usual statistic, and how their resources are found.

Sources: the user guides' lists of CloudWatch metrics of Amazon RDS, ElastiCache and SQS.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """One metric of a preset.

    Attributes:
        metric: CloudWatch's name.
        statistic: the one that its plain name stands for.
        unit: in Datadog's words.
        help: one sentence for people.
        per: the second unit of a rate.
    """

    metric: str
    statistic: str
    unit: str
    help: str
    per: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """One service.

    Attributes:
        namespace: CloudWatch's.
        dimensions: sets of dimension names; of one resource only the first set counts that it has.
        resource_types: what the tagging API calls its resources.
        metrics: what is asked.
    """

    namespace: str
    dimensions: tuple[tuple[str, ...], ...]
    resource_types: tuple[str, ...]
    metrics: tuple[Known, ...]


_RDS = Preset(
    "AWS/RDS",
    (("DBInstanceIdentifier",),),
    ("rds:db",),
    (
        Known("CPUUtilization", "Average", "percent", "CPU in use."),
        Known("DatabaseConnections", "Average", "connection", "Connections of clients."),
        Known("FreeableMemory", "Average", "byte", "Memory that could be had."),
        Known("FreeStorageSpace", "Average", "byte", "Storage that is free."),
        Known("ReadIOPS", "Average", "operation", "Reads of the disk.", "second"),
        Known("WriteIOPS", "Average", "operation", "Writes of the disk.", "second"),
        Known("ReadLatency", "Average", "second", "Time that a read takes."),
        Known("WriteLatency", "Average", "second", "Time that a write takes."),
        Known("ReadThroughput", "Average", "byte", "Bytes read from the disk.", "second"),
        Known("WriteThroughput", "Average", "byte", "Bytes written to the disk.", "second"),
        Known("ReplicaLag", "Average", "second", "How far a read replica is behind."),
        Known("DiskQueueDepth", "Average", "operation", "Reads and writes that wait for the disk."),
        Known("SwapUsage", "Average", "byte", "Swap in use."),
        Known("BurstBalance", "Average", "percent", "Burst credits left (gp2 volumes)."),
    ),
)
_ELASTICACHE = Preset(
    "AWS/ElastiCache",
    (("CacheClusterId",), ("CacheClusterId", "CacheNodeId")),
    ("elasticache:cluster",),
    (
        Known("CPUUtilization", "Average", "percent", "CPU of the host in use."),
        Known("EngineCPUUtilization", "Average", "percent", "CPU in use by the engine's thread."),
        Known("DatabaseMemoryUsagePercentage", "Average", "percent", "Memory in use, of what may be used."),
        Known("CurrConnections", "Average", "connection", "Connections of clients."),
        Known("Evictions", "Sum", "key", "Keys evicted for want of memory, in the period."),
        Known("CacheHits", "Sum", "key", "Keys that were found, in the period."),
        Known("CacheMisses", "Sum", "key", "Keys that were not found, in the period."),
        Known("ReplicationLag", "Average", "second", "How far a replica is behind."),
    ),
)
_SQS = Preset(
    "AWS/SQS",
    (("QueueName",),),
    ("sqs",),
    (
        Known("ApproximateNumberOfMessagesVisible", "Average", "message", "Messages that wait."),
        Known("ApproximateNumberOfMessagesNotVisible", "Average", "message", "Messages being worked on."),
        Known("ApproximateNumberOfMessagesDelayed", "Average", "message", "Messages that are not to be seen yet."),
        Known("ApproximateAgeOfOldestMessage", "Maximum", "second", "Age of the oldest message that waits."),
        Known("NumberOfMessagesSent", "Sum", "message", "Messages sent, in the period."),
        Known("NumberOfMessagesReceived", "Sum", "message", "Messages received, in the period."),
        Known("NumberOfMessagesDeleted", "Sum", "message", "Messages deleted, in the period."),
    ),
)
PRESETS = {"rds": _RDS, "elasticache": _ELASTICACHE, "sqs": _SQS}
_KNOWN = {(preset.namespace, known.metric): known for preset in PRESETS.values() for known in preset.metrics}


def known(namespace: str, metric: str) -> Known:
    """What is known of a metric; of others, that their average is usual."""
    return _KNOWN.get((namespace, metric)) or Known(metric, "Average", "", f"{metric} of {namespace}.")
