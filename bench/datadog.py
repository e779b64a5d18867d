"""What 20,000 samples a second through the durable queue to Datadog's intake cost: CPU, memory, disk.

200 batches a second of 100 samples, 2,000 series with six tags, half gauges, the rest totals, counts and histograms.
The intake is a process of its own on the other core; it reads and answers 202.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from common import report

from vedette.metrics import Batch, Kind, Sample
from vedette.outbox import Outbox, supervise
from vedette.sink import Home

RATE, SECONDS, BATCH = 20_000, 20.0, 100
_KINDS = (Kind.GAUGE, Kind.COUNTER, Kind.GAUGE, Kind.COUNT, Kind.GAUGE, Kind.RATE, Kind.GAUGE, Kind.HISTOGRAM)


def serve(line: Connection, core: int) -> None:
    """An intake that takes everything. A process of its own."""
    from aiohttp import web

    os.sched_setaffinity(0, {core})
    seen = {"requests": 0, "bytes": 0}

    async def handle(request: web.Request) -> web.Response:
        seen["requests"] += 1
        seen["bytes"] += len(await request.read())
        return web.json_response({}, status=202)

    async def main() -> None:
        app = web.Application(client_max_size=64_000_000)
        app.router.add_route("*", "/{rest:.*}", handle)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        line.send(runner.addresses[0][1])
        await asyncio.to_thread(line.recv)
        await runner.cleanup()
        line.send(seen)

    asyncio.run(main())


def batches() -> list[list[tuple[str, Kind, tuple[str, ...]]]]:
    """Names, kinds and tags of twenty instances, a hundred series each."""
    made = []
    for one in range(20):
        tags = tuple(sorted((f"instance:i-{one}", "environment:prod", "team:payments", f"server:10.0.0.{one}",
                             "region:eu-central-1", "service:shop")))  # fmt: skip
        made.append([(f"bench.part{n // 10}.metric_{n}", _KINDS[n % 8], tags) for n in range(BATCH)])
    return made


def resident() -> float:
    """MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


async def feed(outbox: Outbox, seconds: float) -> int:
    """Put batches at an even pace; returns how many samples."""
    series, begun, sent = batches(), time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        while sent * BATCH < now * RATE:
            wall = time.time()
            rows = series[sent % len(series)]
            samples = tuple(Sample(name, kind, sent + place * 0.37, tags)
                            for place, (name, kind, tags) in enumerate(rows))  # fmt: skip
            outbox.put(Batch(f"bench/{sent % len(series)}", "bench", wall, 1.0, "bench-host", samples))
            sent += 1
        await asyncio.sleep(0.005)
    return sent * BATCH


async def measure(port: int, folder: Path, sink: Any) -> dict[str, float]:
    """CPU seconds and memory of the sink at work; the making of the batches is measured alone and taken off."""
    nobody = Outbox(1)
    before = time.process_time()
    await feed(nobody, 5.0)
    making = (time.process_time() - before) / 5.0
    gc.collect()
    base, most = resident(), 0.0
    outbox = Outbox(sink.config.queue, durable=True)
    task = asyncio.create_task(supervise(sink, outbox))
    before = time.process_time()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident())
            await asyncio.sleep(0.1)

    watcher = asyncio.create_task(watch())
    number = await feed(outbox, SECONDS)
    cpu = (time.process_time() - before) / SECONDS - making
    watcher.cancel()
    outbox.close()
    await task
    return {"cpu": cpu, "base": base, "most": most, "samples": number, "dropped": outbox.dropped + sink.lost,
            "held": sink.held, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}  # fmt: skip


def main() -> None:
    """Print the figures."""
    cores, spawn = sorted(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")
    here, there = multiprocessing.Pipe()
    server = spawn.Process(target=serve, args=(there, cores[-1]))
    server.start()
    port = here.recv()
    os.sched_setaffinity(0, {cores[0]})
    gc.freeze()
    base = resident()
    from vedette.sinks.datadog import DatadogConfig, DatadogSink

    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        sink = DatadogSink(
            DatadogConfig.model_validate(
                {"type": "datadog", "api_key": "0" * 32, "base_url": f"http://127.0.0.1:{port}"}
            )
        )
        sink.home = Home(Path(name), "bench-host")
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            found = runner.run(measure(port, Path(name), sink))
    here.send("end")
    seen = here.recv()
    server.join()
    print(json.dumps({**found, **seen, "before": base}), file=sys.stderr)
    report(
        ("datadog: CPU at 20,000 samples/s through the durable queue", found["cpu"] * 100, "% of core", "<= 50"),
        ("  of one sample", found["cpu"] / RATE * 1e6, "us", ""),
        ("  memory over the base", found["most"] - base, "MB", "<= 40"),
        ("  samples lost", found["dropped"] + found["held"], "samples", "0"),
        ("  on the wire, of one sample", seen["bytes"] / found["samples"], "B", ""),
    )


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
