"""The demo's AWS: its own emulator and configuration; the strategy's names, with the emulator's values and times."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cli.process import vedette
from servers import free_port, until
from test_acceptance import rows_of

DEMO = Path(__file__).parent.parent / "examples" / "demo"
NAMES = {
    "aws.rds.cpu_utilization": ("AWS/RDS", "CPUUtilization", "Average"),
    "aws.rds.database_connections": ("AWS/RDS", "DatabaseConnections", "Average"),
    "aws.rds.read_iops": ("AWS/RDS", "ReadIOPS", "Average"),
    "aws.rds.write_iops": ("AWS/RDS", "WriteIOPS", "Average"),
    "aws.redis.cpu_utilization": ("AWS/ElastiCache", "CPUUtilization", "Average"),
    "aws.redis.memory_utilization": ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "Average"),
    "aws.redis.cache_hits": ("AWS/ElastiCache", "CacheHits", "Sum"),
    "aws.redis.cache_misses": ("AWS/ElastiCache", "CacheMisses", "Sum"),
    "aws.sqs.messages_visible": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Average"),
    "aws.sqs.messages_in_flight": ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "Average"),
}
RESOURCES = {
    "AWS/RDS": ("DBInstanceIdentifier", "shop-primary"),
    "AWS/ElastiCache": ("CacheClusterId", "shop-cache-001"),
    "AWS/SQS": ("QueueName", "payouts"),
}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.syspath_prepend(str(DEMO))
    from cloud import aws_emulator

    port = free_port()
    with aws_emulator(port) as installed:
        assert installed
        until(lambda: answers(port), "the emulator", 60)
        yield port
    sys.modules.pop("cloud")


def answers(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def in_cloudwatch(port: int, name: str, start: float, end: float) -> dict[float, float]:
    """What the emulator has of a metric, by time."""
    namespace, metric, statistic = NAMES[name]
    dimension, value = RESOURCES[namespace]
    client = boto3.client(
        "cloudwatch",
        region_name="eu-central-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="demo",
        aws_secret_access_key="demo",
    )
    try:
        answer = client.get_metric_statistics(
            Namespace=namespace, MetricName=metric, Dimensions=[{"Name": dimension, "Value": value}],
            StartTime=start, EndTime=end + 1, Period=60, Statistics=[statistic],
        )  # fmt: skip
    finally:
        client.close()
    return {point["Timestamp"].timestamp(): point[statistic] for point in answer["Datapoints"]}


def test_every_metric_of_the_strategy_by_cloudwatch_comes_out_of_the_demo(emulator: int, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("cloudwatch.yaml", "sqs.yaml"):
        (tmp_path / "conf.d" / name).write_text(
            (DEMO / "conf.d" / name).read_text().replace("interval: 5s", "interval: 30s")
        )
    (tmp_path / "conf.d" / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\n")
    done = vedette(
        "run", "--once", cwd=tmp_path, timeout=120, DEMO_AWS_PORT=str(emulator), AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo", AWS_EC2_METADATA_DISABLED="true", ENVIRONMENT="demo",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["name"], []).append(row)
    wanted = [row for row in rows_of("strategy-metrics.csv") if row["emitted_by"] == "cloudwatch"]
    assert {row["metric"] for row in wanted} == set(NAMES)
    for row in wanted:
        mine = [
            sample for sample in found[row["metric"]]
            if not row["tags"] or f"{row['tags']}:payouts" in sample["tags"]
        ]  # fmt: skip
        assert {sample["kind"] for sample in mine} == {row["kind"]}
        sent = {sample["time"]: sample["value"] for sample in mine}
        assert len(sent) >= 5
        assert sent == pytest.approx(in_cloudwatch(emulator, row["metric"], min(sent), max(sent)))
    live = [row for row in found["sqs.messages_visible"] if "queue:payouts" in row["tags"]]
    assert live[0]["value"] >= 0
    (status,) = [row for row in found["sqs.queue"] if "queue:payouts" in row["tags"]]
    assert status["status"] == "ok"
