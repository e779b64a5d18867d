"""What the status page costs: memory, CPU while nobody looks, and CPU of an update with 1,000 instances."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import report, write_conf

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from status.parts import NOW, Actor, batch, vitals, wave  # type: ignore[import-not-found]
from vedette.config import HttpConfig
from vedette.status.history import MOST_VALUES, POINTS, History
from vedette.status.service import StatusPage

INSTANCES, ROUNDS, IDLE, SETTLED = 1000, 30, 5.0, 8.0


def resident(pid: int | str = "self") -> float:
    """MB of VmRSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def agent(folder: Path, **http: object) -> float:
    """MB of an agent with one host instance after some seconds, its page looked at if it has one."""
    write_conf(folder, agent={"sinks": [{"type": "file", "path": "/dev/null"}], **http}, host={"instances": [{}]})
    environ = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    running = subprocess.Popen(
        [sys.executable, "-m", "vedette", "run"], cwd=folder, env=environ, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    try:
        if http:
            url = next(line for line in running.stderr if "serving" in line).split()[-1]
            for path in ("", "instance/host/host", "metrics", "api/status"):
                look = f"import httpx; httpx.get('{url}{path}', trust_env=False).raise_for_status()"
                subprocess.run([sys.executable, "-c", look], check=True)
        time.sleep(SETTLED)
        return resident(running.pid)
    finally:
        running.terminate()
        running.communicate()


async def updates() -> tuple[float, float, float]:
    """CPU in ms of an update with every row changed and of the whole page, and the share of a core while idle."""
    actor = Actor(*(vitals(f"redis/r{number}") for number in range(INSTANCES)))
    page = StatusPage(actor, HttpConfig(listen="127.0.0.1:0"), INSTANCES)
    await page.start()
    before = time.process_time()
    await asyncio.sleep(IDLE)
    idle = (time.process_time() - before) / IDLE
    board, hub = page._page.board, page._page.hub
    board._clock = iter(range(10, 10_000)).__next__  # every look is a fresh one
    board.refresh()
    taken, whole = [], []
    for number in range(ROUNDS):
        for each in actor.instances:
            each.runs += 1
            each.last_run = each.next_run = NOW + number
        known, begun = board.version, time.process_time()
        board.refresh()
        message = hub._message(known)
        taken.append(time.process_time() - begun)
        assert len(message) > 50 * INSTANCES
        begun = time.process_time()
        await page._page._index(None)  # type: ignore[arg-type]
        whole.append(time.process_time() - begun)
    await page.stop()
    return statistics.median(taken) * 1000, statistics.median(whole) * 1000, idle


def remembering() -> tuple[float, float]:
    """Microseconds that remembering one batch takes, and MB of 1,000 instances' history."""
    samples = [wave(f"metric.{number}", number, redis_port="6379") for number in range(51)]
    names = [f"redis/r{number}" for number in range(INSTANCES)]
    gc.collect()
    before = resident()
    history = History(INSTANCES)
    batches = [batch(name, NOW, *samples[:MOST_VALUES]) for name in names]
    for one in batches:
        history.add(one)
    used = resident() - before
    one = batch(names[0], NOW, *samples)
    begun = time.process_time()
    for _ in range(POINTS * 100):
        history.add(one)
    return (time.process_time() - begun) / (POINTS * 100) * 1e6, used


def main() -> None:
    """Print the figures."""
    microseconds, history = remembering()
    update, whole, idle = asyncio.run(updates())
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        without = agent(Path(name))
        with_page = agent(Path(name), http={"listen": "127.0.0.1:0"})
    report(
        ("RSS of the page, one instance, looked at", with_page - without, "MB", "<= 12"),
        ("RSS of the history of 1,000 instances", history, "MB", "~ 4"),
        ("remembering one batch of 51 samples", microseconds, "us CPU", ""),
        ("while nobody looks", idle * 100, "% core", "0"),
        ("an update with 1,000 changed instances", update, "ms CPU", "<= 50"),
        ("the whole page with 1,000 instances", whole, "ms CPU", ""),
    )


if __name__ == "__main__":
    main()
