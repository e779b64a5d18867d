"""CPU time of a whole run (schedule aside) against the bare client doing the same commands, in turns."""

from __future__ import annotations

import asyncio
import gc
import socket
import statistics
import time
from pathlib import Path

from common import PASSWORD, redis_options, report, server, write_conf
from redis.asyncio import Redis

from vedette.agent import Agent
from vedette.config import load
from vedette.plugins import Registry
from vedette.state import StateStore

ROUNDS, RUNS = 9, 200


async def measure(folder: Path, port: int) -> tuple[float, float, float]:
    """Medians of µs a run, of µs a bare round trip, and the samples of a run."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    conf = write_conf(
        folder,
        agent={"sinks": [{"type": "dogstatsd", "host": "127.0.0.1", "port": receiver.getsockname()[1]}]},
        redis={"instances": [redis_options(port, round_trip=False)]},
    )
    configuration = await asyncio.to_thread(load, conf, Registry())
    state = StateStore(folder / "state")
    agent = Agent(configuration, state, {})
    loop = asyncio.get_running_loop()
    agent._start_sinks(loop)
    (runner,) = agent._runners
    bare = Redis(host="127.0.0.1", port=port, password=PASSWORD)
    bare.set_response_callback("INFO", lean)
    whole, client, samples = [], [], 0
    gc.collect()
    gc.freeze()  # as Agent.run does
    for _ in range(ROUNDS):
        whole.append(await _cost(_run(runner)))
        client.append(await _cost(_bare(bare)))
    samples = len((await runner.run()).samples)
    await bare.aclose()
    await runner.stop()
    await agent._flush_sinks(2)
    await state.close()
    receiver.close()
    return statistics.median(whole), statistics.median(client), samples


def lean(reply: bytes, **_: object) -> dict[str, str]:
    """The least that makes INFO's reply usable: what anybody would write who does without the client's slow parser."""
    return dict(line.split(":", 1) for line in reply.decode().split("\r\n") if ":" in line)


async def _cost(work: object) -> float:
    before = time.process_time()
    await work  # type: ignore[misc]
    return (time.process_time() - before) / RUNS * 1e6


async def _run(runner: object) -> None:
    for _ in range(RUNS):
        await runner.run()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


async def _bare(client: Redis) -> None:
    for _ in range(RUNS):
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.ping()
            pipeline.info()
            await pipeline.execute()


def main() -> None:
    """Print the figures."""
    rows = []
    with server() as (folder, port):
        for name, factory in _loops():
            with asyncio.Runner(loop_factory=factory) as loop:
                whole, client, samples = loop.run(measure(folder, port))
            allowed = 60 + 3 * samples
            rows += [
                (f"redis run with dogstatsd, {name}", whole, "us", ""),
                (f"the bare client's PING and INFO, lean callback, {name}", client, "us", ""),
                (f"over the bare client, {samples} samples, {name}", whole - client, "us", f"<= {allowed}"),
            ]
    report(*rows)


def _loops() -> list[tuple[str, object]]:
    import uvloop

    return [("asyncio", None), ("uvloop", uvloop.new_event_loop)]


if __name__ == "__main__":
    main()
