"""What the statsd listener takes: values per second without loss at the socket, on one core; the sender has the other.

Half counts, a quarter gauges, an eighth each histograms and distributions with values that never repeat, 1,000 series
with three tags. The listener hands its aggregates to nobody; what that costs a sink is another bench's figure.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from common import report

from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette_checks.statsd import Statsd, StatsdConfig

SERIES, FULL, SECONDS = 1_000, 1_432, 12.0
TARGET = 250_000
_TICK = 0.001


def lines(number: int) -> Iterator[bytes]:
    """As many metrics of 1,000 series, in random order."""
    source = random.Random(9)
    kinds = "ccccgghd"
    series = [
        (f"payments.requests.{n % 50}", kinds[n % 8], f"env:prod,service:api-{n % 7},endpoint:/v1/pay/{n}")
        for n in range(SERIES)
    ]
    for name, kind, tags in source.choices(series, k=number):
        value = "1" if kind == "c" else f"{source.lognormvariate(3, 1):.3f}"
        yield f"{name}:{value}|{kind}|#{tags}".encode()


def packed(metrics: Iterator[bytes]) -> list[tuple[bytes, int]]:
    """Full datagrams, and how many metrics each has."""
    made, lines_, size = [], [], 0
    for line in metrics:
        if size + len(line) > FULL:
            made.append((b"\n".join(lines_), len(lines_)))
            lines_, size = [], 0
        lines_.append(line)
        size += len(line) + 1
    return made


def send(
    line: Connection, port: int, datagrams: list[tuple[bytes, int]], rate: float, seconds: float, core: int
) -> None:
    """Send at an even pace, and say how many metrics that were. A process of its own."""
    os.sched_setaffinity(0, {core})
    take_precedence()
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", port))
    begun, sent, place = time.perf_counter(), 0, 0
    while (now := time.perf_counter() - begun) < seconds:
        due = now * rate
        while sent < due:
            packet, number = datagrams[place]
            place = (place + 1) % len(datagrams)
            out.send(packet)
            sent += number
        time.sleep(_TICK)
    out.close()
    line.send(sent)


def take_precedence() -> None:
    """One core means a whole one, whatever else runs on this machine; where that is allowed."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def serve(line: Connection, core: int) -> None:
    """The listener, in a process of its own."""
    os.sched_setaffinity(0, {core})
    take_precedence()
    config = StatsdConfig.model_validate({"name": "bench", "listen": "127.0.0.1:0"})
    check, taken = Statsd(config), {"values": 0, "dropped": 0, "malformed": 0}

    async def flush(batch: Batch) -> None:
        for sample in batch.samples:
            name = sample.name.removeprefix("vedette.statsd.").removeprefix("socket.")
            if name in taken and sample.name != "vedette.statsd.dropped":
                taken[name] += sample.value  # type: ignore[operator]

    async def main() -> None:
        await check.open()
        channel = Channel("statsd/bench", "statsd", Statsd.metrics, (), ("instance:bench",), open_names=True)
        task = asyncio.create_task(check.serve(Emit(channel, time.time(), flush, time.time)))
        line.send(check.port)
        begun = time.process_time()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(line.fileno(), ended.set)
        await ended.wait()
        task.cancel()
        await asyncio.wait([task])
        line.send({**taken, "cpu": time.process_time() - begun})
        await check.close()

    gc.freeze()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def measure(datagrams: list[tuple[bytes, int]], rate: float, seconds: float = SECONDS) -> dict[str, float]:
    """Send at a rate; returns what came, was lost, and the listener's CPU seconds."""
    cores, spawn = sorted(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")
    here, there = multiprocessing.Pipe()
    listener = spawn.Process(target=serve, args=(there, cores[0]))
    listener.start()
    port = here.recv()
    near, far = multiprocessing.Pipe()
    sender = spawn.Process(target=send, args=(far, port, datagrams, rate, seconds, cores[-1]))
    sender.start()
    sent = near.recv()
    here.send("end")
    found: dict[str, float] = here.recv()
    listener.join()
    sender.join()
    return {**found, "sent": sent, "rate": sent / seconds}


def main() -> None:
    """Both ways: full datagrams, and one metric each."""
    full = packed(lines(200_000))
    alone = [(line, 1) for line in lines(200_000)]
    steady = measure(full, TARGET)
    print(f"full datagrams: {json.dumps(steady)}", file=sys.stderr)
    rows = [
        ("metrics in full datagrams: lost of 250,000/s for 12 s", steady["sent"] - steady["values"], "metrics", "0"),
        ("  of one core for that", steady["cpu"] / SECONDS * 100, "%", ""),
        ("  CPU of one metric", steady["cpu"] / steady["values"] * 1e9, "ns", "< 4000"),
        ("  metrics that one core takes", steady["values"] / steady["cpu"], "1/s", "250000"),
    ]
    best, single = 0.0, dict[str, float]()
    for rate in (20_000, 40_000, 60_000, 80_000, 100_000, 120_000, 150_000, 180_000, 210_000):
        found = measure(alone, rate, 4.0)
        print(f"one metric a datagram: {json.dumps(found)}", file=sys.stderr)
        single = single or found
        if found["values"] < found["sent"] or found["rate"] < 0.9 * rate:
            break
        best, single = found["rate"], found
    rows += [
        ("one metric a datagram: the highest rate tried without loss", best, "1/s", ""),
        ("  CPU of one metric", single["cpu"] / single["values"] * 1e9, "ns", ""),
        ("  metrics that one core takes", single["values"] / single["cpu"], "1/s", ""),
    ]
    report(*rows)


if __name__ == "__main__":
    main()
