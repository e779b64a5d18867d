"""1,000 redis instances at 1 s on one core: how late runs begin, what is skipped, what it costs."""

from __future__ import annotations

import asyncio
import socket
import time

from common import redis_options, report, server, write_conf

from vedette.agent import Agent
from vedette.cli.common import run_loop
from vedette.config import load
from vedette.plugins import Registry
from vedette.state import StateStore

INSTANCES, SECONDS, SETTLE = 1000, 30.0, 5.0


def main() -> None:
    """Print the figures."""
    with server() as (folder, port):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        one = redis_options(port, interval="1s", round_trip=False)
        conf = write_conf(
            folder,
            agent={
                "sinks": [
                    {"type": "dogstatsd", "host": "127.0.0.1", "port": receiver.getsockname()[1], "queue": 200000}
                ]
            },
            redis={"defaults": one, "instances": [{"name": f"r{n}"} for n in range(INSTANCES)]},
        )
        begun = time.process_time()
        configuration = load(conf, Registry())
        loading = time.process_time() - begun
        agent = Agent(configuration, StateStore(folder / "state"), {})
        late: list[float] = []
        started = time.monotonic()
        runners = {runner.instance.id: runner for runner in agent._runners}

        def note(batch: object) -> None:
            runner = runners.get(batch.instance)  # type: ignore[attr-defined]
            if runner is not None and time.monotonic() - started > SETTLE:
                late.append(runner.vitals.lateness)

        agent._on_batch = note
        before = time.process_time()
        run_loop(_run(agent))
        used = (time.process_time() - before) / SECONDS
        receiver.close()
    late.sort()
    skipped = sum(runner.vitals.skipped for runner in runners.values())
    failed = sum(runner.vitals.failures for runner in runners.values())
    report(
        ("loading and validating 1,000 instances", loading, "s CPU", ""),
        (f"runs seen in {SECONDS - SETTLE:.0f} s", len(late), "runs", f"~ {INSTANCES * (SECONDS - SETTLE):.0f}"),
        ("lateness, median", late[len(late) // 2] * 1000, "ms", ""),
        ("lateness, p99", late[int(len(late) * 0.99)] * 1000, "ms", "<= 50"),
        ("skipped ticks", skipped, "", "0"),
        ("failed runs", failed, "", "0"),
        ("share of one core", used * 100, "%", ""),
    )


async def _run(agent: Agent) -> None:
    await agent.run(duration=SECONDS)
    await asyncio.sleep(0)


if __name__ == "__main__":
    main()
