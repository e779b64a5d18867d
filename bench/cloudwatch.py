"""The cloudwatch check with 2,000 series: processor time of a run, how long the loop is kept, memory.

The other side is a process of its own that answers as CloudWatch does. `the SDK alone` is the same four requests over
aiobotocore as it is, which parses the answers by its own means.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil
from common import report

SERIES, ROUNDS, START = 2000, 7, 1_795_525_500.0
_TIME = re.compile(rb"(?:Start|End)Time=([^&]*)")


def serve() -> None:
    """Answer every GetMetricData with a point for each minute of its window, 500 times."""
    from urllib.parse import unquote_to_bytes

    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        start, end = (datetime.fromisoformat(unquote_to_bytes(each).decode()) for each in _TIME.findall(body))
        times = range(int(start.timestamp()), int(end.timestamp()), 60)
        stamps = "".join(f"<member>{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}</member>" for at in times)
        values = "".join(f"<member>{at % 1000 + 0.25}</member>" for at in times)
        results = "".join(
            f"<member><Timestamps>{stamps}</Timestamps><StatusCode>Complete</StatusCode><Values>{values}</Values>"
            f"<Label>CPUUtilization</Label><Id>q{n}</Id></member>"
            for n in range(500)
        )
        head = '<GetMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><GetMetricDataResult>'
        tail = "</GetMetricDataResult><ResponseMetadata/></GetMetricDataResponse>"
        return web.Response(
            text=f"{head}<MetricDataResults>{results}</MetricDataResults>{tail}", content_type="text/xml"
        )

    async def main() -> None:
        app = web.Application(client_max_size=10 << 20)
        app.router.add_post("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    with suppress(KeyboardInterrupt):
        asyncio.run(main())


class Steps:
    """The longest step of the agent's loop: processor time of its thread, so that a busy machine is not in it."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.thread_time() - begun)


async def measure(url: str) -> None:
    """Runs a minute apart, by the clock of the check."""
    before = psutil.Process().memory_info().rss
    from vedette.emit import Channel, Emit
    from vedette_checks.cloudwatch import CloudWatch, CloudWatchConfig

    class Clocked(CloudWatch):
        at = START

        def now(self) -> float:
            return self.at

    jobs = [
        {"namespace": "AWS/RDS", "metric": "CPUUtilization", "dimensions": {"DBInstanceIdentifier": f"db-{n}"}}
        for n in range(SERIES)
    ]
    config = CloudWatchConfig.model_validate(
        {"name": "bench", "region": "eu-central-1", "endpoint_url": url, "static": jobs, "timeout": "1m"}
    )
    state: dict[str, Any] = {}
    check = Clocked(config, state)
    channel = Channel("cloudwatch/bench", "cloudwatch", CloudWatch.declare(config), CloudWatch.statuses)
    steps, used = Steps(), []
    watcher = asyncio.create_task(steps.watch())
    for n in range(ROUNDS + 2):
        if n == 2:
            steps.worst = 0.0
        begun = time.process_time()
        emit = Emit(channel, check.at)
        await check.run(emit)
        batch = emit.batch()
        used.append(time.process_time() - begun)
        state.update(batch.commits)
        check.at += 60
        await asyncio.sleep(0.01)
    watcher.cancel()
    gc.collect()
    memory = psutil.Process().memory_info().rss - before
    await check.close()
    alone = await sdk_alone(url)
    cpu = statistics.median(used[2:])
    report(
        (f"a run with {SERIES} series, CPU", cpu * 1000, "ms", ""),
        ("  the same four requests, the SDK alone", alone * 1000, "ms", ""),
        ("  longest that the agent's loop was kept, CPU", steps.worst * 1000, "ms", "<= 50"),
        ("  memory, the SDK's 35 MB among it", memory / 1e6, "MB", ""),
    )


async def sdk_alone(url: str) -> float:
    """Processor seconds."""
    from aiobotocore.session import AioSession

    queries = [
        {
            "Id": f"q{n}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/RDS",
                    "MetricName": "CPUUtilization",
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": f"db-{n}"}],
                },
                "Period": 60,
                "Stat": "Average",
            },
        }
        for n in range(500)
    ]
    async with AioSession().create_client("cloudwatch", region_name="eu-central-1", endpoint_url=url) as client:
        begun = time.process_time()
        for _ in range(SERIES // 500):
            await client.get_metric_data(MetricDataQueries=queries, StartTime=START - 780, EndTime=START - 120)
        return time.process_time() - begun


def main() -> None:
    """With `serve` the other side."""
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            asyncio.run(measure(f"http://127.0.0.1:{int(server.stdout.readline())}"))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
