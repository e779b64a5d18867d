"""An intake that fails in every way while the agent is killed again and again: nothing is lost that counts as taken."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cli.process import COMMAND, environ
from servers import free_port
from sinks.intake import HOUR, KEY, Intake, intake
from vedette.kit import Spool

pytestmark = pytest.mark.anyio

_CHECKS = '''
import asyncio
from vedette import CheckConfig, Kind, Listener, Metric, hookimpl

class Options(CheckConfig):
    start: float = 0.0
    points: int = 0
    edge: float = 0.0
    step: int = 1

class Ticks(Listener[Options]):
    """One point of simulated time after the other, each until it is safe."""
    name = "ticks"
    metrics = (
        Metric("ticks.level", Kind.GAUGE), Metric("ticks.hits", Kind.COUNT), Metric("ticks.edge", Kind.GAUGE)
    )

    async def serve(self, emit):
        number = self.state.get("next", 0)
        while number < self.config.points:
            moment = self.config.start + number + (900 if number >= self.config.points // 3 else 0)
            emit.gauge("ticks.level", number, time=moment)
            emit.count("ticks.hits", number, time=moment)
            if number % self.config.step == 0:
                emit.gauge("ticks.edge", number, time=self.config.edge + number // self.config.step)
            number += 1
            emit.commit("next", number)
            await emit.flush()
            await asyncio.sleep(0.02)
        await asyncio.sleep(3600)

@hookimpl
def register_checks(register):
    register(Ticks)
'''


def install(folder: Path, name: str, text: str) -> str:
    """A check as a package; returns its PYTHONPATH."""
    site = folder / "site"
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"vedette_{name}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vedette.checks]\n{name} = vedette_{name}\n")
    return str(site)


def configure(folder: Path, url: str, **ticks: int) -> None:
    conf = folder / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(
        f'sinks:\n  - type: datadog\n    api_key: "${{env:DD_API_KEY}}"\n    base_url: {url}\n    flush: 100ms\n'
        '    timeout: 1s\n    metrics: {include: ["ticks.*"]}\n'
    )
    options = ", ".join(f"{name}: {value}" for name, value in ticks.items())
    (conf / "ticks.yaml").write_text(f"instances: [{{name: main, {options}}}]\n")


class Agent:
    """The agent as a process."""

    def __init__(self, folder: Path, site: str) -> None:
        self._folder = folder
        self._environ = environ(folder / "state", PYTHONPATH=site, DD_API_KEY=KEY)
        self.log = folder / "agent.log"

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *COMMAND, "run", "--conf", "conf.d", cwd=self._folder, env=self._environ, stdout=log, stderr=log
            )


async def misbehave(there: Intake, dice: random.Random) -> None:
    """Fail in another way every now and then."""
    ways: list[Any] = [None, None, "hang", "reset", "drip", (429, {"Retry-After": "0.1"}), (503, {}), (404, {}), "413"]
    while True:
        way = dice.choice(ways)
        there.most = 150 if way == "413" else None
        there.answer = lambda path, way=way: None if way == "413" or "validate" in path else way  # type: ignore[misc]
        await asyncio.sleep(dice.uniform(0.05, 0.6))


async def outage(folder: Path, kills: int, points: int) -> None:
    dice, port, site = random.Random(kills), free_port(), install(folder, "ticks", _CHECKS)
    # A third is over an hour old from the start; most will not be for a quarter of an hour; some will be in the middle
    # of it all, each a second later than the one before.
    begun, step = int(time.time()), max(1, points // 60)
    start, edge = begun - int(HOUR) - points // 3 - 60, begun - int(HOUR) + 12
    configure(folder, f"http://127.0.0.1:{port}", start=start, points=points, edge=edge, step=step)
    agent = Agent(folder, site)
    async with intake(port) as there:
        trouble = asyncio.create_task(misbehave(there, dice))
        for _ in range(kills):
            process = await agent.start()
            started = agent.log.stat().st_size
            while agent.log.stat().st_size == started and process.returncode is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(dice.uniform(0.05, 1.5))
            process.send_signal(signal.SIGKILL)
            await process.wait()
        trouble.cancel()
        there.answer, there.most = (lambda path: None), None
        process = await agent.start()
        fresh = range(points // 3, points)
        deadline = time.monotonic() + 60 + points / 20
        while len(there.values("ticks.level")) + len(there.values("ticks.hits")) < 2 * len(fresh):
            assert time.monotonic() < deadline, (len(there.values("ticks.level")), agent.log.read_text())
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        await process.wait()
        ended = time.time()
    wanted = {start + number + 900: number for number in fresh}
    assert there.values("ticks.level") == wanted
    assert there.values("ticks.hits") == wanted
    came, edges = there.values("ticks.edge"), {edge + one: one * step for one in range(-(-points // step))}
    assert came.items() <= edges.items()
    assert {one for one in edges if one > ended - HOUR} <= came.keys()  # whatever was still taken by then
    left, tally = settled(folder / "state" / "spool" / "datadog")
    assert (left, tally.keys()) == (0, {"EXPIRED", "SENT"})
    sent, expired = tally["SENT"] - 2 * len(fresh), tally["EXPIRED"] - 2 * (points // 3)
    assert sent + expired == len(edges)
    assert sent <= len(came)  # one that came, and of which no answer told, is counted once it is too old
    assert "Traceback" not in agent.log.read_text()


def settled(folder: Path) -> tuple[int, dict[str, int]]:
    """How many items are left in a queue, and what became of the others."""
    spool = Spool(folder, 10**9)
    spool.open()
    try:
        return spool.left, {outcome.name: number for outcome, number in spool.tally.items() if number}
    finally:
        spool.close()


async def test_every_point_that_is_still_taken_arrives_and_the_rest_is_counted(tmp_path: Path) -> None:
    await outage(tmp_path, kills=2, points=60)


@pytest.mark.soak
async def test_thirty_minutes_of_points_twenty_kills_and_an_intake_that_fails_in_every_way(tmp_path: Path) -> None:
    await outage(tmp_path, kills=20, points=1800)
