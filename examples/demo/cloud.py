"""An AWS for the demo: moto's emulator in a process of its own, with a database, a cache, queues and their figures.

`python examples/demo/cloud.py PORT` serves until its standard input ends. Figures of the last minutes are there before
it answers; from then on each minute brings new ones, those of the queues from what really happens to them.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_CONFIG_FILE": os.devnull,
               "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
"""What the SDK is to find: nothing of the user's own."""
_PAST = 5  # minutes of figures that are there from the beginning
_DATABASE, _CACHE, _QUEUE, _DEAD = "shop-primary", "shop-cache-001", "payouts", "payouts-dlq"


@contextmanager
def aws_emulator(port: int) -> Iterator[bool]:
    """Start the emulator, without waiting for it; yields whether it is installed. It is gone afterwards."""
    if find_spec("moto") is None:
        yield False
        return
    command = [sys.executable, str(Path(__file__)), str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0,
        env={**os.environ, **CREDENTIALS},
    )  # fmt: skip
    try:
        yield True
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


async def settled(port: int, patience: float) -> None:
    """Wait until the emulator answers, but not for ever: what is not there yet is a finding like any other."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def sign_in() -> None:
    """Make this process somebody to the emulator, and nobody else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(CREDENTIALS)


def main(port: int) -> None:
    """Serve on the port as soon as there is something to see."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    threading.Thread(target=_end_with_the_demo, daemon=True).start()
    app = DomainDispatcherApplication(create_backend_app)  # type: ignore[no-untyped-call]
    private = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=private.serve_forever, daemon=True).start()
    account = _Account(f"http://127.0.0.1:{private.server_port}")
    account.build()
    public = make_server("127.0.0.1", port, app, threaded=True)
    threading.Thread(target=public.serve_forever, daemon=True).start()
    account.live()


def _end_with_the_demo() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


class _Account:
    """The resources, and what happens to them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._begun = time.time()
        self._traffic = {"sent": 0, "received": 0, "deleted": 0}
        self._queues: dict[str, str] = {}

    def _client(self, service: str) -> Any:
        import boto3

        return boto3.client(service, region_name=REGION, endpoint_url=self._url)

    def build(self) -> None:
        """A database, a cache, a queue with its dead letters; the figures of the last minutes."""
        self._sqs, self._cloudwatch = self._client("sqs"), self._client("cloudwatch")
        dead = self._sqs.create_queue(QueueName=_DEAD)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
        url = self._sqs.create_queue(QueueName=_QUEUE, Attributes={"RedrivePolicy": policy}, tags={"team": "payments"})[
            "QueueUrl"
        ]
        self._queues = {_QUEUE: url, _DEAD: dead}
        self._send(9)
        self._client("rds").create_db_instance(
            DBInstanceIdentifier=_DATABASE, DBInstanceClass="db.r6g.large", Engine="postgres", AllocatedStorage=100,
            MasterUsername="shop", MasterUserPassword="only-for-the-demo", Tags=[{"Key": "team", "Value": "payments"}],
        )  # fmt: skip
        self._client("elasticache").create_cache_cluster(
            CacheClusterId=_CACHE, Engine="redis", CacheNodeType="cache.r6g.large", NumCacheNodes=1
        )
        now = int(time.time()) // 60 * 60
        for minute in range(now - _PAST * 60, now, 60):
            self._put(minute)

    def live(self) -> None:
        """Send and work off messages; put figures at the end of each minute."""
        minute = int(time.time()) // 60 * 60
        while True:
            self._send(random.randint(1, 6))
            self._work(random.randint(1, 6))
            if time.time() >= minute + 60:
                self._put(minute)
                minute += 60
            time.sleep(random.uniform(0.5, 1.5))

    def _send(self, count: int) -> None:
        entries = [{"Id": str(n), "MessageBody": "a payout"} for n in range(count)]
        self._sqs.send_message_batch(QueueUrl=self._queues[_QUEUE], Entries=entries)
        self._traffic["sent"] += count

    def _work(self, most: int) -> None:
        """Receive some messages, delete most of them."""
        url = self._queues[_QUEUE]
        answer = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most, VisibilityTimeout=5)
        for message in answer.get("Messages", ()):
            self._traffic["received"] += 1
            if random.random() < 0.9:
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                self._traffic["deleted"] += 1

    def _put(self, minute: int) -> None:
        """The figures of a minute."""
        wave = math.sin(minute / 900)
        self._put_all("AWS/RDS", {"DBInstanceIdentifier": _DATABASE}, minute, _database(wave))
        self._put_all("AWS/ElastiCache", {"CacheClusterId": _CACHE}, minute, _cache(wave))
        for name in self._queues:
            self._put_all("AWS/SQS", {"QueueName": name}, minute, self._figures(name))
        self._traffic = dict.fromkeys(self._traffic, 0)

    def _put_all(self, namespace: str, dimensions: dict[str, str], minute: int, figures: dict[str, float]) -> None:
        where = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        data = [
            {"MetricName": name, "Dimensions": where, "Timestamp": minute, "Value": round(value, 3)}
            for name, value in figures.items()
        ]
        self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)

    def _figures(self, queue: str) -> dict[str, float]:
        known = self._sqs.get_queue_attributes(QueueUrl=self._queues[queue], AttributeNames=["All"])["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                 "ApproximateNumberOfMessagesDelayed")  # fmt: skip
        visible, in_flight, delayed = (int(known[name]) for name in names)
        figures: dict[str, float] = {
            "ApproximateNumberOfMessagesVisible": visible,
            "ApproximateNumberOfMessagesNotVisible": in_flight,
            "ApproximateNumberOfMessagesDelayed": delayed,
            "ApproximateAgeOfOldestMessage": random.randint(1, 20) if visible else 0,
        }
        if queue == _QUEUE:
            figures |= {
                "NumberOfMessagesSent": self._traffic["sent"],
                "NumberOfMessagesReceived": self._traffic["received"],
                "NumberOfMessagesDeleted": self._traffic["deleted"],
            }
        return figures


def _database(wave: float) -> dict[str, float]:
    return {
        "CPUUtilization": 38 + 20 * wave + random.uniform(-3, 3),
        "DatabaseConnections": round(42 + 12 * wave),
        "FreeableMemory": 5.5e9 - 4e8 * wave,
        "FreeStorageSpace": 6.1e10 - random.uniform(0, 1e8),
        "ReadIOPS": 220 + 90 * wave + random.uniform(0, 20),
        "WriteIOPS": 140 + 60 * wave + random.uniform(0, 20),
        "ReadLatency": 0.0011 + random.uniform(0, 0.0004),
        "WriteLatency": 0.0019 + random.uniform(0, 0.0006),
        "ReadThroughput": 4.1e6 + 1e6 * wave,
        "WriteThroughput": 2.3e6 + 8e5 * wave,
        "DiskQueueDepth": 0.4 + random.uniform(0, 0.3),
        "SwapUsage": 0,
        "BurstBalance": 98 + wave,
    }


def _cache(wave: float) -> dict[str, float]:
    hits = round(9000 + 3000 * wave + random.uniform(0, 200))
    return {
        "CPUUtilization": 7 + 3 * wave + random.uniform(0, 1),
        "EngineCPUUtilization": 12 + 5 * wave + random.uniform(0, 1),
        "DatabaseMemoryUsagePercentage": 61 + 4 * wave,
        "CurrConnections": round(31 + 6 * wave),
        "Evictions": 0,
        "CacheHits": hits,
        "CacheMisses": round(hits * random.uniform(0.03, 0.06)),
        "ReplicationLag": 0,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
